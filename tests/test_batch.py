"""Batch: what is read, what is matched, what is stored, what is written — with a scripted judge."""

from __future__ import annotations

import csv
import errno
import json
import os
import random
import shutil
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from coach.bank import load_bank
from coach.batch.diff import diff
from coach.batch.engine import Engine
from coach.batch.fields import Raw, RowError, assign, parse_map
from coach.batch.finish import write_reports
from coach.batch.lines import guess_encoding, read_lines
from coach.batch.pacing import PacedLLM, Stopped, Throttle, pace
from coach.batch.plan import Mapper
from coach.batch.questions import QuestionFinder, points_of
from coach.batch.readers import csv_rows, jsonl_rows, read_stream, tables
from coach.batch.records import encode
from coach.batch.run import Options, Outcome, Run
from coach.batch.sheets import safe_cell, write_xlsx
from coach.batch.similar import clusters_of
from coach.batch.stats import Pair
from coach.batch.store import Store, StoreError, scan
from coach.batch.stream import stream
from coach.domain import Fingerprint, Grade, Question, Status, Usage, Verdict
from coach.errors import LLMRejected, LLMUnavailable, UsageError
from coach.grade import empty_grade
from coach.llm.base import AdaptedLLM
from coach.score import score
from tests.batch_data import lines, prepare
from tests.fakes import AdaptedFake, ScriptedLLM

FINGERPRINT = Fingerprint(
    model="m", judge="j", prompts={}, calibration="c", knowledge="k", embedder="e", version="1"
)


class Judge:
    """Grades by whether the point's first word is in the answer; counts, and fails where told to."""

    def __init__(self, fail: dict[str, Exception] | None = None) -> None:
        self.graded: list[str] = []
        self.fail = fail or {}

    def __call__(self, question: Question, answer: str) -> Grade:
        self.graded.append(answer)
        for word, error in self.fail.items():
            if word in answer:
                raise error
        if not answer.strip():
            return empty_grade(question, answer)
        verdicts = tuple(
            Verdict(
                point_id=p.id,
                text=p.text,
                weight=p.weight,
                status=Status.COVERED if p.text[:2] in answer else Status.MISSING,
                probability=0.95 if p.text[:2] in answer else 0.05,
            )
            for p in question.rubric
        )
        return Grade(
            question_id=question.id,
            question=question.question,
            answer=answer,
            status="ok",
            verdicts=verdicts,
            score=score(verdicts),
            usage=Usage(calls=1, prompt_tokens=100, completion_tokens=10),
            fingerprint=FINGERPRINT,
        )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare(tmp_path / "work")


def mapper(folder: Path, mapping: str = "", **finder: Any) -> Mapper:
    return Mapper(QuestionFinder(load_bank(folder / "bank"), **finder), parse_map(mapping))


def run(
    folder: Path, judge: Judge, source: Path | None = None, jobs: int = 2, mapping: str = "", **o: Any
) -> Outcome:
    engine = Engine(judge, o.pop("fingerprint", FINGERPRINT), jobs)
    with Run(engine, Options(out=folder / "out", **o)) as batch:
        batch.read(tables(source or folder / "rows.jsonl"), mapper(folder, mapping))
        outcome = batch.execute()
        write_reports(batch, "rows")
    return outcome


def put(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf8")
    return path


def records(folder: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "out" / "grades.jsonl").read_text("utf8").splitlines()]
    assert len({r["id"] for r in rows}) == len(rows)
    return {r["id"]: r for r in rows}


GOOD = [
    {"id": "a", "question_id": "scale", "answer": "点积的方差等于 d_k"},
    {"id": "b", "question_id": "lora", "answer": "B 初始化为零", "candidate": "李"},
    {"id": "c", "question": "LoRA 怎样初始化", "answer": "A 随机初始化"},
]


# ── resume ───────────────────────────────────────────────────────────────────────────────────────
def test_a_second_run_grades_only_what_is_missing_or_changed(folder: Path) -> None:
    put(folder, GOOD)
    judge = Judge()
    assert run(folder, judge).exit_code() == 0 and len(judge.graded) == 3
    judge = Judge()
    assert run(folder, judge).exit_code() == 0 and judge.graded == []
    put(folder, [{**GOOD[0], "answer": "改过的点积"}, *GOOD[1:], {**GOOD[0], "id": "d"}])
    judge = Judge()
    outcome = run(folder, judge)
    # The new row d has the words that row a had: its grade is taken over, not paid for again.
    assert judge.graded == ["改过的点积"] and outcome.reused == 1
    assert set(records(folder)) == {"a", "b", "c", "d"} and records(folder)["d"]["same_as"] == "a"
    assert [r["id"] for _, _, r in scan(folder / "out" / "history.jsonl") if r] == ["a"]


