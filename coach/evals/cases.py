"""Labelled answers in, checked cases out; gold scores come from the same arithmetic as grades.

One row of `eval/answers/<split>.jsonl`:
    {"id", "question_id", "tier", "lang", "answer", "labels": {point id: 1 | 0.5 | 0}, "pitfalls": [pitfall ids]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from coach.bank import Bank
from coach.domain import PitfallHit, Question, Quote, Status, Verdict
from coach.errors import UsageError
from coach.score import score
from coach.text import sha256

Suite = Literal["authored", "floor", "injection", "metamorphic", "external"]
SUITES: tuple[Suite, ...] = ("authored", "floor", "injection", "metamorphic")
_STATUS = {1.0: Status.COVERED, 0.5: Status.PARTIAL, 0.0: Status.MISSING}


class EvalCase(BaseModel):
    """One answer to be graded. White space of the answer is part of it and is kept.

    A case made by rule names the case it was made from (`base`), how (`kind`) and which point or pitfall it is
    about (`target`); `order` is a permuted rubric. `gold` is the score 0–100 that the labels add up to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    question_id: str
    tier: str
    answer: str
    lang: str = "zh"
    labels: dict[str, float] = {}
    pitfalls: tuple[str, ...] = ()
    gold: float | None = None
    suite: Suite = "authored"
    base: str = ""
    kind: str = ""
    target: str = ""
    order: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvalSet:
    """Cases and the questions they answer. `split` is dev, test or external."""

    split: str
    cases: tuple[EvalCase, ...]
    questions: Mapping[str, Question]

    @property
    def digest(self) -> str:
        """Content hash of everything that is graded."""
        parts = [c.model_dump_json() for c in self.cases]
        parts += [self.questions[i].model_dump_json() for i in sorted({c.question_id for c in self.cases})]
        return sha256("\n".join(parts))[:12]

    def question_for(self, case: EvalCase) -> Question:
        """The question as this case asks it: with the rubric in the case's own order, where it has one."""
        question = self.questions[case.question_id]
        if not case.order:
            return question
        at = {p.id: p for p in question.rubric}
        return question.model_copy(update={"rubric": tuple(at[i] for i in case.order)})


def gold_score(question: Question, labels: Mapping[str, float], pitfalls: Iterable[str] = ()) -> float | None:
    """What a judge that finds exactly the labels would make of the answer, 0–100."""
    verdicts = [
        Verdict(point_id=p.id, text=p.text, weight=p.weight, status=_STATUS[labels[p.id]])
        for p in question.rubric
    ]
    asserted = set(pitfalls)
    hits = [
        PitfallHit(
            pitfall_id=p.id,
            claim=p.claim,
            correction=p.correction,
            penalty=p.penalty,
            quote=Quote(text="", start=0, end=0),
        )
        for p in question.pitfalls
        if p.id in asserted
    ]
    total = score(verdicts, hits)
    return total.value if total else None


def _fault(row: EvalCase, bank: Bank) -> str:
    """Why a labelled row cannot be used; "" when it can."""
    if row.question_id not in bank:
        return f"no question {row.question_id!r} in the bank"
    question = bank.get(row.question_id)
    points, pitfalls = {p.id for p in question.rubric}, {p.id for p in question.pitfalls}
    if any(p.is_criterion for p in question.rubric):
        return f"{question.id} is graded by criteria; labels belong to points"
    if missing := sorted(points - row.labels.keys()):
        return f"no label for {', '.join(missing)}"
    if unknown := sorted(row.labels.keys() - points):
        return f"{question.id} has no point {', '.join(unknown)}"
    if bad := sorted(i for i, label in row.labels.items() if label not in _STATUS):
        return f"the label of {', '.join(bad)} must be 1, 0.5 or 0"
    if unknown := sorted(set(row.pitfalls) - pitfalls):
        return f"{question.id} has no pitfall {', '.join(unknown)}"
    return ""


def load_answers(path: Path, bank: Bank) -> list[EvalCase]:
    """Labelled answers of one split. UsageError names file and line of the first row that cannot be used."""
    try:
        lines = path.read_text(encoding="utf8").split("\n")
    except FileNotFoundError as e:
        there = ", ".join(sorted(p.stem for p in path.parent.glob("*.jsonl"))) or "none"
        raise UsageError(f"no labelled answers at {path}", f"splits that are here: {there}") from e
    except UnicodeDecodeError as e:
        raise UsageError(f"{path}: not UTF-8 (byte {e.start})", "save the file as UTF-8") from e
    found: dict[str, EvalCase] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            data = json.loads(line)
            case = EvalCase.model_validate(data)
        except json.JSONDecodeError as e:
            raise UsageError(f"{path}:{number}: not JSON: {e.msg}", "one JSON object a line") from e
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(map(str, first["loc"])) or "row"
            raise UsageError(f"{path}:{number}: {where}: {first['msg']}") from e
        if fault := _fault(case, bank):
            raise UsageError(f"{path}:{number}: {fault}", "see eval/README.md for the form of a row")
        if case.id in found:
            raise UsageError(f"{path}:{number}: id {case.id!r} is used twice")
        question = bank.get(case.question_id)
        found[case.id] = case.model_copy(update={"gold": gold_score(question, case.labels, case.pitfalls)})
    if not found:
        raise UsageError(f"{path} holds no answers")
    return list(found.values())


def select(
    cases: Sequence[EvalCase],
    *,
    suites: Sequence[str] = (),
    tiers: Sequence[str] = (),
    sample: int | None = None,
    seed: int = 0,
) -> list[EvalCase]:
    """Cases of the wanted suites and tiers; `sample` draws that many questions and keeps all their cases.

    Whole questions, because pairs and intervals need them. The base of a kept case is kept too.
    """
    import random

    questions = sorted({c.question_id for c in cases})
    if sample is not None and sample < len(questions):
        questions = random.Random(seed).sample(questions, sample)
    wanted = set(questions)
    kept = {
        c.id
        for c in cases
        if c.question_id in wanted and (not suites or c.suite in suites) and (not tiers or c.tier in tiers)
    }
    by_id = {c.id: c for c in cases}
    kept |= {by_id[i].base for i in kept if by_id[i].base}
    chosen = [c for c in cases if c.id in kept]
    if not chosen:
        known = sorted({c.tier for c in cases})
        raise UsageError("no case fits these filters", f"tiers: {', '.join(known)}")
    return chosen
