"""Votes of one judge on one answer: who is asked again, and what several readings together decide.

A second reading settles a doubtful finding when it agrees with the first; a third is asked for only when it does not.
Readings differ in the order of the points and in whether the notes are shown, not in temperature, so a grade can be
repeated. Self-consistency of readings: Wang et al. 2022, arXiv 2203.11171.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median_low

from coach.domain import PitfallHit, Status, Verdict

SURE = 0.8  # less confidence than this is asked again; models say 0.9 of nearly everything
DISAGREED = "几次判断不一致，不计分"


def doubtful(verdict: Verdict, confidence: float) -> bool:
    """Findings that readings of one answer tend to differ in: half-said points, denied ones, credit without a quote."""
    if verdict.status in (Status.PARTIAL, Status.CONTRADICTED):
        return True
    return confidence < SURE


def settled(votes: Sequence[object], of: int) -> bool:
    """True once more votes than half of the `of` that there may be say the same."""
    return bool(votes) and max(Counter(votes).values()) * 2 > of


def ballot(verdict: Verdict) -> object:
    """What a verdict votes for: its level where there are levels, else its status."""
    return verdict.status if verdict.level is None else verdict.level


def decide(votes: Sequence[Verdict]) -> Verdict:
    """The verdict of the majority, with the mean of all probabilities; of levels the median where there is no majority.

    A claim without a majority is `unjudged`: it leaves the score's denominator instead of being guessed.
    """
    first = votes[0]
    if len(votes) == 1:
        return first
    counted = Counter(map(ballot, votes)).most_common()
    known = [v.probability for v in votes if v.probability is not None]
    update = {"probability": round(fmean(known), 4) if known else None}
    if counted[0][1] * 2 > len(votes):
        wanted: object = counted[0][0]
    elif first.max_level:
        wanted = median_low(v.level or 0 for v in votes)
    else:
        said = "、".join(v.status.value for v in votes)
        gone = {"status": Status.UNJUDGED, "quote": None, "reason": f"{DISAGREED}：{said}"}
        return first.model_copy(update=update | gone)
    return next(v for v in votes if ballot(v) == wanted).model_copy(update=update)


def held(votes: Sequence[PitfallHit | None]) -> PitfallHit | None:
    """The misconception, when more than half of the readings found it asserted."""
    hits = [hit for hit in votes if hit is not None]
    return hits[0] if len(hits) * 2 > len(votes) else None