def test_another_grader_or_rubric_or_force_grades_again(folder: Path) -> None:
    put(folder, GOOD)
    run(folder, Judge())
    other = Judge()
    run(folder, other, fingerprint=FINGERPRINT.model_copy(update={"model": "n"}))
    assert len(other.graded) == 3
    bank = folder / "bank" / "t.yaml"
    bank.write_text(bank.read_text("utf8").replace("B 初始化为零", "B 一开始为零"), encoding="utf8")
    changed = Judge()
    run(folder, changed, fingerprint=FINGERPRINT.model_copy(update={"model": "n"}))
    assert len(changed.graded) == 2
    forced = Judge()
    assert run(folder, forced, force=True).exit_code() == 0 and len(forced.graded) == 3
    assert len(records(folder)) == 3


def test_same_answer_is_graded_once_and_every_row_gets_a_record(folder: Path) -> None:
    put(folder, [{"id": f"r{i}", "question_id": "scale", "answer": "方差"} for i in range(5)])
    judge = Judge()
    outcome = run(folder, judge)
    assert judge.graded == ["方差"] and (outcome.graded, outcome.reused) == (1, 4)
    assert {r["usage"] is None for i, r in records(folder).items() if i != "r0"} == {True}


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_torn_or_zeroed_line_costs_only_its_row(folder: Path, cut: int) -> None:
    put(folder, GOOD)
    run(folder, Judge())
    file = folder / "out" / "grades.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole[:-cut])
    judge = Judge()
    assert run(folder, judge).exit_code() == 0 and len(judge.graded) == 1
    first = whole.split(b"\n")[0]
    file.write_bytes(whole.replace(first, b"\0" * len(first)))
    judge = Judge()
    outcome = run(folder, judge)
    assert len(judge.graded) == 1 and "damaged" in outcome.warnings[0] and len(records(folder)) == 3


def test_a_full_disk_stops_the_run_and_leaves_whole_lines(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder, GOOD)
    real, left = os.write, [900]

    def write(fd: int, data: bytes) -> int:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        n = real(fd, bytes(data[: left[0]]))
        left[0] -= n
        return n

    monkeypatch.setattr("coach.batch.store.os.write", write)
    with pytest.raises(StoreError, match="No space left"):
        run(folder, Judge())
    monkeypatch.undo()
    assert all(r is not None for _, _, r in scan(folder / "out" / "grades.jsonl"))
    assert run(folder, Judge()).exit_code() == 0 and len(records(folder)) == 3


def test_two_runs_cannot_share_a_folder(folder: Path) -> None:
    put(folder, GOOD)
    with (
        Run(Engine(Judge(), FINGERPRINT), Options(out=folder / "out")),
        pytest.raises(UsageError, match="in use"),
    ):
        run(folder, Judge())


# ── errors and stops ─────────────────────────────────────────────────────────────────────────────
def test_a_bad_row_is_an_error_row_with_its_line_and_the_rest_is_graded(folder: Path) -> None:
    text = "\n".join(lines(200, seed=3))
    (folder / "rows.jsonl").write_text(text, encoding="utf8")
    outcome = run(folder, Judge())
    found = records(folder)
    assert outcome.exit_code() == 3 and len(found) == 200 and outcome.counts["missing"] == 0
    bad = [r for r in found.values() if r["status"] == "error"]
    assert 10 < len(bad) < 60
    assert all(r["error"] and r["score"] is None and r["place"].startswith("rows.jsonl:") for r in bad)
    assert all(r["score"] is None for r in found.values() if r["status"] != "ok")
    assert (
        run(folder, again := Judge()).exit_code() == 3 and again.graded == [] and len(records(folder)) == 200
    )


def test_fatal_refusal_stops_and_a_defect_does_not(folder: Path) -> None:
    put(folder, GOOD)
    refused = LLMRejected("refused the key")
    refused.status = 401
    outcome = run(folder, Judge({"点积": refused}), jobs=1)
    assert outcome.exit_code() == 4 and "refused the key" in outcome.stopped
    outcome = run(folder, Judge({"点积": ZeroDivisionError("oops")}), jobs=1)
    assert outcome.exit_code() == 3 and "ZeroDivisionError" in records(folder)["a"]["error"]
    assert run(folder, Judge()).exit_code() == 0


