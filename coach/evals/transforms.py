"""Metamorphic pairs by rule: changes that must not move a grade, and changes that must move it one way.

A transform is a function (case, question, rng, aliases) → the changed case, or None where the rule does not apply.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coach.domain import Question
from coach.evals.cases import EvalCase, gold_score
from coach.evals.rules import read_yaml_list
from coach.metrics import DIRECTED, INVARIANT
from coach.text import sentences, sha256

Aliases = Sequence[tuple[str, str]]
Transform = Callable[[EvalCase, Question, random.Random, Aliases], EvalCase | None]

FLUFF = (
    "这个问题其实挺常见的，面试里经常被问到。",
    "当然具体情况还要具体分析。",
    "总的来说，这块内容在实际工作中还是非常重要的。",
    "以上就是我对这个问题的一些理解，可能还有说得不全的地方。",
    "我平时也比较关注这方面的东西，会看一些博客和论文。",
    "这里面的细节展开讲的话可以讲很久。",
)
_BASE_TIERS = ("excellent", "good", "partial", "paraphrase", "half-right")
_RIGHT_TIERS = (
    "excellent",
    "good",
    "partial",
)  # nothing wrong is said, so a gold sentence contradicts nothing
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.、)])\s*", re.M)


def load_aliases(path: Any) -> list[tuple[str, str]]:
    return [(str(a), str(b)) for a, b in read_yaml_list(path)]


def _changed(case: EvalCase, kind: str, **update: Any) -> EvalCase:
    return case.model_copy(
        update={
            "id": f"{case.id}.{kind}",
            "tier": f"meta-{kind}",
            "suite": "metamorphic",
            "base": case.id,
            "kind": kind,
            **update,
        }
    )


def _joined(parts: Sequence[str]) -> str:
    """Sentences as one text; English ones need the blank that the cut took away."""
    return "".join(f"{p} " if p.endswith(".") else p for p in parts).strip()


# ── must not move the grade ──────────────────────────────────────────────────────────────────────
def shuffle(case: EvalCase, question: Question, rng: random.Random, aliases: Aliases) -> EvalCase | None:
    parts = [s.text for s in sentences(case.answer)]
    if len(set(parts)) < 3:
        return None
    mixed = parts[:]
    while mixed == parts:
        rng.shuffle(mixed)
    return _changed(case, "shuffle", answer=_joined(mixed))


def _swap(text: str, old: str, new: str) -> str:
    latin = re.fullmatch(r"[\x00-\x7f]+", old) is not None
    pattern = rf"(?<![A-Za-z0-9_-]){re.escape(old)}(?![A-Za-z0-9_-])" if latin else re.escape(old)
    return re.sub(pattern, lambda _: new, text, flags=re.I if latin else 0)


def synonym(case: EvalCase, question: Question, rng: random.Random, aliases: Aliases) -> EvalCase | None:
    """Every alias that occurs is swapped for its other spelling, each place once."""
    text = case.answer
    slots: list[tuple[str, str]] = []
    for a, b in aliases:
        for old, new in ((a, b), (b, a)):
            mark = chr(0xE000 + len(slots))  # private use: a swapped term must not be swapped back
            swapped = _swap(text, old, mark)
            if swapped != text:
                text = swapped
                slots.append((mark, new))
    if not slots:
        return None
    for mark, new in slots:
        text = text.replace(mark, new)
    return _changed(case, "synonym", answer=text)


def repeat_question(
    case: EvalCase, question: Question, rng: random.Random, aliases: Aliases
) -> EvalCase | None:
    return _changed(
        case, "repeat-question", answer=f"您问的是：{question.question} 我来回答一下。{case.answer}"
    )


def fluff(case: EvalCase, question: Question, rng: random.Random, aliases: Aliases) -> EvalCase | None:
    first, *rest = rng.sample(FLUFF, 3)
    return _changed(case, "fluff", answer=f"{first}{case.answer}{''.join(rest)}")


def bullets(case: EvalCase, question: Question, rng: random.Random, aliases: Aliases) -> EvalCase | None:
    """Prose becomes a list, a list becomes prose."""
    if _BULLET.search(case.answer):
        lines = [_BULLET.sub("", line).strip() for line in case.answer.splitlines()]
        text = "".join(
            line if line.endswith(("。", "！", "？", ".")) else f"{line}。" for line in lines if line
        )
        return _changed(case, "bullets", answer=text)
    parts = [s.text for s in sentences(case.answer)]
    return _changed(case, "bullets", answer="\n".join(f"- {p}" for p in parts)) if len(parts) > 1 else None


def permute(case: EvalCase, question: Question, rng: random.Random, aliases: Aliases) -> EvalCase | None:
    """The same answer against the same points in another order."""
    order = [p.id for p in question.rubric]
    if len(order) < 2:
        return None
    mixed = order[:]
    while mixed == order:
        rng.shuffle(mixed)
    return _changed(case, "permute", order=tuple(mixed))


# ── must move the grade, one way ─────────────────────────────────────────────────────────────────
def _relabelled(
    case: EvalCase, question: Question, kind: str, answer: str, target: str, label: float
) -> EvalCase:
    labels = {**case.labels, target: label}
    gold = gold_score(question, labels, case.pitfalls)
    return _changed(case, kind, answer=answer, target=target, labels=labels, gold=gold)


def add(case: EvalCase, question: Question, rng: random.Random, aliases: Aliases) -> EvalCase | None:
    """A sentence that states a point which the answer left out."""
    absent = [p for p in question.rubric if case.labels[p.id] == 0]
    if not absent or case.pitfalls or case.tier not in _RIGHT_TIERS:
        return None
    point = rng.choice(absent)
    return _relabelled(case, question, "add", f"{case.answer}另外，{point.text}。", point.id, 1.0)


def contradict(case: EvalCase, question: Question, rng: random.Random, aliases: Aliases) -> EvalCase | None:
    """The candidate takes back a point that the answer had stated."""
    stated = [p for p in question.rubric if case.labels[p.id] == 1]
    if not stated:
        return None
    point = rng.choice(stated)
    taken_back = f"不过我要更正一下：“{point.text}”这个说法是错的，实际上并不成立。"
    return _relabelled(case, question, "contradict", f"{case.answer}{taken_back}", point.id, 0.0)


def pitfall(case: EvalCase, question: Question, rng: random.Random, aliases: Aliases) -> EvalCase | None:
    """A misconception, asserted. Points it speaks against are not relabelled: only direction and the hit count."""
    free = [p for p in question.pitfalls if p.id not in case.pitfalls]
    if not free:
        return None
    chosen = rng.choice(free)
    asserted = (*case.pitfalls, chosen.id)
    return _changed(
        case,
        "pitfall",
        answer=f"{case.answer}另外要记住，{chosen.claim}。",
        target=chosen.id,
        pitfalls=asserted,
        gold=gold_score(question, case.labels, asserted),
    )


def composed(question: Question) -> EvalCase:
    """An answer of one sentence for every point: what each sentence covers is known by construction."""
    labels = {p.id: 1.0 for p in question.rubric}
    return EvalCase(
        id=f"{question.id}.composed",
        question_id=question.id,
        tier="meta-composed",
        answer="".join(f"{p.text}。" for p in question.rubric),
        labels=labels,
        gold=100.0,
        suite="metamorphic",
        kind="composed",
    )


def remove(case: EvalCase, question: Question, rng: random.Random, aliases: Aliases) -> EvalCase | None:
    """The composed answer without the sentence of one point."""
    if case.kind != "composed" or len(question.rubric) < 2:
        return None
    gone = rng.choice(question.rubric)
    answer = "".join(f"{p.text}。" for p in question.rubric if p.id != gone.id)
    return _relabelled(case, question, "remove", answer, gone.id, 0.0)


TRANSFORMS: dict[str, Transform] = {
    "shuffle": shuffle,
    "synonym": synonym,
    "repeat-question": repeat_question,
    "fluff": fluff,
    "bullets": bullets,
    "permute": permute,
    "add": add,
    "remove": remove,
    "contradict": contradict,
    "pitfall": pitfall,
}
assert set(TRANSFORMS) == {*INVARIANT, *DIRECTED}


def metamorphic_cases(
    cases: Sequence[EvalCase], questions: Mapping[str, Question], aliases: Aliases, seed: int = 0
) -> list[EvalCase]:
    """One pair a question and transform; the base tier changes from pair to pair and never with the rest of the set."""
    made: list[EvalCase] = []
    for question in questions.values():
        own = [
            c
            for c in cases
            if c.question_id == question.id and c.suite == "authored" and c.tier in _BASE_TIERS
        ]
        whole = composed(question)
        made.append(whole)
        for kind, transform in TRANSFORMS.items():
            key = sha256(f"{seed}:{question.id}:{kind}")
            order = sorted(own, key=lambda c, key=key: sha256(f"{key}:{c.id}"))  # type: ignore[misc]
            for base in [whole] if kind == "remove" else order:
                changed = transform(base, question, random.Random(f"{key}:{base.id}"), aliases)
                if changed:
                    made.append(changed)
                    break
    return made
