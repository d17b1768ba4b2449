"""What the stored interviews say about the candidate: scores by topic and over time, calibration, weak points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from coach.domain import Citation, Question, Status
from coach.messages import Messages
from coach.practice import schedule
from coach.practice.rows import RoundRow, TurnScore
from coach.practice.store import Store
from coach.score import credit

RESISTED = 50.0  # of 100 on the follow-up's own rubric, whose first point is always to reject the premise


@dataclass(frozen=True, slots=True)
class SummaryRow:
    question: str
    score: float | None
    skipped: bool


@dataclass(frozen=True, slots=True)
class Summary:
    """One interview. `average` over the `scored` questions; `resisted` of `premises` false premises."""

    rows: tuple[SummaryRow, ...]
    average: float | None
    scored: int
    premises: int
    resisted: int


@dataclass(frozen=True, slots=True)
class TopicStat:
    topic: str
    questions: int
    average: float
    last: float
    due: int


@dataclass(frozen=True, slots=True)
class WeakPoint:
    """A point that is not known: what a card asks and answers. `recall` is FSRS's probability in [0, 1]."""

    question_id: str
    question: str
    point_id: str
    topic: str
    text: str
    citation: str
    times_missed: int
    due: float | None
    recall: float | None


@dataclass(frozen=True, slots=True)
class Progress:
    """`timeline`: (Unix seconds, interview id, average); `guesses`: (guessed, scored); scores in 0–100."""

    interviews: int
    answers: int
    topics: tuple[TopicStat, ...]
    timeline: tuple[tuple[float, int, float], ...]
    guesses: tuple[tuple[float, float], ...]
    premises: int
    resisted: int
    due: int
    due_questions: int

    @property
    def bias(self) -> float | None:
        """Mean of guess − score: above zero means that the candidate thinks too well of the answers."""
        return sum(g - s for g, s in self.guesses) / len(self.guesses) if self.guesses else None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "guess_bias": self.bias}


def _premises(turns: Iterable[TurnScore]) -> tuple[int, int]:
    """(asked, resisted) follow-ups with a false premise that could be scored."""
    scores = [t.score for t in turns if t.follow_up == "false_premise" and t.score is not None]
    return len(scores), sum(s >= RESISTED for s in scores)


def summary(store: Store, interview: int) -> Summary:
    rows = tuple(
        SummaryRow(r.question, r.score, r.state == "skipped")
        for r in store.round_scores(interview)
        if r.state != "left"
    )
    scores = [r.score for r in rows if r.score is not None]
    average = sum(scores) / len(scores) if scores else None
    return Summary(rows, average, len(scores), *_premises(store.turn_scores(interview)))


def progress(store: Store, now: float) -> Progress:
    """Everything over all interviews; unscored rounds count nowhere. Reads figures, not transcripts."""
    by_topic: dict[str, list[float]] = {}
    by_interview: dict[tuple[float, int], list[float]] = {}
    for r in store.round_scores():
        if r.score is not None:
            by_topic.setdefault(r.topic, []).append(r.score)
            by_interview.setdefault((r.started, r.interview), []).append(r.score)
    turns = store.turn_scores()
    # The order of the interviews is that of their numbers: a clock may have jumped.
    timeline = [
        (started, number, sum(s) / len(s))
        for (started, number), s in sorted(by_interview.items(), key=lambda i: i[0][1])
    ]
    due = store.cards(now)
    topics = [
        TopicStat(t, len(s), sum(s) / len(s), s[-1], sum(c.topic == t for c in due))
        for t, s in by_topic.items()
    ]
    premises, resisted = _premises(turns)
    return Progress(
        len(store.interviews()),
        len(turns),
        tuple(sorted(topics, key=lambda t: t.average)),
        tuple(timeline),
        tuple((t.guess, t.score) for t in turns if t.guess is not None and t.score is not None),
        premises,
        resisted,
        len(due),
        len({c.question_id for c in due}),
    )


def weak_points(
    store: Store, questions: Mapping[str, Question], now: float, say: Messages
) -> list[WeakPoint]:
    """Points whose newest verdict is not full credit, worst recall first, each with the note it rests on."""
    newest: dict[tuple[str, str], tuple[RoundRow, Any]] = {}
    missed: dict[tuple[str, str], int] = {}
    for interview in sorted(store.interviews(), key=lambda i: i.id):
        for round_ in store.rounds(interview.id):
            for verdict in round_.merged.verdicts if round_.merged else ():
                if verdict.status is Status.UNJUDGED:
                    continue
                key = (round_.question.id, verdict.point_id)
                newest[key] = (round_, verdict)
                missed[key] = missed.get(key, 0) + (credit(verdict) < 1)
    cards = {(c.question_id, c.point_id): c for c in store.cards()}
    for key in cards:  # given up without an answer: a card, but no verdict
        if key not in newest and key[0] in questions:
            newest[key] = (RoundRow(0, 0, 0, questions[key[0]], "", "skipped", None), None)
            missed[key] = 1
    out = []
    for key, (round_, verdict) in newest.items():
        if verdict is not None and credit(verdict) >= 1:
            continue
        card = cards.get(key)
        point = next((p for p in round_.question.rubric if p.id == key[1]), None)
        citation: Citation | None = verdict.citation if verdict is not None else None
        out.append(
            WeakPoint(
                question_id=key[0],
                question=round_.question.question,
                point_id=key[1],
                topic=round_.question.topic,
                text=_full_marks(point, say) if point else verdict.text if verdict else "",
                citation=citation.ref if citation else (point.source or "" if point else ""),
                times_missed=missed[key],
                due=card.due if card else None,
                recall=schedule.recall(card, now) if card else None,
            )
        )
    return sorted(
        out, key=lambda w: (w.recall if w.recall is not None else 0.0, -w.times_missed, w.question_id)
    )


def _full_marks(point: Any, say: Messages) -> str:
    """A claim as it stands; a criterion with what its highest level asks for."""
    if not point.levels:
        return str(point.text)
    return say("weak_level", text=point.text, level=point.levels[max(point.levels)])