def test_fail_fast_limit_and_deadline(folder: Path) -> None:
    put(folder, GOOD)
    assert run(folder, Judge(), limit=1).exit_code(limited=True) == 0
    assert list(records(folder)) == ["a"]
    outcome = run(folder, Judge({"B": LLMUnavailable("down")}), jobs=1, fail_fast=True)
    assert outcome.stopped.startswith("--fail-fast") and outcome.exit_code() == 4
    assert run(folder, Judge(), deadline=0.0).stopped.startswith("--deadline")
    assert run(folder, Judge()).exit_code() == 0


def test_token_budget_is_not_exceeded_and_can_be_resumed(folder: Path) -> None:
    put(folder, [{"question_id": "scale", "answer": f"点积 {i}"} for i in range(20)])
    throttle = Throttle(4)

    def spent_run(most: int | None) -> tuple[Outcome, Judge]:
        llm = PacedLLM(ScriptedLLM(lambda m: "x"), throttle)
        judge = Judge()

        def grade(question: Question, answer: str) -> Grade:
            llm.chat([{"role": "user", "content": ""}], max_tokens=1)
            return judge(question, answer)

        with Run(Engine(grade, FINGERPRINT, 4, llm), Options(out=folder / "out", max_tokens=most)) as batch:
            batch.read(tables(folder / "rows.jsonl"), mapper(folder))
            return batch.execute(), judge

    outcome, judge = spent_run(77)  # 11 tokens a call
    assert outcome.stopped == "--max-tokens 77" and len(judge.graded) == 7 and outcome.exit_code() == 4
    outcome, judge = spent_run(None)
    assert outcome.exit_code() == 0 and len(judge.graded) == 13


# ── reading ──────────────────────────────────────────────────────────────────────────────────────
def read(data: bytes, suffix: str) -> list[Raw]:
    return list(read_stream(BytesIO(data), "f" + suffix, suffix))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030", "utf-16"])
def test_sheets_in_the_usual_encodings(folder: Path, encoding: str) -> None:
    text = '题号,姓名,回答\nscale,王,"点积的方差,\n等于 d_k"\nlora,李,初始化为零\n'
    (folder / "答卷.csv").write_bytes(text.encode(encoding))
    assert run(folder, Judge(), folder / "答卷.csv").exit_code() == 0
    assert [r["candidate"] for r in records(folder).values()] == ["李", "王"] or len(records(folder)) == 2


def test_one_broken_byte_does_not_turn_a_utf8_file_into_gb18030() -> None:
    good = "\n".join(
        json.dumps({"question_id": "scale", "answer": f"方差 {i}"}, ensure_ascii=False) for i in range(9)
    )
    data = good.encode() + b'\n{"question_id": "scale", "answer": "\xff\xfe bad"}\n'
    assert guess_encoding(data) == "utf-8"
    raws = read(data, ".jsonl")
    assert len(raws) == 10 and raws[0].values["answer"] == "方差 0"


def test_csv_recovers_after_an_unclosed_quote_and_names_the_line() -> None:
    data = b'question_id,answer\nscale,"open\nscale,two\nlora,"three"\nscale,a,b,c\nscale,five\n'
    raws = read(data, ".csv")
    assert [(r.place, bool(r.error)) for r in raws] == [
        ("f.csv:2", True), ("f.csv:3", False), ("f.csv:4", False), ("f.csv:5", True), ("f.csv:6", False)
    ]  # fmt: skip


def test_huge_cells_and_endless_lines_are_row_errors(folder: Path) -> None:
    rows = [
        {"id": "big", "question_id": "scale", "answer": "字" * 1_000_000},
        {"id": "endless", "question_id": "scale", "answer": "x" * 9_000_000},
        *GOOD,
    ]
    put(folder, rows)
    assert run(folder, Judge()).exit_code() == 3
    found = records(folder)
    assert (
        "20,000" in found["big"]["error"]
        and "8 MiB" in found["row-2"]["error"]
        and found["a"]["status"] == "ok"
    )


