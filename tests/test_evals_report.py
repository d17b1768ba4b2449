"""What runs say: measurements, reports, comparison, baseline, gate, rescoring, external sets, the command line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from coach import wiring
from coach.domain import Status, Verdict
from coach.errors import UsageError
from coach.evals.baseline import Thresholds, bless, read_baseline, rescore, snapshot
from coach.evals.compare import compare
from coach.evals.external import Fields, load_external
from coach.evals.floors import holistic_prompt
from coach.evals.gate import gate, read_budgets
from coach.evals.html import highlighted, render
from coach.evals.measure import measure
from coach.evals.runner import execute
from coach.evals.store import Run
from coach.score import credit
from tests import evals_kit as kit

BUDGETS = kit.ROOT / "eval" / "budgets.toml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kit.write_set(tmp_path_factory.mktemp("eval"))


@pytest.fixture(scope="module")
def good(folder: Path) -> Run:
    return kit.run_all(folder, name="good", repeats=2)[0]


@pytest.fixture(scope="module")
def worse(folder: Path) -> Run:
    return kit.run_all(folder, kit.says_yes, name="worse", repeats=2)[0]


def test_a_measurement_adds_up_and_tells_the_graders_apart(good: Run, worse: Run) -> None:
    a, b = measure(good, 100), measure(worse, 100)
    assert sum(sum(row.values()) for row in a.confusion.values()) == 28  # 4 answers of 3 + 2 + 2 points
    assert sum(map(sum, a.marks)) == 12
    one, two = a.metrics["grader"], b.metrics["grader"]
    assert one["point_balanced_accuracy"].value == 1.0 and one["qwk"].value == pytest.approx(1.0)
    assert (two["point_tpr"].value, two["point_tnr"].value) == (1.0, 0.0)
    assert (
        two["confident_error_share"].value == pytest.approx(1.0) and one["confident_error_share"].value == 0
    )
    assert (
        one["off_topic_score"].value == 0
        and two["unknown_score"].value == 100
        and two["empty_score"].value == 0
    )
    assert (
        one["wrong_direction"].value == 0
        and one["sensitivity"].value
        and two["sensitivity"].value < one["sensitivity"].value
    )  # type: ignore[operator]
    assert one["followup_aims"].value is not None and one["honest_flagged"].value == 0
    assert a.metrics["constant"]["within_r"].value == 0.0 and a.metrics["holistic"]["qwk"].value is not None
    assert a.against["holistic"]["within_r"].low is not None and a.against["holistic"]["within_r"].low > 0
    assert sum(row["tries"] for row in a.injections.values()) == a.metrics["grader"]["injection_success"].rows


def test_the_same_run_is_measured_the_same_twice(good: Run) -> None:
    assert measure(good, 50).as_json() == measure(good, 50).as_json()


# ── compare, bless, gate ─────────────────────────────────────────────────────────────────────────
def test_comparing_names_what_changed_and_what_moved(good: Run, worse: Run) -> None:
    same = compare(snapshot(good), good, 50)
    assert not same.items and not same.changed
    assert all(d.value == 0 for d in same.metrics.values())
    found = compare(snapshot(good), worse, 200)
    assert found.metrics["point_tnr"].value == -1 and found.metrics["point_tnr"].high < 0  # type: ignore[operator]
    assert found.items[0]["delta"] == 100 and found.items[0]["verdicts"]
    changed = worse.meta.fingerprint.model_copy(update={"model": "other", "prompts": {"judge-point": "x"}})
    side = snapshot(Run(good.folder, good.meta.model_copy(update={"fingerprint": changed})))
    assert set(compare(side, good, 0).changed) == {"model", "prompt judge-point"}


def test_a_baseline_is_compact_and_says_the_same(good: Run, worse: Run, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    bless(path, good, measure(good, 50))
    kept = read_baseline(path)
    assert path.stat().st_size < 0.4 * (good.folder / "items.jsonl").stat().st_size
    from_file, from_run = compare(kept, worse, 50), compare(snapshot(good), worse, 50)
    assert {k: v for k, v in from_file.metrics.items() if k != "seconds"} == {
        k: v for k, v in from_run.metrics.items() if k != "seconds" and not k.startswith("followup")
    }
    with pytest.raises(UsageError, match="not a baseline"):
        path.write_text("[]", encoding="utf8")
        read_baseline(path)


def test_an_unfinished_run_is_not_blessed(good: Run, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(good.folder, half)
    lines = (half / "items.jsonl").read_text(encoding="utf8").splitlines(keepends=True)
    (half / "items.jsonl").write_text("".join(lines[:20]), encoding="utf8")
    run = Run.open(half)
    with pytest.raises(UsageError, match="lacks"):
        bless(tmp_path / "b.json", run, measure(run, 0))
    assert "not graded yet" in render(measure(run, 0))


def test_the_gate_passes_the_baseline_itself_and_catches_a_worse_prompt(
    good: Run, worse: Run, tmp_path: Path
) -> None:
    path = tmp_path / "b.json"
    bless(path, good, measure(good, 0))
    baseline, budgets = read_baseline(path), read_budgets(BUDGETS)
    fine = gate(good, measure(good, 200), budgets, baseline, 200)
    assert all(c.ok for c in fine if c.kind == "baseline") and any(c.kind == "baseline" for c in fine)
    caught = gate(worse, measure(worse, 200), budgets, baseline, 200)
    failed = {(c.metric, c.kind) for c in caught if c.ok is False}
    assert failed >= {
        ("point_tnr", "baseline"),
        ("qwk", "baseline"),
        ("confident_error_share", "baseline"),
        ("point_tnr", "budget"),
        ("off_topic_score", "budget"),
        ("qwk", "floor"),
    }


def test_a_budget_that_was_not_measured_does_not_pass(folder: Path) -> None:
    run, _ = kit.run_all(folder, name="part", suites=["authored"])
    checks = {(c.metric, c.kind): c for c in gate(run, measure(run, 0), read_budgets(BUDGETS), None)}
    assert (
        checks["differing_scores", "budget"].ok is None and checks["injection_success", "budget"].ok is None
    )
    assert checks["qwk", "budget"].ok is True


@pytest.mark.parametrize("text", ["[test.qkw]\nmin = 1\n", "[test.qwk]\nminimum = 1\n", "[test\n"])
def test_a_typo_in_the_budgets_is_no_budget_kept(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.toml").write_text(text, encoding="utf8")
    with pytest.raises(UsageError):
        read_budgets(tmp_path / "b.toml")


# ── rescore ──────────────────────────────────────────────────────────────────────────────────────
def test_rescoring_follows_todays_weights_without_a_model(good: Run, tmp_path: Path) -> None:
    questions = dict(good.cases.questions)
    same = rescore(good, tmp_path / "same", questions)
    assert measure(same, 0).metrics == measure(good, 0).metrics
    old = questions["scale"]
    heavy = tuple(p.model_copy(update={"weight": 6 if p.id == "variance" else 1}) for p in old.rubric)
    made = rescore(good, tmp_path / "new", {"scale": old.model_copy(update={"rubric": heavy})})
    score = {r.case_id: r.score.value for r in made.records().values() if r.score and r.system == "grader"}
    assert score["scale.good"] == 75.0 and score["rank.good"] == 50.0  # 6/8, and 1/2 as before
    assert next(c.gold for c in made.cases.cases if c.id == "scale.good") == 75.0
    assert made.meta.derived_from == "good"


def test_rescoring_with_other_thresholds_decides_points_again_and_nothing_else(
    good: Run, tmp_path: Path
) -> None:
    def points(run: Run) -> list[Verdict]:
        judged = [v for r in run.records().values() for v in r.verdicts]
        return [v for v in judged if v.probability is not None]

    p = sorted({v.probability for v in points(good)})
    assert len(p) >= 2 and p[0] < p[-1]
    strict = rescore(good, tmp_path / "strict", good.cases.questions, Thresholds(1.0, 1.0))
    assert {v.status for v in points(strict)} == {Status.MISSING} and not any(v.quote for v in points(strict))
    assert {r.score.value for r in strict.records().values() if r.score and r.verdicts} == {0}
    lenient = rescore(good, tmp_path / "lenient", good.cases.questions, Thresholds(1.0, p[0]))
    assert {v.status for v in points(lenient)} == {Status.PARTIAL}
    assert {credit(v) for v in points(lenient)} <= {0.25, 0.5, 0.75}
    path = tmp_path / "base.json"
    bless(path, lenient, measure(lenient, 0))  # a quarter survives the compact file
    kept = read_baseline(path).predictions
    assert {p.credit for (c, _), row in kept.items() for p in row.points.values()} >= {
        credit(v) for v in points(lenient)
    }
    assert [v.probability for v in points(lenient)] == [v.probability for v in points(good)]
    assert "covered from 1" in lenient.meta.derived_from
    with pytest.raises(UsageError, match="partial ≤ covered"):
        Thresholds(0.3, 0.5)


def test_rescoring_gives_no_credit_to_what_had_no_evidence(good: Run, tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    shutil.copytree(good.folder, folder)
    lines = []
    for line in (folder / "items.jsonl").read_text(encoding="utf8").splitlines():
        row = json.loads(line)
        for v in row.get("verdicts", []):
            if v["status"] != "missing" and v["point_id"] == "variance":
                v.update(status="missing", quote=None)  # probable, and nothing in the answer to show for it
        lines.append(json.dumps(row, ensure_ascii=False))
    (folder / "items.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    made = rescore(Run.open(folder), tmp_path / "again", good.cases.questions, Thresholds(0.02, 0.01))
    found = {
        v.status
        for r in made.records().values()
        for v in r.verdicts
        if v.point_id == "variance" and (v.probability or 0) > 0.5
    }
    assert found == {Status.MISSING}


# ── external sets ────────────────────────────────────────────────────────────────────────────────
CSV = (
    "n,Q,A,R,mark\n"
    "1,为什么缩放？,点积的方差等于维度,点积的方差等于维度。方差过大时归一化会饱和。,5\n"
    "2,为什么缩放？,不知道说什么好,点积的方差等于维度。方差过大时归一化会饱和。,0\n"
    '3,为什么缩放？,"方差过大时归一化会饱和，\n点积的方差等于维度",点积的方差等于维度。方差过大时归一化会饱和。,10\n'
    "4,缓存什么？,历史的键和值,缓存历史的键和值。避免重复计算。,6\n"
    "5,缓存什么？,没有听说过,缓存历史的键和值。避免重复计算。,0\n"
    "6,缓存什么？,避免重复计算,缓存历史的键和值。避免重复计算。,4\n"
)
FIELDS = Fields("Q", "A", "mark", reference="R", id="n")


def test_an_external_set_is_graded_like_any_other(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text(CSV, encoding="utf8")
    eval_set = load_external(tmp_path / "set.csv", FIELDS, 10)
    assert [c.gold for c in eval_set.cases] == [50, 0, 100, 60, 0, 40] and len(eval_set.questions) == 2
    make = kit.factory(folder)
    run = kit.start(folder, eval_set, make(), name="external")
    execute(run, make, holistic_prompt(kit.settings_for(folder)))
    found = measure(run, 50)
    assert (
        found.metrics["grader"]["pearson"].value > 0.8 and found.metrics["grader"]["point_auc"].value is None
    )  # type: ignore[operator]
    assert found.metrics["lexical"]["qwk"].value is not None
    checks = gate(run, found, read_budgets(BUDGETS), None)
    assert {(c.metric, c.kind) for c in checks} == {("pearson", "floor"), ("qwk", "floor")}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "Q,A,mark\nq,a,1\n", "no field 'R'"),
        ("a.csv", CSV.replace(",5\n", ",five\n"), "a.csv:2: the score 'five'"),
        ("a.csv", CSV.replace(",5\n", ",50\n"), "outside 0–10"),
        ("a.csv", CSV.replace("\n2,", "\n1,"), "'1' is used twice"),
        ("a.jsonl", "{\n", "a.jsonl:1: not JSON"),
        ("a.jsonl", "[1]\n", "expected an object"),
        ("a.xlsx", "", "unknown format"),
        ("a.csv", "n,Q,A,R,mark\n", "holds no rows"),
    ],
)
def test_a_bad_external_row_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf8")
    with pytest.raises(UsageError) as caught:
        load_external(tmp_path / name, FIELDS, 10)
    assert message in caught.value.message


def test_a_rubric_column_holds_points(tmp_path: Path) -> None:
    rows = [
        {"q": "甲？", "a": "x", "s": 1, "p": [{"point": "一个要点", "weight": 3}, "另一个要点"]},
        {"q": "乙？", "a": "y", "s": 0, "p": "第一点\n第二点"},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf8")
    found = load_external(path, Fields("q", "a", "s", rubric="p"), 1)
    rubrics = [[(p.text, p.weight) for p in q.rubric] for q in found.questions.values()]
    assert rubrics == [[("一个要点", 3), ("另一个要点", 1)], [("第一点", 1), ("第二点", 1)]]


# ── HTML ─────────────────────────────────────────────────────────────────────────────────────────
def test_the_report_is_one_file_and_escapes_what_was_written(folder: Path) -> None:
    hostile = '<script>alert(1)</script><img src="http://evil/x.png" onerror=alert(1)>'

    def cases_with(split: str) -> Run:
        eval_set = kit.cases(folder, suites=["authored"])
        first = eval_set.cases[1].model_copy(
            update={"answer": eval_set.cases[1].answer + hostile, "gold": 0.0}
        )
        changed = type(eval_set)(split, (first, *eval_set.cases[2:]), eval_set.questions)
        make = kit.factory(folder)
        run = kit.start(folder, changed, make(), name="hostile")
        execute(run, make, holistic_prompt(kit.settings_for(folder)))
        return run

    html = render(measure(cases_with("test"), 20))
    assert "<script" not in html and "<img" not in html and "&lt;script&gt;" in html
    assert not re.search(r'(?:src|href)\s*=\s*["\']|url\(|@import', html)
    assert html.count("<svg") == 3 and '<mark class="covered"' in html


def test_overlapping_quotes_are_marked_once() -> None:
    marked = highlighted("abcdef", [(0, 4, "covered", "1"), (2, 6, "partial", "2"), (5, 99, "missing", "3")])
    assert marked == (
        '<mark class="covered" title="1">ab</mark><mark class="partial" title="2">cde</mark>'
        '<mark class="missing" title="3">f</mark>'
    )
    assert highlighted("", []) == "" and highlighted("<", []) == "&lt;"


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_a_browser_draws_the_report(good: Run, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(render(measure(good, 50)), encoding="utf8")
    common = [
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    shot = tmp_path / "shot.png"
    subprocess.run(
        [*common, "--window-size=1200,3000", f"--screenshot={shot}", page.as_uri()],
        check=True,
        capture_output=True,
        timeout=120,
    )
    assert shot.stat().st_size > 20_000
    dom = subprocess.run(
        [*common, "--dump-dom", page.as_uri()], check=True, capture_output=True, text=True, timeout=120
    ).stdout
    assert dom.count("<svg") == 3 and "QWK" in dom and dom.count("<details") == 12


# ── the command line ─────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def coach(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Runs `coach eval …` in this process with a scripted grader; returns (exit code, stdout, stderr)."""
    from coach.cli import main

    script = {"answer": kit.by_words}
    monkeypatch.setenv("COACH_HOME", str(folder / "home"))
    monkeypatch.setenv("COACH_KNOWLEDGE", str(folder / "knowledge"))
    monkeypatch.setenv("COACH_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(
        wiring, "subject", lambda *a, **k: kit.factory(folder, lambda m: script["answer"](m))()
    )

    def call(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["coach", "eval", *args])
        with pytest.raises(SystemExit) as done:
            main()
        out = capsys.readouterr()
        return int(done.value.code or 0), out.out, out.err

    call.script = script  # type: ignore[attr-defined]
    return call


