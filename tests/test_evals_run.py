"""Runs: nothing judged is lost, nothing is judged twice, nothing unreadable is dropped."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from coach.config import load_settings
from coach.domain import Status, Usage
from coach.errors import LLMUnavailable, LLMUnreadable, UsageError
from coach.evals.cases import EvalCase
from coach.evals.floors import FLOORS, holistic_prompt, predict_floors, read_score
from coach.evals.measure import cost, measure
from coach.evals.runner import Subject, execute
from coach.evals.store import Run
from coach.grade import Grader
from coach.index import open_index
from coach.judge.structured import StructuredJudge
from coach.llm import open_llm
from coach.prompts import Messages
from tests import evals_kit as kit
from tests.fakes import HashEmbedder, ScriptedEndpoint, completion

FIRST = {"variance", "frozen", "reuse"}  # the first point of every question
PART = ["authored", "floor"]  # 12 answers and 12 that deserve nothing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return kit.write_set(tmp_path)


def test_a_run_judges_every_case_and_every_floor(folder: Path) -> None:
    run, records = kit.run_all(folder)
    cases = run.cases
    graded = {r.case_id for r in records.values() if r.system == "grader"}
    holistic = {r.case_id for r in records.values() if r.system == "holistic"}
    assert graded == {c.id for c in cases.cases}
    assert holistic == {c.id for c in cases.cases if c.suite != "metamorphic"}
    assert set(run.floors()) == set(FLOORS) == {"constant", "length", "lexical", "cosine"}
    by_case = {r.case_id: r for r in records.values() if r.system == "grader"}
    assert by_case["scale.excellent"].score.value == 100 and by_case["scale.weak"].score.value == 0  # type: ignore[union-attr]
    assert by_case["scale.rule-empty"].score is None


def test_a_second_call_asks_the_model_nothing(folder: Path) -> None:
    kit.run_all(folder, suites=PART)
    before = (folder / "home/evals/run/items.jsonl").read_bytes()
    _, records = kit.run_all(folder, lambda m: LLMUnavailable("must not be asked"), suites=PART)
    assert records and (folder / "home/evals/run/items.jsonl").read_bytes() == before


def test_kill_9_loses_at_most_the_item_in_flight(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole_folder = kit.write_set(tmp_path_factory.mktemp("whole"))
    whole, _ = kit.run_all(whole_folder, suites=PART)
    killed = subprocess.run(
        [sys.executable, "-m", "tests.evals_kit", str(folder), "25"], cwd=kit.ROOT, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    path = folder / "home/evals/run/items.jsonl"
    finished = path.read_bytes().count(b"\n")
    assert 3 < finished < 48
    with path.open("ab") as f:  # what a kill in the middle of a write leaves behind
        f.write(b'{"key": "torn')
    asked: list[Messages] = []
    run, records = kit.run_all(folder, lambda m: (asked.append(m), kit.by_words(m))[1], suites=PART)
    assert len(records) == 48 and path.read_bytes().count(b"\n") == 48
    assert b"torn" not in path.read_bytes()
    a, b = measure(whole, 50).as_json(), measure(run, 50).as_json()
    for found in (a, b):
        found["counts"]["usage"].pop("seconds")
        for row in found["metrics"].values():
            row.pop("seconds")
    assert a == b
    whole_calls = whole_folder / "home/evals/run/items.jsonl"
    assert len(asked) < sum(json.loads(x).get("usage", {}).get("calls", 0) for x in whole_calls.open())


@pytest.mark.parametrize("jobs", [1, 3])
def test_ctrl_c_keeps_what_was_finished(folder: Path, jobs: int) -> None:
    lock, calls = threading.Lock(), 0

    def answer(messages: Messages) -> str | float:
        nonlocal calls
        with lock:
            calls += 1
            if calls == 20:
                raise KeyboardInterrupt
        return kit.by_words(messages)

    with pytest.raises(KeyboardInterrupt):
        kit.run_all(folder, answer, suites=PART, jobs=jobs)
    run = Run.open(folder / "home/evals/run")
    kept = set(run.records())
    assert kept
    _, records = kit.run_all(folder, suites=PART, jobs=jobs)
    assert kept < set(records) and len(records) == 48


def test_threads_give_the_same_records(folder: Path) -> None:
    _, one = kit.run_all(folder, name="one", suites=PART)
    _, many = kit.run_all(folder, name="many", suites=PART, jobs=4)
    plain = lambda records: {k: r.model_copy(update={"usage": type(r.usage)()}) for k, r in records.items()}  # noqa: E731
    assert plain(one) == plain(many)


def test_repeats_are_asked_again_and_never_from_a_cache(folder: Path) -> None:
    asked = 0

    def moody(messages: Messages) -> str | float:
        nonlocal asked
        asked += 1
        return "50" if "给考生的回答打分" in messages[-1]["content"] else (0.999 if asked % 2 else 0.001)

    run, records = kit.run_all(folder, moody, repeats=3, suites=["authored"])
    assert sum(r.system == "grader" for r in records.values()) == 36
    found = measure(run, 0).metrics["grader"]
    assert found["differing_scores"].value and found["repeat_flips"].value and found["max_delta"].value
    steady, _ = kit.run_all(folder, name="steady", repeats=3, suites=["authored"])
    found = measure(steady, 0).metrics["grader"]
    assert (found["differing_scores"].value, found["max_delta"].value, found["icc"].value) == (0, 0, 1)
    assert (
        measure(kit.run_all(folder, name="once", suites=["authored"])[0], 0).metrics["grader"]["icc"].value
        is None
    )


def test_unreadable_and_failed_items_are_counted_and_shown(folder: Path) -> None:
    def answer(messages: Messages) -> str | float | Exception:
        text = messages[-1]["content"]
        if "历史包袱" in text and "打分" not in text:
            return "天气不错"
        if "网上很多人讲过" in text and "打分" not in text:
            return LLMUnreadable("no completion", raw="<html>")
        return "不好说" if "打分" in text else kit.by_words(messages)

    run, _ = kit.run_all(folder, answer, suites=PART)
    found = measure(run, 0)
    c = found.counts
    assert (c["unreadable"], c["errors"], c["empty"], c["missing"]) == (3, 3, 3, 0)
    assert c["graded"] == c["scored"] + c["empty"] + c["unreadable"] + c["errors"] == 24
    assert c["holistic"] == c["holistic_unreadable"] == 24
    assert found.metrics["grader"]["scored_answers"].value == pytest.approx(18 / 24)
    # 7 of the 14 authored points of each of two tiers could not be judged: 14 of 28
    assert found.metrics["grader"]["judged_points"].value == pytest.approx(0.5)
    assert found.confusion["0"]["unjudged"] == 14
    json.dumps(found.as_json(), allow_nan=False)


def test_an_endpoint_is_voted_on_repaired_checked_and_billed(folder: Path) -> None:
    """The same harness, the structured judge, a scripted HTTP endpoint."""

    def script(body: dict[str, Any], n: int) -> tuple[int, dict[str, str], str]:
        text = "\n".join(m["content"] for m in body["messages"][:2])
        if "\nPOINTS\n" not in text:
            return 200, {}, completion("50" if kit.HOLISTIC in text else kit.NEXT)
        answer = re.search(r"<<<\n(.*?)\n>>>", text, re.S)[1]  # type: ignore[index]
        ids = re.findall(r"^- ([a-z]+):", text.split("\nPOINTS\n")[1].split("\nPITFALLS\n")[0], re.M)
        about = next(q for q, points in kit.IDS.items() if ids[0] in points)
        judged[about, answer] += 1
        seen = judged[about, answer]

        def row(i: str, status: str, quote: str) -> dict[str, object]:
            return {"id": i, "status": status, "level": None, "quote": quote, "reason": "", "confidence": 0.9}

        if "历史包袱" in answer and len(body["messages"]) == 2:
            return 200, {}, completion("我觉得全错")  # not JSON: repaired
        if "大概就是这样" in answer and ids[0] in FIRST:
            said = ("partial", "missing", "covered")[(seen - 1) % 3]  # no two readings agree: abstains
            rows = [
                row(i, said if i in FIRST else "missing", "" if said == "missing" else answer[:5])
                for i in ids
            ]
        elif "网上很多人讲过" in answer:
            rows = [row(i, "partial" if seen == 1 else "missing", "从没说过的话") for i in ids]  # downgraded
        else:
            says = answer[:6] if "历史包袱" not in answer else ""
            rows = [row(i, "covered" if says else "missing", says) for i in ids]
        return 200, {}, completion(json.dumps({"points": rows, "pitfalls": []}))

    judged: Counter[tuple[str, str]] = Counter()
    kit.factory(folder)  # the index
    with ScriptedEndpoint(script) as server:
        config = load_settings(
            {
                "COACH_HOME": str(folder / "home"),
                "COACH_KNOWLEDGE": str(folder / "knowledge"),
                "COACH_LLM": "scripted",
                "COACH_BASE_URL": server.url,
                "COACH_PRICE_IN": "1000000",
                "COACH_PRICE_OUT": "2000000",
            }
        )

        def make() -> Subject:
            llm = open_llm(config)
            index = open_index(folder / "index", HashEmbedder())
            return Subject(Grader(config, StructuredJudge(config, llm), index, llm), llm, HashEmbedder())

        run = kit.start(folder, kit.cases(folder, suites=["authored"]), make())
        records = execute(run, make, holistic_prompt(config)).values()
    by_case = {r.case_id: r for r in records if r.system == "grader"}
    found = measure(run, 0)
    assert found.counts["errors"] == found.counts["unreadable"] == 0
    for question, points in kit.IDS.items():
        excellent, good, weak, wrong = (
            by_case[f"{question}.{tier}"] for tier in ("excellent", "good", "weak", "confident-error")
        )
        assert {v.status for v in excellent.verdicts} == {Status.COVERED}
        assert [v.status for v in good.verdicts] == [Status.UNJUDGED] + [Status.MISSING] * (len(points) - 1)
        assert {v.status for v in weak.verdicts} == {v.status for v in wrong.verdicts} == {Status.MISSING}
        # Sure: once; three readings; quote not found, so read again; repaired.
        assert [judged[question, c.answer] for c in run.cases.cases if c.question_id == question] == [
            1,
            3,
            2,
            2,
        ]
    for case in run.cases.cases:
        for v in by_case[case.id].verdicts:
            assert v.quote is None or case.answer[v.quote.start : v.quote.end] == v.quote.text
    assert found.metrics["grader"]["judged_points"].value == pytest.approx(25 / 28)
    used = sum((r.usage for r in records), Usage())
    tried_out = [c for c in server.calls if "Reply with the JSON" in c["messages"][0]["content"]]
    assert used.calls == len(server.calls) - len(tried_out)
    assert cost(used, config) == 12 * used.calls + 2 * 3 * used.calls


def test_an_endpoint_that_goes_down_stops_the_run_and_the_next_call_goes_on(folder: Path) -> None:
    calls = 0

    def answer(messages: Messages) -> str | float | Exception:
        nonlocal calls
        calls += 1
        return LLMUnavailable("down") if calls > 10 else kit.by_words(messages)

    with pytest.raises(LLMUnavailable):
        kit.run_all(folder, answer, suites=PART)
    run = Run.open(folder / "home/evals/run")
    assert 0 < len(run.records()) < 48 and measure(run, 0).counts["missing"] > 0
    assert all(r.status != "error" for r in run.records().values())
    _, records = kit.run_all(folder, suites=PART)
    assert len(records) == 48


def test_a_folder_of_another_run_is_refused(folder: Path) -> None:
    kit.run_all(folder, suites=PART)
    with pytest.raises(UsageError, match="other settings"):
        kit.run_all(folder, suites=PART, repeats=2)


def test_two_processes_do_not_work_on_one_run(folder: Path) -> None:
    run, _ = kit.run_all(folder, suites=PART)
    with run.locked(), pytest.raises(UsageError, match="another process"):
        execute(
            Run.open(run.folder),
            kit.factory(folder),
            holistic_prompt(kit.settings_for(folder)),
            holistic=False,
        )


def test_a_broken_line_is_named(folder: Path) -> None:
    run, _ = kit.run_all(folder, suites=PART)
    path = run.folder / "items.jsonl"
    path.write_bytes(b"nonsense\n" + path.read_bytes())
    with pytest.raises(UsageError, match=r"items\.jsonl:1"):
        run.records()


# ── floors ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("85", 85.0),
        ("得分：85分", 85.0),
        ("85/100", 85.0),
        ("0", 0.0),
        ("不好说", None),
        ("120", None),
        ("3 或 4", None),
        ("", None),
    ],
)
def test_a_holistic_reply_is_one_number_or_none(reply: str, score: float | None) -> None:
    assert read_score(reply) == score


def test_floors_never_see_the_question_they_predict(folder: Path) -> None:
    """Gold of one question is turned upside down: predictions for that question must not move."""
    eval_set = kit.cases(folder, suites=["authored"])
    before = predict_floors(eval_set.cases, eval_set.questions, HashEmbedder())
    flipped = [
        c.model_copy(update={"gold": 100 - c.gold, "labels": {i: 1 - x for i, x in c.labels.items()}})
        if c.question_id == "scale" and c.gold is not None
        else c
        for c in eval_set.cases
    ]
    after = predict_floors(flipped, eval_set.questions, HashEmbedder())
    for name in FLOORS:
        for case in eval_set.cases:
            same = before[name][case.id] == after[name][case.id]
            assert same if case.question_id == "scale" else (not same or name != "constant")


def test_a_floor_fitted_on_another_split_uses_only_that(folder: Path) -> None:
    eval_set = kit.cases(folder, suites=["authored"])
    train = [c.model_copy(update={"id": f"dev-{c.id}", "gold": 42.0}) for c in eval_set.cases]
    found = predict_floors(eval_set.cases, eval_set.questions, HashEmbedder(), fit_on=train)
    assert {row["score"] for row in found["constant"].values()} == {42.0}


def test_a_set_of_one_question_is_folded_by_answer(folder: Path) -> None:
    eval_set = kit.cases(folder, suites=["authored"])
    own: list[EvalCase] = [c for c in eval_set.cases if c.question_id == "scale"]
    found = predict_floors(own, eval_set.questions, HashEmbedder())
    assert set(found["length"]) == {c.id for c in own}
    assert len({row["score"] for row in found["constant"].values()}) > 1