def test_markdown_folder_and_workbook(folder: Path, tmp_path: Path) -> None:
    answers = tmp_path / "answers"
    (answers / "王").mkdir(parents=True)
    (answers / "王" / "scale.txt").write_text("点积的方差", encoding="utf8")
    (answers / "all.md").write_text(
        "## lora\nB 初始化\n```\n## not a heading\n```\n\n## 为什么要缩放点积\n方差\n", "utf8"
    )
    write_xlsx(
        answers / "s.xlsx",
        ["编号", "题目", "回答"],
        [["=x1", "为什么要缩放点积？", "=SUM(A1)"], [7, "LoRA 怎样初始化？", 3.0]],
    )
    assert run(folder, Judge(), answers).exit_code() == 0
    found = records(folder)
    assert {r["question_id"] for r in found.values()} == {"scale", "lora"} and len(found) == 5
    assert [r["candidate"] for r in found.values() if "scale.txt" in r["place"]] == ["王"]
    assert "7" in found


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.jsonl", b"", "no rows"),
        ("h.csv", "题号,文字\nscale,x\n".encode(), "no column for answer"),
        ("b.csv", b"\x00\x01\x02", "binary"),
        ("x.xlsx", b"PK nonsense", "not an .xlsx"),
        ("t.csv", b"answer,answer\n1,2\n", "twice"),
        ("u.pdf", b"%PDF", "no reader"),
        ("m.csv", "回答,作答,题号\n1,2,scale\n".encode(), "--map answer="),
    ],
)
def test_input_that_is_no_table_of_answers(folder: Path, name: str, content: bytes, message: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(UsageError) as e:
        run(folder, Judge(), folder / name)
    assert message in f"{e.value.message} {e.value.hint}"


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=30), st.sampled_from([".jsonl", ".csv", ".md"]))
def test_no_text_ends_the_reading(texts: list[str], suffix: str) -> None:
    data = "\n".join(texts).encode("utf8", "surrogatepass")
    try:
        rows = read(data, suffix)
    except UsageError:
        return
    assert all(r.place for r in rows)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\0"), min_size=1),
            st.booleans(),
        ),
        min_size=1,
        max_size=20,
    ),
    st.randoms(),
)
def test_good_lines_survive_among_broken_ones(rows: list[tuple[str, bool]], rng: random.Random) -> None:
    text = []
    for answer, broken in rows:
        line = json.dumps({"answer": answer})
        text.append(line[: rng.randrange(1, len(line))] if broken else line)
    found = list(jsonl_rows(enumerate(text, 1), "f"))
    assert [r.values["answer"] for r in found if not r.error] == [a for a, broken in rows if not broken]
    assert sum(bool(r.error) for r in found) == sum(broken for _, broken in rows)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(
            st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\0")), min_size=2, max_size=2
        ),
        max_size=8,
    )
)
def test_what_csv_writes_csv_reads(rows: list[list[str]]) -> None:
    from io import StringIO

    out = StringIO()
    csv.writer(out).writerows([["question_id", "answer"], *rows])
    text = read_lines(BytesIO(out.getvalue().encode()), "f", "utf-8")
    found = [list(r.values.values()) for r in csv_rows(text, "f")]
    assert [f for f in found if any(f)] == [[c.replace("\r\n", "\n") for c in r] for r in rows if any(r)]


def test_bytes_go_to_lines_whatever_the_block_size() -> None:
    data = ("行" * 100 + "\n").encode() * 9000
    assert sum(1 for _ in read_lines(BytesIO(data), "f")) == 9000


# ── matching ─────────────────────────────────────────────────────────────────────────────────────
def test_columns_by_name_alias_or_map() -> None:
    assert assign(["题号", "回答", "x"], {}) == {"题号": "question_id", "回答": "answer"}
    assert assign(["回答", "答案"], parse_map("answer=答案")) == {"答案": "answer"}
    with pytest.raises(UsageError, match="not FIELD=COLUMN"):
        parse_map("answr=回答")


def test_questions_by_id_text_or_own_rubric(folder: Path) -> None:
    rows = [
        {"id": "text", "question": "LoRA怎样初始化?", "answer": "x"},
        {"id": "near", "question": "为什么要缩放点积呢？", "answer": "x"},
        {"id": "own", "question": "什么是温度？", "rubric": ["温度是除数", {"id": "flat", "point": "越高越平", "weight": 2}], "answer": "温度"},
        {"id": "ref", "question": "什么是温度？", "reference": "温度是 logits 的除数。越高分布越平。", "answer": "温度"},
        {"id": "none", "question": "什么是量子纠缠？", "answer": "x"},
        {"id": "typo", "question_id": "scal", "answer": "x"},
        {"id": "bad", "question": "问", "rubric": [{"point": "p"}], "answer": "x"},
    ]  # fmt: skip
    put(folder, rows)
    run(folder, Judge())
    found = records(folder)
    assert (found["text"]["question_id"], found["near"]["question_id"]) == ("lora", "scale")
    assert found["own"]["status"] == found["ref"]["status"] == "ok" and len(found["own"]["verdicts"]) == 2
    assert "no question" in found["none"]["error"] and "scale" in found["typo"]["error"]
    assert "rubric is broken" in found["bad"]["error"]
    assert [p.point for p in points_of("- 甲\n- 乙；丙")] == ["甲", "乙", "丙"]


