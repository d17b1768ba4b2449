"""What goes into a judge and what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from coach.domain import Passage, Pitfall, PitfallHit, Point, Usage, Verdict

# Called after each judged point with (verdict, judged so far, all): the first line can be shown early.
OnVerdict = Callable[[Verdict, int, int], None]


@dataclass(frozen=True, slots=True)
class Case:
    """One answer to be judged.

    `judged` is the answer with hostile spans blanked out; it has the same length as `answer`, so an offset means
    the same in both.
    """

    question: str
    answer: str
    judged: str
    points: tuple[Point, ...]
    pitfalls: tuple[Pitfall, ...] = ()
    passages: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """Verdicts in rubric order, without citations: those are the grader's to add."""

    verdicts: tuple[Verdict, ...]
    pitfalls: tuple[PitfallHit, ...] = ()
    usage: Usage = field(default_factory=Usage)


class Judge(Protocol):
    """`prompts` and `calibration` go into the grade's fingerprint."""

    name: str
    model: str
    prompts: dict[str, str]
    calibration: str

    def prepare(self, question: str) -> None:
        """Called when a question is asked, before there is an answer: what can be done ahead is done now."""

    def judge(self, case: Case, on_verdict: OnVerdict | None = None) -> Judgement: ...
