"""Question + answer → passages: dense and lexical scores of one candidate pool, standardised and added.

Weighted sums of standardised scores keep what ranks throw away (a passage far ahead stays far ahead); they beat
reciprocal rank fusion here (Bruch, Gai & Ingber, TOIS 2023, find the same in general). Measured with
`coach eval retrieval`; the weight is flat between 0.5 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from coach.config import Settings
from coach.domain import Passage
from coach.index import Index
from coach.llm import LLM
from coach.prompts import load_prompt
from coach.text import neutralise, tokens

_POOL = 100
_RERANKED = 30  # a cross-encoder reads every pair anew: a second or so for 30 on two cores
_LEXICAL_WEIGHT = 0.8
_ADDED_CHARS = 160
# e5 reads 512 tokens: what comes after about this many characters of a query would only blur it.
_QUERY_CHARS = 420


def query_text(question: str, answer: str = "") -> str:
    return f"{question}\n{answer}".strip()[:_QUERY_CHARS]


def _standard(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    spread = (sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5
    return [(v - mean) / spread if spread > 1e-9 else 0.0 for v in values]


def retrieve(index: Index, query: str, k: int = 5, within: str | None = None) -> list[Passage]:
    """The k best passages, best first (of the root `within`); `score` is the fused score, `dense` and `lexical` say why.

    A candidate that only words found has no cosine of its own; it is ranked as the last of the dense pool. A reranker
    of the index orders the best of the pool anew.
    """
    dense = {c.id: v for c, v in index.dense(query, _POOL, within)}
    lexical = {c.id: v for c, v in index.lexical(query, _POOL, within)}
    pool = sorted(dense.keys() | lexical.keys())
    if not pool:
        return []
    floor = min(dense.values(), default=0.0)
    by_meaning = _standard([dense.get(i, floor) for i in pool])
    by_words = _standard([lexical.get(i, 0.0) for i in pool])
    fused = {i: d + _LEXICAL_WEIGHT * w for i, d, w in zip(pool, by_meaning, by_words, strict=True)}
    best = sorted(fused, key=lambda i: (-fused[i], i))
    if index.reranker:
        best = best[: max(k, _RERANKED)]
        texts = [f"{index.by_id[i].heading}\n{index.by_id[i].text}" for i in best]
        fused = dict(zip(best, index.reranker.scores(query, texts), strict=True))
        best.sort(key=lambda i: (-fused[i], i))
    return [
        Passage(chunk=index.by_id[i], score=round(fused[i], 5), dense=dense.get(i), lexical=lexical.get(i))
        for i in best[:k]
    ]


def rewrite(settings: Settings, llm: LLM, query: str) -> str:
    """The query and what the model would search for beside it: other names, the mechanism. LLMError on failure."""
    messages = load_prompt(settings.prompts, "rewrite-query").fill(query=neutralise(query))
    reply = llm.chat(messages, max_tokens=80)
    added = " ".join(line.strip(" -*·1234567890.、") for line in reply.text.splitlines())
    return query_text(query, added[:_ADDED_CHARS])


@dataclass(frozen=True, slots=True)
class Why:
    """What a passage shares with a query: words as written, concepts under whatever name, the question it answers."""

    words: tuple[str, ...]
    concepts: tuple[str, ...]
    question: str
    matched: str
    trust: str


def explain(index: Index, query: str, passage: Passage) -> Why:
    terms = index.terms
    chunk = passage.chunk
    text = f"{chunk.heading} {chunk.text}"
    shared = set(tokens(query)) & set(tokens(text))
    concepts = set(terms.concepts(query)) & set(terms.concepts(f"{text} {chunk.context}"))
    matched = chunk.context.split("\n", 1)[0]
    return Why(tuple(sorted(shared)), tuple(sorted(concepts)), chunk.question, matched, index.trust(chunk))
