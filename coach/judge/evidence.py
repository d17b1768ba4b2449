"""What embeddings and words say about a claim and an answer — and which span of the answer speaks to it."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from coach.embed import Embedder, cosine
from coach.text import Span, sentences, term_recall, tokens, windows

# A longer answer is shown to a small judge as its sentences nearest to the rubric, in order.
MAX_JUDGED_WIDTH = 480

# How people bring up a mistake in order to reject it: of 425 labelled answers that assert one, 3 use such words.
_REJECTING = re.compile(
    r"(很多人|不少人|有人|有些人|大家常?)[^，。；]{0,6}?(以为|认为|觉得|会?说|当成|理解成|误)"
    r"|误以为|误解|误区|不是说|别把|不要把|不要以为|别以为|不能只|不能说|不要认为|不能认为|并非|其实不是|可不是"
    r"|\b(people|many|some)\s+(\w+\s+){0,2}(think|believe|say|assume)|misconception|mistakenly|not true that",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the answer offers for one claim.

    `similarity` is the best window's cosine, `margin` that minus the mean over windows, `whole` the whole answer's;
    `recall` the claim's words found anywhere, `span_recall` in one window.
    """

    span: Span | None
    similarity: float
    margin: float
    whole: float
    recall: float
    span_recall: float


def gather(
    embedder: Embedder, answer: str, claims: Sequence[str], accusing: Collection[str] = ()
) -> list[Evidence]:
    """Evidence for each claim. One embedding pass over the answer's windows serves all claims.

    A claim that accuses (a misconception) takes its span from inside one sentence: who is told he said something
    wrong must be shown where, and a passage around it may state points as well.
    """
    spans = windows(answer)
    if not spans or not claims:
        return [Evidence(None, 0.0, 0.0, 0.0, 0.0, 0.0) for _ in claims]
    # Symmetric similarity: e5 wants the same prefix on both sides (model card of multilingual-e5).
    vectors = embedder.encode_query([*claims, answer[:1200], *(s.text for s in spans)])
    n = len(claims)
    whole = cosine(vectors[:n], vectors[n : n + 1])[:, 0]
    matrix = cosine(vectors[:n], vectors[n + 1 :])
    sents = sentences(answer)
    inside = [any(t.start <= s.start and s.end <= t.end for t in sents) for s in spans]
    out = []
    for i, claim in enumerate(claims):
        row = matrix[i]
        wanted = set(tokens(claim))
        shared = [len(wanted & set(tokens(s.text))) / max(1, len(wanted)) for s in spans]
        # Both signals pick the span; a little weight against length prefers the clause over the paragraph.
        rank = [float(row[j]) + 0.15 * shared[j] - 0.0003 * len(s.text) for j, s in enumerate(spans)]
        allowed = [j for j in range(len(spans)) if inside[j] or claim not in accusing]
        best = max(allowed, key=rank.__getitem__)
        out.append(
            Evidence(
                span=spans[best],
                similarity=float(row.max()),
                margin=float(row.max() - row.mean()),
                whole=float(whole[i]),
                recall=term_recall(claim, answer),
                span_recall=max(shared),
            )
        )
    return out


def width(text: str) -> float:
    """Length as a tokenizer feels it: a Han character counts 1, a letter a third (English has about 4 a token)."""
    return sum(1.0 if c > "\u2e7f" else 0.33 for c in text)


def condense(answer: str, evidence: Sequence[Evidence], limit: int = MAX_JUDGED_WIDTH) -> str:
    """The answer itself when it is short enough, else the sentences around each claim's best span, in order."""
    if width(answer.strip()) <= limit:
        return answer.strip()
    sents = sentences(answer)
    wanted = [e.span for e in sorted(evidence, key=lambda e: -e.similarity) if e.span]
    chosen: set[int] = set()
    size = 0.0
    share = max(80, limit // max(1, len(wanted)))
    for span in wanted:
        spent = 0.0
        near = sorted(range(len(sents)), key=lambda i: abs(sents[i].start - span.start))
        for i in near[:7]:
            if i in chosen:
                continue
            room = width(sents[i].text)
            if size + room > limit or spent + room > share:
                break
            chosen.add(i)
            spent += room
            size += room
    if not chosen:  # one endless sentence: show where the best evidence stands
        first = wanted[0].start if wanted else 0
        return answer[max(0, first - limit // 4) :][:limit]
    return " … ".join(sents[i].text for i in sorted(chosen))


def rejects(sentence: str) -> bool:
    """Does the sentence bring a mistake up as other people's?

    >>> rejects("很多人以为 LoRA 会让推理变慢，其实可以合并。"), rejects("LoRA 会让推理变慢。")
    (True, False)
    """
    return _REJECTING.search(sentence) is not None


def log_length(answer: str) -> float:
    return math.log1p(len(answer.strip()))
