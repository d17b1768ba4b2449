"""Labelled answers, rule-made cases and metamorphic pairs."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coach.bank import load_bank
from coach.domain import Question
from coach.errors import UsageError
from coach.evals import transforms
from coach.evals.cases import EvalCase, gold_score, load_answers, select
from coach.evals.rules import Injection, load_injections
from coach.metrics import DIRECTED, INVARIANT
from coach.text import screen, sentences
from tests import evals_kit as kit

EVAL = kit.ROOT / "eval"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return kit.write_set(tmp_path)


@pytest.fixture
def scale(folder: Path) -> Question:
    return load_bank(folder / "knowledge" / "questions").get("scale")


def test_gold_is_the_arithmetic_of_a_grade(scale: Question) -> None:
    # weights 2 1 1: (2·1 + 1·½ + 0)/4 = 62.5; a pitfall of penalty 1 takes 25
    labels = {"variance": 1.0, "saturate": 0.5, "gradient": 0.0}
    assert gold_score(scale, labels) == 62.5
    assert gold_score(scale, labels, ["explode"]) == 37.5


GOOD = kit.answers()[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("{", "not JSON", id="broken JSON"),
        pytest.param(
            json.dumps({**GOOD, "question_id": "nope"}), "no question 'nope'", id="unknown question"
        ),
        pytest.param(
            json.dumps({**GOOD, "labels": {"variance": 1}}), "no label for gradient", id="label missing"
        ),
        pytest.param(
            json.dumps({**GOOD, "labels": {**GOOD["labels"], "x": 1}}),  # type: ignore[dict-item]
            "no point x",
            id="unknown point",
        ),
        pytest.param(
            json.dumps({**GOOD, "labels": {**GOOD["labels"], "variance": 0.7}}),  # type: ignore[dict-item]
            "must be 1, 0.5 or 0",
            id="label between",
        ),
        pytest.param(json.dumps({**GOOD, "pitfalls": ["x"]}), "no pitfall x", id="unknown pitfall"),
        pytest.param(json.dumps({**GOOD, "extra": 1}), "extra", id="unknown key"),
        pytest.param(json.dumps(GOOD), "used twice", id="same id twice"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(folder: Path, line: str, message: str) -> None:
    path = folder / "bad.jsonl"
    path.write_text(json.dumps(GOOD) + "\n\n" + line + "\n", encoding="utf8")
    with pytest.raises(UsageError) as caught:
        load_answers(path, load_bank(folder / "knowledge" / "questions"))
    assert f"{path}:3: " in caught.value.message and message in caught.value.message


def test_a_missing_split_names_those_that_are_here(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        kit.cases(folder, "train")
    assert "dev, test" in caught.value.hint


def test_every_question_gets_answers_that_deserve_nothing(folder: Path) -> None:
    made = [c for c in kit.cases(folder).cases if c.suite == "floor"]
    assert {(c.question_id, c.tier) for c in made} == {
        (q, t) for q in kit.IDS for t in ("echo", "empty", "unknown", "off-topic")
    }
    for case in made:
        assert case.gold == 0.0 and set(case.labels.values()) == {0.0}
        if case.tier == "off-topic":
            assert case.target != case.question_id


def test_the_shipped_attacks_cover_both_languages_and_every_family() -> None:
    forms = load_injections(EVAL / "injections.yaml")
    assert len(forms) >= 40 and {f.lang for f in forms} == {"zh", "en"}
    families = {
        "override",
        "fake-verdict",
        "role-tag",
        "delimiter",
        "rubric-echo",
        "zero-width",
        "html-comment",
        "begging",
        "system",
    }
    assert {f.family for f in forms} == families
    for form in forms:
        attacked = form.apply("我的回答{answer}。", "问？")
        assert "我的回答{answer}。" in attacked and "{question}" not in attacked
        if form.zero_width:
            assert screen(attacked).hidden


def test_all_attacks_are_tried_even_with_few_questions(folder: Path) -> None:
    forms = load_injections(EVAL / "injections.yaml")
    made = [c for c in kit.cases(folder).cases if c.suite == "injection"]
    assert {c.kind for c in made} == {f.id for f in forms}
    base = {c.id: c for c in kit.cases(folder).cases}
    assert all(base[c.base].tier == "weak" and c.labels == base[c.base].labels for c in made)


def test_an_injection_does_not_read_the_answer_as_a_template() -> None:
    form = Injection(id="x", family="system", lang="zh", text="前 {answer} 后")
    assert form.apply("{question} {answer}", "问") == "前 {question} {answer} 后"


def test_every_transform_is_used_and_stable(folder: Path) -> None:
    made = {c.id: c for c in kit.cases(folder).cases}
    kinds = {c.kind for c in made.values() if c.suite == "metamorphic"}
    assert kinds >= {*INVARIANT, *DIRECTED, "composed"} - {"pitfall"} and "pitfall" in kinds
    assert made == {c.id: c for c in kit.cases(folder).cases}
    part = {c.id: c for c in kit.cases(folder, sample=1, seed=3).cases}
    assert part and all(made[i] == c for i, c in part.items())
    for case in made.values():
        if case.suite == "metamorphic" and case.base:
            assert (case.answer, case.order) != (made[case.base].answer, ()), case.id


def test_directed_changes_change_the_label_they_say(folder: Path) -> None:
    made = {c.id: c for c in kit.cases(folder).cases}
    for case in made.values():
        base = made.get(case.base)
        if base is None:
            continue
        assert case.gold is not None and base.gold is not None
        if case.kind == "add":
            assert base.labels[case.target] == 0 and case.labels[case.target] == 1 and case.gold > base.gold
        elif case.kind in ("remove", "contradict"):
            assert base.labels[case.target] == 1 and case.labels[case.target] == 0 and case.gold < base.gold
        elif case.kind == "pitfall":
            assert case.target in case.pitfalls and case.gold <= base.gold
        elif case.kind in INVARIANT:
            assert case.gold == base.gold


def _case(answer: str) -> EvalCase:
    return EvalCase(id="x", question_id="scale", tier="good", answer=answer)


@given(st.text("甲乙丙丁。，！？\n a.", min_size=1, max_size=80), st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_shuffling_keeps_every_sentence(answer: str, seed: int) -> None:
    changed = transforms.shuffle(_case(answer), None, random.Random(seed), [])  # type: ignore[arg-type]
    if changed:
        squeeze = lambda text: sorted("".join(text.split()))  # noqa: E731
        assert squeeze(changed.answer) == squeeze("".join(s.text for s in sentences(answer)))


def test_aliases_are_swapped_once_and_whole() -> None:
    pairs = [("注意力", "attention"), ("损失", "loss")]
    swap = lambda text: transforms.synonym(_case(text), None, random.Random(0), pairs)  # type: ignore[arg-type]  # noqa: E731
    changed = swap("注意力和 Attention，lossless 与损失")
    assert changed is not None and changed.answer == "attention和 注意力，lossless 与loss"
    assert swap("没有术语") is None


def test_lists_become_prose_and_back() -> None:
    both = lambda text: transforms.bullets(_case(text), None, random.Random(0), [])  # type: ignore[arg-type]  # noqa: E731
    assert both("先这样。再那样。").answer == "- 先这样。\n- 再那样。"  # type: ignore[union-attr]
    assert both("- 先这样\n- 再那样").answer == "先这样。再那样。"  # type: ignore[union-attr]


def test_a_filter_keeps_the_bases_of_what_it_keeps(folder: Path) -> None:
    everything = kit.cases(folder).cases
    kept = select(everything, suites=["injection"])
    assert {c.suite for c in kept} == {"injection", "authored"} and {c.tier for c in kept} == {
        "injection",
        "weak",
    }
    one = select(everything, sample=1, seed=5)
    assert len({c.question_id for c in one}) == 1
    with pytest.raises(UsageError, match="no case fits"):
        select(everything, tiers=["nothing"])