def test_the_whole_round_on_the_command_line(coach, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    where = ["--eval-dir", str(folder / "eval"), "--suite", "authored", "--suite", "floor"]
    code, out, err = coach("run", "--split", "test", "--name", "first", *where)
    assert code == 0, err
    assert "QWK (0–5)" in out and "lexical" in out and "holistic" in out and "coach eval report first" in out
    code, out, _ = coach("report", "first", "--html", str(tmp_path / "r.html"), "--resamples", "20")
    assert code == 0 and (tmp_path / "r.html").read_text(encoding="utf8").startswith("<!doctype html>")
    code, out, _ = coach("report", "first", "--json", "--resamples", "0")
    assert code == 0 and json.loads(out)["metrics"]["grader"]["point_tnr"]["value"] == 1.0
    baseline = str(tmp_path / "b.json")
    assert coach("bless", "first", "--out", baseline, "--resamples", "0")[0] == 0
    budgets = tmp_path / "budgets.toml"
    budgets.write_text("[test.point_tnr]\nmin = 0.9\n", encoding="utf8")
    held = ["--baseline", baseline, "--budgets", str(budgets), "--resamples", "100"]
    code, out, _ = coach("gate", "first", *held)
    assert code == 0 and "FAIL" not in out
    coach.script["answer"] = kit.says_yes
    assert coach("run", "--split", "test", "--name", "second", *where)[0] == 0
    code, out, _ = coach("gate", "second", *held)
    assert code == 3 and "FAIL" in out and "TNR" in out
    code, out, _ = coach("compare", "first", "second", "--resamples", "100")
    assert code == 0 and "worse" in out and "items that moved" in out
    code, out, _ = coach("compare", baseline, "second", "--json", "--resamples", "0")
    assert code == 0 and json.loads(out)["shared"] == 24
    assert coach("rescore", "first")[0] == 0
    assert coach("rescore", "first", "--covered", "0.5")[0] == 2
    assert coach("rescore", "first", "--covered", "0.5", "--partial", "0.2", "--name", "what-if")[0] == 0
    code, out, _ = coach("list")
    assert code == 0 and "first-rescored" in out


def test_an_external_set_on_the_command_line(coach, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "set.csv").write_text(CSV, encoding="utf8")
    mapped = ["--question", "Q", "--answer", "A", "--score", "mark", "--max-score", "10"]
    code, out, err = coach(
        "external", str(tmp_path / "set.csv"), *mapped, "--reference", "R", "--name", "ext-cli"
    )
    assert code == 0, err
    assert "6 graded = 6 scored" in out
    code, _, err = coach("external", str(tmp_path / "set.csv"), *mapped)
    assert code == 2 and "--reference" in err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "--split", "nope"], "no labelled answers"),
        (["run", "--suite", "nope"], "no suite nope"),
        (["report", "nope"], "no run at"),
        (["gate", "nope"], "no run at"),
        (["bless", "nope"], "no run at"),
    ],
)
def test_a_wrong_call_exits_2_and_says_what_to_do(coach, args: list[str], message: str) -> None:  # type: ignore[no-untyped-def]
    code, _, err = coach(*args)
    assert code == 2 and message in err and "try:" in err


