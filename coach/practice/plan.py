"""Which question comes next: free choice, a company's list, what is due, or the stages of a mock interview.

The choice for position n depends only on the seed, n and what was asked before, so a resumed interview goes on as the
interrupted one would have.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coach.domain import Question
from coach.errors import UsageError
from coach.practice.rows import CardRow

MAX_FOLLOW_UPS = 3
MAX_DUE = 20


@dataclass(frozen=True, slots=True)
class Stage:
    """`count` questions that are of one of `kinds`, or whose id is one of `ids`, with difficulty in [low, high]."""

    name: str
    count: int
    kinds: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    low: int = 1
    high: int = 5


_INTRO = Stage("自我介绍", 1, ids=("hr-self-introduction",))
_REVERSE_IDS = ("hr-reverse-questions", "hr-questions-for-us")
_BASICS = ("concept", "compare", "derivation")


@dataclass(frozen=True, slots=True)
class Mock:
    """Minutes of answering time; grading and breaks do not count."""

    minutes: int
    stages: tuple[Stage, ...]


MOCKS = {
    "一面": Mock(
        45,
        (
            _INTRO,
            Stage("项目深挖", 1, kinds=("project",)),
            Stage("八股", 3, kinds=_BASICS, high=3),
            Stage("手撕代码", 1, kinds=("coding",)),
        ),
    ),
    "二面": Mock(
        60,
        (
            _INTRO,
            Stage("项目深挖", 2, kinds=("project",)),
            Stage("八股", 2, kinds=_BASICS, low=3),
            Stage("系统设计", 1, kinds=("design",)),
            Stage("手撕代码", 1, kinds=("coding",), low=3),
            Stage("开放题", 1, kinds=("open",)),
        ),
    ),
    "HR": Mock(30, (_INTRO, Stage("行为与意向", 4, kinds=("behavioral",)))),
}


ALSO = {"first": "一面", "second": "二面", "hr": "HR"}


def mock_name(name: str) -> str:
    """The key of MOCKS for what was typed. UsageError when there is no such mock interview."""
    found = ALSO.get(name.lower(), name)
    if found not in MOCKS:
        raise UsageError(f"no mock interview {name!r}", f"there are: {', '.join([*MOCKS, *list(ALSO)[:2]])}")
    return found


def _weighted(questions: Sequence[Question], rng: random.Random, count: int) -> list[Question]:
    """Without replacement, frequent questions more often."""
    left = list(questions)
    out: list[Question] = []
    while left and len(out) < count:
        chosen = rng.choices(left, weights=[1 + q.frequency for q in left])[0]
        left.remove(chosen)
        out.append(chosen)
    return out


def mock_plan(name: str, bank: Sequence[Question], seed: int, company: str | None = None) -> list[list[str]]:
    """[stage name, question id] rows of the mock interview MOCKS[name], ending with the candidate's own questions.

    A company's questions are preferred where a stage has any.
    """
    rng = random.Random(f"{seed}/mock/{name}")
    reverse = [q for q in bank if q.id in _REVERSE_IDS or (q.kind == "behavioral" and "反问" in q.question)]
    taken = {q.id for q in reverse}
    rows: list[list[str]] = []
    for stage in MOCKS[name].stages:
        fits = [
            q
            for q in bank
            if (q.id in stage.ids or q.kind in stage.kinds)
            and q.id not in taken
            and stage.low <= q.difficulty <= stage.high
        ]
        asked_there = [q for q in fits if company and any(company in c for c in q.companies)]
        chosen = _weighted(asked_there, rng, stage.count)
        chosen += _weighted([q for q in fits if q not in chosen], rng, stage.count - len(chosen))
        taken |= {q.id for q in chosen}
        rows += [[stage.name, q.id] for q in chosen]
    return rows + [["反问", q.id] for q in reverse[:1]]


def due_plan(cards: Sequence[CardRow], known: Collection[str]) -> list[list[str]]:
    """Questions with due points, the longest overdue first; at most MAX_DUE, a sitting's worth."""
    ids = dict.fromkeys(c.question_id for c in cards if c.question_id in known)
    return [["到期复习", i] for i in list(ids)[:MAX_DUE]]


def choose(
    questions: Mapping[str, Question], config: Mapping[str, Any], ordinal: int, done: Collection[str]
) -> tuple[str, Question] | None:
    """(stage, question) for position `ordinal` (0-based); None when nothing is left."""
    plan = config.get("plan")
    if plan is not None:
        for stage, question_id in plan[ordinal:]:
            if question_id in questions and question_id not in done:
                return stage, questions[question_id]
        return None
    first = config.get("first")
    if ordinal == 0 and first:
        return "", questions[first]
    left = [questions[i] for i in config["pool"] if i in questions and i not in done]
    if not left:
        return None
    wanted = config.get("difficulty_now")
    if wanted is not None:
        nearest = min(abs(q.difficulty - wanted) for q in left)
        left = [q for q in left if abs(q.difficulty - wanted) == nearest]
    return "", _weighted(left, random.Random(f"{config['seed']}/{ordinal}"), 1)[0]
