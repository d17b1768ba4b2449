"""When a point comes back: FSRS (Ye et al. 2022, the `fsrs` package) over points, not questions.

Only an agreed verdict moves a card. Help lowers the rating: said in the first answer is Good, said when asked for it
or after a hint is Hard, said after it was shown is no evidence at all and counts as Again.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from datetime import UTC, datetime
from functools import cache
from typing import Any

from coach.domain import Question, Status, Verdict
from coach.practice.rows import CardRow
from coach.score import HALF, credit

# A claim whose probability lies between these is a coin the judge did not call; its card stays where it is.
_SURE = 0.65
_UNSURE = 0.35
AGAIN, HARD, GOOD = 1, 2, 3


@cache
def _scheduler() -> Any:
    from fsrs import Scheduler

    # Minutes-long learning steps are for flash cards in one sitting; an interview point comes back in days.
    # No fuzz: the same history always gives the same dates.
    return Scheduler(learning_steps=(), relearning_steps=(), enable_fuzzing=False)


def agreed(verdict: Verdict) -> bool:
    """True when the verdict is sure enough to change what the schedule believes."""
    if verdict.status is Status.UNJUDGED:
        return False
    if verdict.max_level or verdict.probability is None:
        return True
    if verdict.status is Status.COVERED:
        return verdict.probability >= _SURE
    if verdict.status is Status.PARTIAL:
        return verdict.quote is not None
    return verdict.status is Status.CONTRADICTED or verdict.probability <= _UNSURE


def rating(verdict: Verdict, *, first: bool, hinted: bool, shown: bool) -> int:
    """FSRS rating. `first`: already covered by the first answer, before any follow-up asked for it."""
    if verdict.status is Status.COVERED:
        if shown:
            return AGAIN
        return GOOD if first and not hinted else HARD
    if verdict.status is Status.PARTIAL and credit(verdict) >= HALF and not shown:
        return AGAIN if hinted else HARD
    return AGAIN


def review(
    question: Question, point_id: str, text: str, grade: int, known: CardRow | None, now: float
) -> CardRow:
    """The card after one review at `now` (Unix seconds). A clock that went back counts as no time passed."""
    from fsrs import Card, Rating

    card = Card.from_json(known.card) if known else Card(card_id=0)
    at = datetime.fromtimestamp(now, UTC)
    if card.last_review and at < card.last_review:
        at = card.last_review
    after, _ = _scheduler().review_card(card, Rating(grade), at)
    return CardRow(question.id, point_id, question.topic, text, after.to_json(), after.due.timestamp())


def due_of(card: str) -> float:
    """Due time (Unix seconds) of a card's JSON."""
    from fsrs import Card

    return float(Card.from_json(card).due.timestamp())


def recall(row: CardRow, now: float) -> float:
    """Probability in [0, 1] that the point is still known."""
    from fsrs import Card

    card = Card.from_json(row.card)
    at = datetime.fromtimestamp(now, UTC)
    if card.last_review and at < card.last_review:
        at = card.last_review
    return float(_scheduler().get_card_retrievability(card, at))


def reviews(
    question: Question,
    verdicts: Iterable[Verdict],
    *,
    first: Set[str],
    hinted: Set[str],
    shown: Set[str],
    disputed: Set[str],
    known: dict[str, CardRow],
    now: float,
) -> list[tuple[CardRow, int]]:
    """(new card, rating) for every point whose verdict may move its card; ids in the sets are point ids."""
    out = []
    for v in verdicts:
        if v.point_id in disputed or not agreed(v):
            continue
        grade = rating(v, first=v.point_id in first, hinted=v.point_id in hinted, shown=v.point_id in shown)
        out.append((review(question, v.point_id, v.text, grade, known.get(v.point_id), now), grade))
    return out
