"""What the embedded judge is trained on: labels that can be trusted in form, and no question that measures it."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

from coach.bank import Bank, load_bank
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def data() -> ModuleType:
    spec = importlib.util.spec_from_file_location("data", ROOT / "eval" / "training" / "data.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["data"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bank() -> Bank:
    return load_bank(ROOT / "knowledge" / "questions")


def test_no_question_of_the_eval_set_is_trained_on(data: ModuleType, bank: Bank) -> None:
    cases = data.training_cases(bank)
    held_out = {
        json.loads(line)["question_id"]
        for split in ("dev", "test")
        for line in (ROOT / "eval" / "answers" / f"{split}.jsonl").read_text(encoding="utf8").splitlines()
    }
    assert not {c.question_id for c in cases} & held_out
    assert len(cases) > 5_000 and len({c.id for c in cases}) == len(cases)
    assert sum(len(c.claims) for c in cases) > 30_000
    for case in cases:
        assert len(case.claims) == len(case.label) == len(case.weight) and 0 < case.points <= len(case.claims)
        facts = range(len(case.claims)) if not case.criteria else range(case.facts)
        assert all(math.isnan(case.label[i]) or case.label[i] in (0, 0.5, 1) for i in facts), case.id
        assert case.answer.strip() and list(case.claims[: case.facts]) == sorted(case.claims[: case.facts])


def test_the_second_stage_meets_free_answers_and_a_third_of_the_first_again(
    data: ModuleType, bank: Bank
) -> None:
    tidy, free, *_ = ({c.id for c in stage} for stage in data.stages(bank))
    assert len(tidy & free) == len(tidy) // 3
    assert all("free-" in i for i in free - tidy) and len(free - tidy) > 2_500


def test_the_third_stage_brings_other_answers_and_criteria_and_keeps_some_of_before(
    data: ModuleType, bank: Bank
) -> None:
    tidy, free, last, _ = ({c.id: c for c in stage} for stage in data.stages(bank))
    before = {**tidy, **free}
    assert 400 < len(last.keys() & before.keys()) < 600
    new = [c for i, c in last.items() if i not in before]
    assert len(new) > 1_900 and sum(c.tier == "criteria" for c in new) > 150
    # Levels are calibrated on answers to questions whose criteria the adapter was not trained on.
    fitted = data.criteria(ROOT / "eval" / "training" / "levels.jsonl", bank)
    assert not {c.question_id for c in fitted} & {c.question_id for c in data.training_cases(bank)}


def test_the_fourth_stage_takes_points_back_in_other_words_than_the_eval_does(
    data: ModuleType, bank: Bank
) -> None:
    *before, last = data.stages(bank)
    known = {c.id: c for stage in (*before, last) for c in stage}
    made = [c for c in last if c.tier in ("taken-back", "confirmed")]
    assert len(made) == 240 and {c.tier for c in made} == {"taken-back", "confirmed"}
    for case in made:
        base = known[case.id.rsplit(".", 1)[0]]
        moved = [i for i in range(len(case.label)) if case.label[i] != base.label[i]]
        assert len(moved) == (case.tier == "taken-back")
        assert all(base.label[i] == 1 and case.label[i] == 0 for i in moved)
        said = case.answer[len(base.answer.rstrip()) :]
        assert "这个说法是错的" not in said and "我要更正一下" not in said  # eval's own words


@pytest.mark.parametrize("name", ["criteria", "levels"])
def test_criteria_carry_a_level_and_only_questions_that_have_them_are_there(
    data: ModuleType, bank: Bank, name: str
) -> None:
    cases = data.criteria(ROOT / "eval" / "training" / f"{name}.jsonl", bank)
    assert len(cases) >= 125 and len({c.id for c in cases}) == len(cases)
    levels = [c.label[i] for c in cases for i in range(c.facts, c.points)]
    assert {round(3 * v, 6) for v in levels} == {0, 1, 2, 3}
    assert min(levels.count(n / 3) for n in range(4)) > 0.1 * len(levels)
    for case in cases:
        assert case.criteria >= 2 and len(case.claims) == len(case.label) == len(case.weight), case.id


def test_rule_made_answers_earn_nothing_and_tainted_references_say_only_what_is_known(
    data: ModuleType, bank: Bank
) -> None:
    cases = {c.id: c for c in data.training_cases(bank)}
    made = [c for c in cases.values() if c.tier in ("off-topic", "echo", "unknown")]
    assert made and all(not any(c.label) for c in made)
    tainted = [c for c in cases.values() if c.tier == "tainted"]
    for case in tainted:
        assert all(math.isnan(v) for v in case.label[: case.points])
        asserted = [
            c for c, v in zip(case.claims[case.points :], case.label[case.points :], strict=True) if v
        ]
        assert len(asserted) == 1 and asserted[0].rstrip("。") in case.answer
    assert tainted and all(set(c.label) <= {0, 1} for c in cases.values() if c.tier == "reference")


def test_a_label_too_few_names_file_and_line(data: ModuleType, tmp_path: Path) -> None:
    row = {"id": "x", "question": "问", "points": ["甲", "乙"], "pitfalls": [],
           "answers": [{"tier": "full", "answer": "答", "labels": [1], "pitfalls": []}]}  # fmt: skip
    path = tmp_path / "g.jsonl"
    path.write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf8")
    with pytest.raises(SystemExit, match=r"g\.jsonl:1: full"):
        data.general(path)
    path.write_text("{", encoding="utf8")
    with pytest.raises(SystemExit, match=r"g\.jsonl:1"):
        data.general(path)