def test_ambiguous_text_is_an_error(folder: Path) -> None:
    bank = folder / "bank" / "t.yaml"
    twin = bank.read_text("utf8").split("- id: lora")[0].replace("id: scale", "id: scale-2")
    bank.write_text(bank.read_text("utf8") + twin, encoding="utf8")
    with pytest.raises(RowError, match="ambiguous"):
        finder = QuestionFinder(load_bank(folder / "bank"))
        m = Mapper(finder, {})
        m.question(m.row(Raw("f:1", {"question": "为什么要缩放点积？", "answer": "x"})))


# ── output ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-2+3", "@SUM", "\t=1", "＝1", " =1", "|x"])
def test_formulas_are_escaped(text: str) -> None:
    assert str(safe_cell(text)).startswith("'")
    assert safe_cell("-3.5") == "-3.5" and safe_cell(3) == 3


def test_tables_hold_one_row_each_and_no_formula(folder: Path) -> None:
    from openpyxl import load_workbook

    put(
        folder,
        [{"id": "=1+1", "question_id": "scale", "answer": "点积", "candidate": "@x"}, *GOOD, {"id": "z"}],
    )
    run(folder, Judge())
    with (folder / "out" / "grades.csv").open(encoding="utf-8-sig", newline="") as f:
        rows = list(csv.DictReader(f))
    assert len(rows) == 5 and rows[0]["id"] == "'=1+1" and rows[0]["candidate"] == "'@x"
    assert rows[0]["point_1"] == "variance: covered" and rows[4]["error"]
    book = load_workbook(folder / "out" / "grades.xlsx")
    cells = [c for row in book["grades"].iter_rows() for c in row]
    assert book["grades"].max_row == 6 and all(c.data_type != "f" for c in cells)


def test_report_is_self_contained_and_escapes(folder: Path) -> None:
    evil = "<script>document.title='owned'</script>"
    copied = "点积的方差等于 d_k，所以要除以根号 d_k，否则 softmax 会饱和，梯度接近零，训练很慢，损失下不去。"
    rows = [{"id": f"{evil}{i}", "question_id": "scale", "answer": copied + "！" * i} for i in range(3)]
    put(folder, [*rows, {"id": "n", "question": evil, "answer": evil}])
    run(folder, Judge())
    page = (folder / "out" / "report.html").read_text("utf8")
    assert "<script" not in page and "http://" not in page and "https://" not in page
    assert "几乎相同的回答" in page and "&lt;script&gt;" in page
    summary = json.loads((folder / "out" / "summary.json").read_text("utf8"))
    assert len(summary["similar_answers"][0]["ids"]) == 3
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on this machine: the page was checked as text only")
    shown = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", (folder / "out" / "report.html").as_uri()],
        capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip
    assert "<title>批量评分报告</title>" in shown and "最常漏掉的要点" in shown


def test_statistics_against_numbers_by_hand() -> None:
    pair = Pair()
    for x, y in ((0.0, 1.0), (1.0, 3.0), (2.0, 2.0), (3.0, 5.0)):
        pair.add(x, y)
    assert pair.mean == 1.5 and pair.deviation == pytest.approx(1.29099, abs=1e-5)
    assert pair.correlation == pytest.approx(0.83152, abs=1e-5)
    flat = Pair()
    for _ in range(5):
        flat.add(1.0, 2.0)
    assert flat.correlation is None


def test_copied_answers_cluster_and_different_ones_do_not() -> None:
    rng = random.Random(0)
    words = ["方差", "饱和", "梯度", "低秩", "缓存", "温度", "对齐", "奖励", "量化", "并行", "分词", "位置"]
    texts = [(f"r{i}", "".join(rng.choice(words) for _ in range(60))) for i in range(40)]
    copies = [
        ("x", texts[3][1] + "。"),
        ("y", texts[3][1].replace("温度", "热度", 1)),
        ("short", "同"),
        ("short2", "同"),
    ]
    (found,) = clusters_of("q", texts + copies)
    assert set(found.ids) == {"r3", "x", "y"} and 0.8 <= found.overlap <= 1


