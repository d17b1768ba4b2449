"""One question's worth of interview as a state machine. Prints nothing; clock and randomness come from outside."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from coach.domain import FollowUp, Grade, Question
from coach.grade import Grader
from coach.judge.base import OnVerdict

MAX_FOLLOW_UPS = 3


def pick(questions: Sequence[Question], rng: random.Random, done: set[str]) -> Question | None:
    """A question not asked yet, the frequent ones more often; None when all were asked."""
    left = [q for q in questions if q.id not in done]
    if not left:
        return None
    return rng.choices(left, weights=[1 + q.frequency for q in left])[0]


@dataclass(slots=True)
class Round:
    """A question with its follow-ups. `grade` is the merged grade so far."""

    question: Question
    grade: Grade | None = None
    pending: FollowUp | None = None
    asked: list[str] = field(default_factory=list)

    @property
    def prompt(self) -> str:
        return self.pending.ask if self.pending else self.question.question

    @property
    def over(self) -> bool:
        return self.grade is not None and self.pending is None

    def answer(self, grader: Grader, text: str, on_verdict: OnVerdict | None = None) -> Grade:
        """Grade `text` as the answer to `prompt` and move on; returns the grade of this very answer."""
        if self.grade is None or self.pending is None:
            self.grade = shown = grader.grade(self.question, text, on_verdict=on_verdict)
        else:
            result = grader.grade_follow_up(
                self.question, self.grade, self.pending, text, asked=self.asked, on_verdict=on_verdict
            )
            self.asked.append(self.pending.id)
            self.grade, shown = result.merged, result.own
        wanted = self.grade.follow_up if self.grade.score else None
        self.pending = wanted if len(self.asked) < MAX_FOLLOW_UPS else None
        return shown
