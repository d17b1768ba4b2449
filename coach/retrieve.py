"""Question + answer → passages: dense and lexical ranks fused.

Reciprocal rank fusion (Cormack, Clarke & Büttcher, SIGIR 2009) needs no score calibration between the two.
"""

from __future__ import annotations

from coach.domain import Passage
from coach.index import Index

_RRF_K = 60
_POOL = 30
# e5 reads 512 tokens: what comes after about this many characters of a query would only blur it.
_QUERY_CHARS = 420


def query_text(question: str, answer: str = "") -> str:
    return f"{question}\n{answer}".strip()[:_QUERY_CHARS]


def retrieve(index: Index, query: str, k: int = 5) -> list[Passage]:
    """The k best passages, best first; `score` is the fused score, `dense` and `lexical` say why."""
    dense = index.dense(query, _POOL)
    lexical = index.lexical(query, _POOL)
    fused: dict[str, float] = {}
    for ranking in (dense, lexical):
        for rank, (chunk, _) in enumerate(ranking, 1):
            fused[chunk.id] = fused.get(chunk.id, 0.0) + 1 / (_RRF_K + rank)
    cosines = {chunk.id: value for chunk, value in dense}
    bm25 = {chunk.id: value for chunk, value in lexical}
    best = sorted(fused, key=lambda i: (-fused[i], i))[:k]
    return [
        Passage(chunk=index.by_id[i], score=round(fused[i], 5), dense=cosines.get(i), lexical=bm25.get(i))
        for i in best
    ]