def test_diff_finds_what_changed(folder: Path) -> None:
    put(folder, GOOD)
    run(folder, Judge())
    (folder / "out").rename(folder / "a")
    put(folder, [*GOOD[:2], {**GOOD[2], "answer": "别的"}])

    def strict(question: Question, answer: str) -> Grade:
        grade = Judge()(question, answer)
        worse = tuple(v.model_copy(update={"status": Status.MISSING}) for v in grade.verdicts)
        return (
            grade.model_copy(update={"verdicts": worse, "score": score(worse)}) if "点积" in answer else grade
        )

    with Run(Engine(strict, FINGERPRINT), Options(out=folder / "out")) as batch:
        batch.read(tables(folder / "rows.jsonl"), mapper(folder))
        batch.execute()
    found = diff(folder / "a", folder / "out").as_dict(5)
    assert (found["rows_in_both"], found["only_in_a"], found["only_in_b"]) == (2, 1, 1)
    assert found["verdict_changes"] == {"covered → missing": 1} and found["largest"][0]["id"] == "a"


def test_stream_gives_one_record_per_row(folder: Path) -> None:
    rows = [*(json.dumps(r) for r in GOOD), "{broken"]
    raws = jsonl_rows(enumerate(rows, 1), "stdin")
    found = list(stream(raws, mapper(folder), Engine(Judge(), FINGERPRINT, 2)))
    assert sorted(r["id"] for r in found) == ["a", "b", "c", "row-4"]
    assert all(encode(r).endswith(b"\n") for r in found)


# ── pacing ───────────────────────────────────────────────────────────────────────────────────────
class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def test_window_halves_once_per_burst_and_grows_back() -> None:
    throttle = Throttle(16, Clock())
    with throttle.slot() as first:
        pass
    throttle.congested(first, None)
    throttle.congested(first, None)  # a refusal of the same burst
    assert throttle.limit == 8
    for _ in range(200):
        throttle.succeeded()
    assert throttle.limit == 16


def test_retry_after_holds_everybody() -> None:
    clock = Clock()
    throttle = Throttle(4, clock)
    throttle.congested(0.0, 0.05)
    with throttle.slot() as started:
        assert started >= 0.05
    assert throttle.held == pytest.approx(0.05, abs=0.01)


def test_passing_failures_are_asked_again_and_refusals_are_not() -> None:
    replies: list[Any] = [LLMUnavailable("down"), LLMUnavailable("down"), "fine"]
    llm = PacedLLM(ScriptedLLM(lambda m: replies.pop(0)), Throttle(2), rng=random.Random(0))
    llm.throttle.pause = lambda s: None  # type: ignore[method-assign]
    assert llm.chat([], max_tokens=1).text == "fine" and llm.retries == {"LLMUnavailable": 2}
    refused = PacedLLM(ScriptedLLM(lambda m: LLMRejected("no")), Throttle(2))
    with pytest.raises(LLMRejected):
        refused.chat([], max_tokens=1)
    refused.throttle.stop()
    with pytest.raises(Stopped):
        refused.chat([], max_tokens=1)


def test_a_paced_model_keeps_its_adapter_so_that_batch_reads_what_practice_reads() -> None:
    inner = AdaptedFake(adapter="a")
    paced = pace(inner, Throttle(1))
    assert isinstance(paced, AdaptedLLM) and (paced.digest, paced.adapter) == ("model-1", "a")
    told: list[tuple[int, float]] = []
    found, usage = paced.log_odds(("甲", ""), ["乙", "丙丁"], lambda i, v: told.append((i, v)))
    assert found == [1.0, 2.0] and told == [(0, 1.0), (1, 2.0)] and paced.spent == usage
    assert not isinstance(pace(ScriptedLLM(lambda m: "x"), Throttle(1)), AdaptedLLM)


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
def test_store_appends_after_what_is_whole(tmp_path: Path, fsync: str) -> None:
    path = tmp_path / "g.jsonl"
    record = {"key": "k", "id": "1", "status": "ok", "retry": False}
    with Store(path, fsync) as store:
        at = store.append(record)
        assert store.read(*at) == record
    path.write_bytes(path.read_bytes() + b'{"key": "torn')
    with Store(path, fsync) as store:
        store.append(record | {"id": "2"})
    assert [r["id"] for _, _, r in scan(path) if r] == ["1", "2"]