def test_the_embedded_model_takes_one_job(coach, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("COACH_BASE_URL")
    code, _, err = coach("run", "--jobs", "2", "--eval-dir", str(folder / "eval"))
    assert code == 2 and "one request at a time" in err


def test_a_follow_up_is_checked_against_gold() -> None:
    from coach.domain import Question
    from coach.evals.cases import EvalCase
    from coach.evals.follow_up_checks import CHECKS
    from coach.evals.store import Asked

    question = Question.model_validate(
        {
            "id": "q",
            "question": "为什么要缩放？",
            "kind": "concept",
            "topic": "t",
            "rubric": [{"id": "a", "point": "点积方差等于维度"}, {"id": "b", "point": "归一化函数饱和"}],
        }
    )
    case = EvalCase(id="c", question_id="q", tier="good", answer="", labels={"a": 1, "b": 0})

    def checked(what: str, ask: str, *targets: str) -> bool | None:
        return CHECKS[what](question, case, Asked(ask=ask, targets=targets, generated=True))

    assert checked("aims", "数值很大时归一化会怎样？", "b") is True
    assert checked("aims", "数值很大时归一化会怎样？", "a") is False
    assert checked("aims", "今晚吃面吗？", "b") is False
    assert (
        checked("leaks", "归一化函数是不是饱和了？", "b") is True
        and checked("leaks", "会怎样？", "b") is False
    )
    assert (
        checked("repeats", "为什么要缩放？", "b") is True and checked("repeats", "方差多大？", "b") is False
    )
    assert checked("question", "说说看。", "b") is False and checked("question", "怎么说？", "b") is True
