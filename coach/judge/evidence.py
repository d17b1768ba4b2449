"""What embeddings and words say about a claim and an answer — and which span of the answer speaks to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coach.embed import Embedder, cosine
from coach.text import Span, sentences, term_recall, tokens, windows

# A longer answer is shown to a small judge as its sentences nearest to the rubric, in order.
MAX_JUDGED_CHARS = 480


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the answer offers for one claim.

    `similarity` is the best window's cosine, `margin` that minus the mean over windows, `whole` the whole answer's;
    `recall` the claim's words found anywhere, `span_recall` in one window. `rival` is by how much `span` is nearer
    to this claim than to any other claim it was gathered with (negative: it speaks of another one).
    """

    span: Span | None
    similarity: float
    margin: float
    whole: float
    recall: float
    span_recall: float
    rival: float = 0.0


def gather(embedder: Embedder, answer: str, claims: Sequence[str]) -> list[Evidence]:
    """Evidence for each claim. One embedding pass over the answer's windows serves all claims."""
    spans = windows(answer)
    if not spans or not claims:
        return [Evidence(None, 0.0, 0.0, 0.0, 0.0, 0.0) for _ in claims]
    # Symmetric similarity: e5 wants the same prefix on both sides (model card of multilingual-e5).
    vectors = embedder.encode_query([*claims, answer[:1200], *(s.text for s in spans)])
    n = len(claims)
    whole = cosine(vectors[:n], vectors[n : n + 1])[:, 0]
    matrix = cosine(vectors[:n], vectors[n + 1 :])
    out = []
    for i, claim in enumerate(claims):
        row = matrix[i]
        wanted = set(tokens(claim))
        shared = [len(wanted & set(tokens(s.text))) / max(1, len(wanted)) for s in spans]
        # Both signals pick the span; a little weight against length prefers the clause over the paragraph.
        rank = [float(row[j]) + 0.15 * shared[j] - 0.0003 * len(s.text) for j, s in enumerate(spans)]
        best = max(range(len(spans)), key=rank.__getitem__)
        out.append(
            Evidence(
                span=spans[best],
                similarity=float(row.max()),
                margin=float(row.max() - row.mean()),
                whole=float(whole[i]),
                recall=term_recall(claim, answer),
                span_recall=max(shared),
                rival=float(row[best] - np.delete(matrix[:, best], i).max()) if n > 1 else 0.0,
            )
        )
    return out


def condense(answer: str, evidence: Sequence[Evidence], limit: int = MAX_JUDGED_CHARS) -> str:
    """The answer itself when it is short enough, else the sentences around each claim's best span, in order."""
    if len(answer.strip()) <= limit:
        return answer.strip()
    sents = sentences(answer)
    wanted = [e.span for e in sorted(evidence, key=lambda e: -e.similarity) if e.span]
    chosen: set[int] = set()
    size = 0
    share = max(80, limit // max(1, len(wanted)))
    for span in wanted:
        spent = 0
        near = sorted(range(len(sents)), key=lambda i: abs(sents[i].start - span.start))
        for i in near[:7]:
            if i in chosen:
                continue
            if size + len(sents[i].text) > limit or spent + len(sents[i].text) > share:
                break
            chosen.add(i)
            spent += len(sents[i].text)
            size += len(sents[i].text)
    if not chosen:  # one endless sentence: show where the best evidence stands
        first = wanted[0].start if wanted else 0
        return answer[max(0, first - limit // 4) :][:limit]
    return " … ".join(sents[i].text for i in sorted(chosen))


def log_length(answer: str) -> float:
    return math.log1p(len(answer.strip()))
