"""Labelled answers as cases of claims: what the embedded judge is trained and calibrated on.

Answers to bank questions: `answers.jsonl`, written tier by tier with the rubric in view; `free.jsonl` and
`everyday.jsonl`, written before the rubric was seen and labelled afterwards; `misconceptions.jsonl`, which assert one
or its opposite; `criteria.jsonl`. Answers to questions that carry their own points: `general.jsonl`, and
`students.jsonl`, `exams.jsonl` and `plain.jsonl`, answered before the points were cut from the reference. By rule:
answers that say nothing about their question, reference answers, and points taken back.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coach.bank import Bank
from coach.domain import Question
from coach.judge.pointwise import claim_of

HERE = Path(__file__).resolve().parent
EVAL = HERE.parent
SEED = 5
UNKNOWN = math.nan  # a label nobody can give; it is left out of every loss and every figure
MAX_REFERENCE_CHARS = 480


@dataclass(frozen=True, slots=True)
class Case:
    """`claims`: the first `points` are rubric points, the rest pitfalls, each kind in text order as the judge asks them.

    `label`, one per claim: 0, 0.5, 1 or UNKNOWN; for a pitfall 1 means asserted. `corrections` go with the pitfalls.
    """

    id: str
    question_id: str
    tier: str
    question: str
    answer: str
    claims: tuple[str, ...]
    points: int
    label: tuple[float, ...]
    weight: tuple[float, ...]
    corrections: tuple[str, ...] = ()
    criteria: int = 0  # so many of the points, the last ones, are criteria

    @property
    def facts(self) -> int:
        return self.points - self.criteria


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(path.read_text(encoding="utf8").splitlines(), 1):
        try:
            yield number, json.loads(line)
        except ValueError as e:
            raise SystemExit(f"{path}:{number}: {e}") from e


def bank_case(
    question: Question, tier: str, answer: str, labels: dict[str, float], asserted: frozenset[str]
) -> Case:
    """A point without a label is UNKNOWN."""
    points = sorted(question.rubric, key=lambda p: p.text)
    pitfalls = sorted(question.pitfalls, key=lambda p: p.claim)
    return Case(
        id=f"{question.id}.{tier}",
        question_id=question.id,
        tier=tier,
        question=question.question,
        answer=answer,
        claims=(*(p.text for p in points), *(p.claim for p in pitfalls)),
        points=len(points),
        label=(*(labels.get(p.id, UNKNOWN) for p in points), *(float(p.id in asserted) for p in pitfalls)),
        weight=(*(float(p.weight) for p in points), *(float(p.penalty) for p in pitfalls)),
        corrections=tuple(p.correction for p in pitfalls),
    )


def labelled(path: Path, bank: Bank) -> list[Case]:
    """Answers to bank questions, as in eval/answers and answers.jsonl."""
    made = []
    for _, row in read_jsonl(path):
        if row["question_id"] in bank:
            question, asserted = bank.get(row["question_id"]), frozenset(row["pitfalls"])
            case = bank_case(question, row["tier"], row["answer"], row["labels"], asserted)
            made.append(replace(case, id=row.get("id", case.id)))
    return made


def empty_handed(cases: list[Case], bank: Bank) -> list[Case]:
    """Answers that earn nothing, by rule: all labels are 0.

    Every question gets the excellent answer to a question of another topic; every third one also an echo of itself,
    and every third one a confession of not knowing.
    """
    excellent = {c.question_id: c.answer for c in cases if c.tier == "excellent"}
    ids = sorted(excellent)
    made = []
    for i, question_id in enumerate(ids):
        question = bank.get(question_id)
        others = (ids[(i + 37 * step) % len(ids)] for step in range(1, len(ids)))
        foreign = next((o for o in others if bank.get(o).topic != question.topic), None)
        texts = {"off-topic": excellent[foreign]} if foreign else {}
        stem = question.question.rstrip("？?。")
        if i % 3 == 0:
            texts["echo"] = (
                f"{stem}，这个问题很重要，面试经常问。{stem}，要从原理和实践两方面来看，我觉得需要结合具体场景。"
            )
        elif i % 3 == 1:
            texts["unknown"] = "这个我不太清楚，之前没有接触过，回去会好好看一下。"
        nothing = {p.id: 0.0 for p in question.rubric}
        made += [bank_case(question, tier, text, nothing, frozenset()) for tier, text in texts.items()]
    return made


def references(bank: Bank, taken: frozenset[str]) -> list[Case]:
    """References of questions outside `taken` make every point; with a misconception put in, only that is known."""
    rng = random.Random(SEED)
    made = []
    for question in bank:
        text = (question.reference or "").strip()
        if question.id in taken or not text or len(text) > MAX_REFERENCE_CHARS:
            continue
        if not question.rubric or any(p.is_criterion for p in question.rubric):
            continue
        all_points = {p.id: 1.0 for p in question.rubric}
        made.append(bank_case(question, "reference", text, all_points, frozenset()))
        if question.pitfalls and rng.random() < 0.5:
            pitfall = rng.choice(sorted(question.pitfalls, key=lambda p: p.claim))
            ends = [i + 1 for i, c in enumerate(text) if c in "。；\n"][:-1]
            at = rng.choice(ends) if ends else len(text)
            tainted = f"{text[:at]}{pitfall.claim.rstrip('。')}。{text[at:]}"
            made.append(bank_case(question, "tainted", tainted, {}, frozenset({pitfall.id})))
    return made


# {claim}: the point, its full stop cut off. None of these sentences is one that eval's metamorphic pairs are made with.
TAKEN_BACK = (
    "等一下，刚才有一点我说错了：{claim}，这不对。",
    "哦对了，我收回前面的一句话，并不是{claim}。",
    "说到这里想起来，前面那个“{claim}”应该划掉，事实不是这样。",
    "补充：其实没有{claim}这回事，我前面记混了。",
    "但仔细想想，{claim}——这句话站不住脚，是我讲错了。",
    "不好意思，更正：{claim}是不成立的。",
    "Wait, one correction: I said that {claim}, but that is actually wrong.",
)
CONFIRMED = (
    "再强调一遍，{claim}，这点我很确定。",
    "有人不信“{claim}”，但它就是成立的。",
    "刚才差点说错，检查了一下，{claim}，没问题。",
)


def taken_back(cases: list[Case], rng: random.Random, number: int) -> list[Case]:
    """Answers that end by taking back a point they had made (its label becomes 0), a quarter by standing by it."""
    made: list[Case] = []
    stated = [c for c in cases if 1.0 in c.label[: c.points] and not c.criteria]
    for i, case in enumerate(rng.sample(stated, number)):
        at = rng.choice([k for k in range(case.points) if case.label[k] == 1])
        kind = "taken-back" if i % 4 else "confirmed"
        said = rng.choice(TAKEN_BACK if i % 4 else CONFIRMED).format(claim=case.claims[at].rstrip("。."))
        label = tuple(0.0 if i % 4 and k == at else v for k, v in enumerate(case.label))
        ends = "" if case.answer.rstrip().endswith(("。", "！", "？", ".", "!", "?")) else "。"
        answer = f"{case.answer.rstrip()}{ends}{said}"
        made.append(replace(case, id=f"{case.id}.{kind}", tier=kind, answer=answer, label=label))
    return made


def general(path: Path) -> list[Case]:
    """Questions that carry their own points: one line a question, with all its answers."""
    made = []
    for number, row in read_jsonl(path):
        points = sorted(range(len(row["points"])), key=row["points"].__getitem__)
        pitfalls = sorted(range(len(row["pitfalls"])), key=row["pitfalls"].__getitem__)
        claims = (*(row["points"][i] for i in points), *(row["pitfalls"][i] for i in pitfalls))
        for answer in row["answers"]:
            if len(answer["labels"]) != len(points) or len(answer["pitfalls"]) != len(pitfalls):
                raise SystemExit(f"{path}:{number}: {answer['tier']}: one label per claim is needed")
            label = (
                *(float(answer["labels"][i]) for i in points),
                *(float(answer["pitfalls"][i]) for i in pitfalls),
            )
            made.append(
                Case(
                    id=f"{row['id']}.{answer['tier']}", question_id=row["id"], tier=answer["tier"],
                    question=row["question"], answer=answer["answer"], claims=claims, points=len(points),
                    label=label, weight=(1.0,) * len(claims),
                )
            )  # fmt: skip
    return made


def criteria(path: Path, bank: Bank) -> list[Case]:
    """Answers to questions with criteria: claims as the judge reads them, facts, then what every highest level asks.

    The label of a criterion is its level as a share of the highest; pitfalls are UNKNOWN.
    """
    made = []
    for number, row in read_jsonl(path):
        question, levels = bank.get(row["question_id"]), row["levels"]
        facts = sorted((p for p in question.rubric if not p.is_criterion), key=lambda p: p.text)
        ranked = [p for p in question.rubric if p.is_criterion]
        pitfalls = sorted(question.pitfalls, key=lambda p: p.claim)
        if set(levels) != {p.id for p in question.rubric}:
            raise SystemExit(f"{path}:{number}: one label for every point and criterion is needed")
        tops = {p.id: max(p.levels or {0: ""}) for p in ranked}
        made.append(
            Case(
                id=f"{question.id}.criteria-{row['kind']}", question_id=question.id, tier="criteria",
                question=question.question, answer=row["answer"],
                claims=(*(claim_of(p) for p in (*facts, *ranked)), *(p.claim for p in pitfalls)),
                points=len(facts) + len(ranked),
                label=(
                    *(float(levels[p.id]) for p in facts),
                    *(levels[p.id] / tops[p.id] for p in ranked),
                    *(UNKNOWN for _ in pitfalls),
                ),
                weight=(*(float(p.weight) for p in (*facts, *ranked)), *(float(p.penalty) for p in pitfalls)),
                corrections=tuple(p.correction for p in pitfalls), criteria=len(ranked),
            )
        )  # fmt: skip
    return made


def stages(bank: Bank) -> list[list[Case]]:
    """What is trained on first and what afterwards. No question of eval/answers is among it.

    The first stage learns to read claims from tidy answers; the second meets answers as people give them, with
    every third case of the first again so that it is not forgotten; the third more of those, said as unlike the rubric
    as people say things, and criteria, with an eighth of what came before; the fourth new questions, answered in plain
    words, misconceptions said and denied, and points taken back, with a part of all that came before.
    """
    held_out = {
        r["question_id"] for s in ("dev", "test") for _, r in read_jsonl(EVAL / "answers" / f"{s}.jsonl")
    }
    written = labelled(HERE / "answers.jsonl", bank)
    free = labelled(HERE / "free.jsonl", bank)
    own = {c.question_id for c in written}
    assert not (seen := own | {c.question_id for c in free}) & held_out, sorted(seen & held_out)
    tidy = [
        *written,
        *empty_handed(written, bank),
        *references(bank, frozenset(own | held_out)),
        *general(HERE / "general.jsonl"),
    ]
    spoken = [*free, *general(HERE / "students.jsonl")]
    everyday = [
        *labelled(HERE / "everyday.jsonl", bank),
        *general(HERE / "exams.jsonl"),
        *criteria(HERE / "criteria.jsonl", bank),
    ]
    plain = [*general(HERE / "plain.jsonl"), *labelled(HERE / "misconceptions.jsonl", bank)]
    assert not (seen := {c.question_id for c in (*everyday, *plain)}) & held_out, sorted(seen & held_out)
    rng, other = random.Random(SEED), random.Random(SEED + 1)
    return [
        tidy,
        [*spoken, *rng.sample(tidy, len(tidy) // 3)],
        [*everyday, *rng.sample(spoken, len(spoken) // 8), *rng.sample(tidy, len(tidy) // 16)],
        [
            *plain,
            *taken_back([*tidy, *spoken, *everyday], other, 240),
            *rng.sample(everyday, len(everyday) // 4),
            *rng.sample(spoken, len(spoken) // 7),
            *rng.sample(tidy, len(tidy) // 12),
        ],
    ]


def training_cases(bank: Bank) -> list[Case]:
    """Every case of every stage, once."""
    return list({c.id: c for stage in stages(bank) for c in stage}.values())
