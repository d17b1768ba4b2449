"""`coach batch` as a user meets it: a subprocess against a scripted endpoint, with a small knowledge folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.batch_data import BANK, NOTE
from tests.batch_fakes import FaultyEndpoint

ROOT = Path(__file__).resolve().parent.parent
CODE = "from coach.cli import main; main()"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("batch-cli")
    for name, file, text in (("notes", "a.md", NOTE), ("questions", "t.yaml", BANK)):
        (made / "knowledge" / name).mkdir(parents=True)
        (made / "knowledge" / name / file).write_text(text, encoding="utf8")
    return made


@pytest.fixture(scope="module")
def endpoint() -> Iterator[FaultyEndpoint]:
    with FaultyEndpoint(latency=0.03) as served:
        yield served


def environment(home: Path, url: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COACH_", "OPENAI_"))}
    return kept | {
        "COACH_HOME": str(home / "home"),
        "COACH_KNOWLEDGE": str(home / "knowledge"),
        "COACH_LLM": "scripted",
        "COACH_BASE_URL": url,
        "COLUMNS": "120",
    }


def batch(
    home: Path, url: str, *args: str, stdin: bytes = b"", **env: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, "batch", *args],
        input=stdin, capture_output=True, timeout=120, env=environment(home, url) | env,
    )  # fmt: skip
    return subprocess.CompletedProcess(args, done.returncode, done.stdout.decode(), done.stderr.decode())


def write(path: Path, n: int, bad: int = 0) -> Path:
    rows = [json.dumps({"id": f"r{i}", "question_id": "scale", "answer": f"方差 {i}"}) for i in range(n)]
    path.write_text("\n".join([*rows, *["{bad"] * bad]) + "\n", encoding="utf8")
    return path


def test_grade_resume_and_compare(home: Path, endpoint: FaultyEndpoint, tmp_path: Path) -> None:
    rows = write(tmp_path / "a.jsonl", 6, bad=1)
    dry = batch(home, endpoint.url, str(rows), "-o", str(tmp_path / "o"), "--dry-run", "--json")
    found = json.loads(dry.stdout)
    assert (
        dry.returncode == 0 and (found["rows"], found["to_grade"]) == (7, 6) and not (tmp_path / "o").exists()
    )
    assert found["estimate"]["calls"] == 6 and found["estimate"]["prompt_tokens"] > 1000
    assert found["estimate"]["readings"] == 3
    said = batch(home, endpoint.url, str(rows), "-o", str(tmp_path / "o"), "--dry-run").stdout
    assert "read again, up to 3 times" in said
    first = batch(home, endpoint.url, str(rows), "-o", str(tmp_path / "o"))
    assert first.returncode == 3 and "6 graded" in first.stdout and "not JSON" in first.stderr, first.stderr
    again = batch(home, endpoint.url, str(rows), "-o", str(tmp_path / "o"), "--json")
    assert json.loads(again.stdout)["this_run"]["graded"] == 0 and again.returncode == 3
    assert {p.name for p in (tmp_path / "o").iterdir() if p.name[0] != "."} == {
        "grades.jsonl", "grades.csv", "grades.xlsx", "summary.json", "report.html"
    }  # fmt: skip
    same = batch(home, endpoint.url, "diff", str(tmp_path / "o"), str(tmp_path / "o"))
    assert same.returncode == 0 and "6 rows in both" in same.stdout


def test_from_pipe_to_pipe(home: Path, endpoint: FaultyEndpoint, tmp_path: Path) -> None:
    done = batch(home, endpoint.url, "-", "-o", "-", stdin=write(tmp_path / "a.jsonl", 4, bad=1).read_bytes())
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 3 and sorted(r["status"] for r in rows) == ["error", "ok", "ok", "ok", "ok"]


def test_ctrl_c_loses_nothing(home: Path, endpoint: FaultyEndpoint, tmp_path: Path) -> None:
    rows, grades = write(tmp_path / "a.jsonl", 300), tmp_path / "o" / "grades.jsonl"
    child = subprocess.Popen(
        [sys.executable, "-c", CODE, "batch", str(rows), "-o", str(tmp_path / "o"), "-j", "2", "--no-xlsx"],
        env=environment(home, endpoint.url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + 60
    while time.monotonic() < until and not (grades.exists() and grades.stat().st_size > 3000):
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130 and "not graded yet" in out and "the same command goes on" in err
    before = [json.loads(line)["id"] for line in grades.read_text("utf8").splitlines()]
    assert 0 < len(before) < 300
    done = batch(home, endpoint.url, str(rows), "-o", str(tmp_path / "o"), "-j", "16", "--no-xlsx", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["this_run"]["graded"] == 300 - len(before)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["/nowhere.csv", "-o", "o"], "no such file"),
        (["a.jsonl", "-o", "o", "--map", "x"], "FIELD=COLUMN"),
        (["a.jsonl", "-o", "o", "--deadline", "soon"], "90s"),
        (["a.jsonl", "-o", "o", "--max-cost", "1"], "COACH_PRICE_IN"),
        (["a.jsonl", "-o", "o", "--engine", "spark"], "openai-batch"),
        (["a.jsonl", "-o", "o", "-q", "问"], "--rubric"),
        (["diff", "o", "p"], "output folder"),
        (["a.jsonl"], "--out"),
    ],
)
def test_bad_calls_say_what_to_do(home: Path, args: list[str], message: str) -> None:
    done = batch(home, "http://127.0.0.1:9", *args)
    assert done.returncode == 2 and message in done.stderr, done.stderr


def test_endpoint_down_is_an_abort(home: Path, tmp_path: Path) -> None:
    rows = write(tmp_path / "a.jsonl", 2)
    done = batch(
        home,
        "http://127.0.0.1:9",
        str(rows),
        "-o",
        str(tmp_path / "o"),
        "--judge",
        "structured",
        COACH_TIMEOUT="1",
    )
    assert done.returncode == 4 and "cannot be reached" in done.stderr
