"""Follow-ups checked by rule against the gold labels: aims at a gap, gives it away, repeats, is a question."""

from __future__ import annotations

from collections.abc import Callable

from coach.domain import Question
from coach.evals.cases import EvalCase
from coach.evals.store import Asked
from coach.text import tokens

LEAK = 0.6
REPEAT = 0.8


def aims(question: Question, case: EvalCase, asked: Asked) -> bool | None:
    """A target is a point that the answer really lacks or a pitfall that it really asserts, and the text is about
    it: shares a content word with the target or the question. None when the answer lacks nothing.
    """
    gaps = {i for i, label in case.labels.items() if label < 1} | set(case.pitfalls)
    if not gaps:
        return None
    wanted = gaps & set(asked.targets)
    about = [p.text for p in question.rubric if p.id in wanted]
    about += [p.claim for p in question.pitfalls if p.id in wanted]
    words = set(tokens(asked.ask))
    return bool(wanted) and any(words & set(tokens(f"{text} {question.question}")) for text in about)


def leaks(question: Question, case: EvalCase, asked: Asked) -> bool:
    """The text holds most words of a target point that the question itself had not named."""
    known, words = set(tokens(question.question)), set(tokens(asked.ask))
    secrets = [set(tokens(p.text)) - known for p in question.rubric if p.id in asked.targets]
    return any(secret and len(secret & words) / len(secret) >= LEAK for secret in secrets)


def repeats(question: Question, case: EvalCase, asked: Asked) -> bool:
    """The text is the question again (Jaccard over content words)."""
    a, b = set(tokens(asked.ask)), set(tokens(question.question))
    return bool(a | b) and len(a & b) / len(a | b) > REPEAT


def is_question(question: Question, case: EvalCase, asked: Asked) -> bool:
    return asked.ask.rstrip('”"’ ').endswith(("？", "?"))


CHECKS: dict[str, Callable[[Question, EvalCase, Asked], bool | None]] = {
    "aims": aims,
    "leaks": leaks,
    "repeats": repeats,
    "question": is_question,
}
