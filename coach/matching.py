"""Units of imported notes ↔ bank questions that ask the same, by e5 cosine of the two questions.

On 494 hand-mapped question lines the nearest bank question at 0.92 or more is the right one in 90 %, at 0.95 in 96 %.
A match lends a passage the bank question's words for searching; it never changes what the passage says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from coach.bank import Bank
from coach.embed import Embedder, Progress, VectorCache, cosine
from coach.notes.model import Unit

MATCH = 0.92


def match_units(
    units: Sequence[Unit],
    bank: Bank,
    embedder: Embedder,
    cache: VectorCache,
    progress: Progress | None = None,
) -> list[Unit]:
    """The units in order, with `bank`, `bank_cosine` and `context` filled in where a bank question is near."""
    questions = list(bank)
    asked = [i for i, u in enumerate(units) if u.question]
    out = list(units)
    if not questions or not asked:
        return out
    texts = [q.question for q in questions] + [units[i].question for i in asked]
    vectors, _ = cache.encode(embedder, texts, progress)
    similar = cosine(vectors[len(questions) :], vectors[: len(questions)])
    for row, i in enumerate(asked):
        best = int(similar[row].argmax())
        value = float(similar[row, best])
        if value >= MATCH:
            near = questions[best]
            context = "\n".join([near.question, *(p.text for p in near.rubric)])
            out[i] = replace(units[i], bank=near.id, bank_cosine=round(value, 3), context=context)
        else:
            out[i] = replace(units[i], bank="", bank_cosine=round(value, 3), context="")
    return out
