"""A whole split: labelled answers, and everything that is made from them by rule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from coach.bank import Bank
from coach.evals.cases import EvalCase, EvalSet, load_answers, select
from coach.evals.rules import floor_cases, injection_cases, load_injections
from coach.evals.transforms import load_aliases, metamorphic_cases


def assemble(
    folder: Path,
    split: str,
    bank: Bank,
    *,
    suites: Sequence[str] = (),
    tiers: Sequence[str] = (),
    sample: int | None = None,
    seed: int = 0,
) -> EvalSet:
    """The cases of `folder/answers/<split>.jsonl` and their offspring, cut down by the filters.

    Cases made by rule do not depend on `seed`, which only chooses the sampled questions.
    """
    authored = load_answers(folder / "answers" / f"{split}.jsonl", bank)
    ids = sorted({c.question_id for c in authored})
    questions = {i: bank.get(i) for i in ids}
    made: list[EvalCase] = [
        *authored,
        *floor_cases(questions, list(bank)),
        *injection_cases(authored, questions, load_injections(folder / "injections.yaml")),
        *metamorphic_cases(authored, questions, load_aliases(folder / "aliases.yaml")),
    ]
    chosen = select(made, suites=suites, tiers=tiers, sample=sample, seed=seed)
    return EvalSet(split, tuple(chosen), questions)
