"""`--engine ray` on a real two-worker cluster of this machine: same grades, dying workers, clean stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from coach.bank import load_bank
from coach.batch.engine import Engine
from coach.batch.grading import WorkerGrading
from coach.batch.plan import Mapper
from coach.batch.questions import QuestionFinder
from coach.batch.ray_workers import RayWorkers, cluster
from coach.batch.readers import tables
from coach.batch.run import Options, Outcome, Run
from coach.domain import Grade, Question
from coach.errors import CoachError, UsageError
from tests.batch_child import engine_for, run_batch
from tests.batch_data import BANK, NOTE, lines, prepare
from tests.batch_fakes import FaultyEndpoint
from tests.test_batch_cli import CODE, batch, environment, write
from tests.test_batch_faults import essence, final

JOBS = 4
# A run that is over leaves its connections to the garbage collector, which complains in whichever test comes next.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
Make = Callable[[Path, str], Engine]


@pytest.fixture(scope="module", autouse=True)
def two_workers() -> Iterator[None]:
    with cluster("local", 2):
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = prepare(tmp_path / "w")
    (made / "pids").mkdir()
    (made / "rows.jsonl").write_text("\n".join(lines(100)) + "\n", encoding="utf8")
    return made


def scripted(folder: Path, url: str) -> Engine:
    """The engine of every batch test; leaves the id of the process that made it."""
    (folder / "pids" / str(os.getpid())).touch()
    return engine_for(folder, url, jobs=JOBS)


def deadly(folder: Path, url: str) -> Engine:
    """Grading the answer 第3份 ends the process, as a bug in native code would."""
    engine = scripted(folder, url)

    def grade(question: Question, answer: str) -> Grade:
        if "第3份" in answer:
            os._exit(1)
        return engine.grade(question, answer)

    return Engine(grade, engine.fingerprint, JOBS, engine.llm)


def other(folder: Path, url: str) -> Engine:
    engine = scripted(folder, url)
    changed = engine.fingerprint.model_copy(update={"knowledge": "elsewhere"})
    return Engine(engine.grade, changed, JOBS, engine.llm)


def broken(folder: Path, url: str) -> Engine:
    raise CoachError("there is no index yet", "coach index")


def run_on_ray(
    folder: Path,
    url: str,
    make: Make = scripted,
    progress: Callable[[int, int], None] = lambda done, total: None,
    **options: object,
) -> Outcome:
    engine = engine_for(folder, url, jobs=JOBS)
    grading = WorkerGrading(lambda: RayWorkers(partial(make, folder, url), engine.fingerprint, 2, JOBS))
    chosen = Options(out=folder / "out", **options)  # type: ignore[arg-type]
    with Run(engine, chosen, progress=progress) as run:
        run.read(tables(folder / "rows.jsonl"), Mapper(QuestionFinder(load_bank(folder / "bank")), {}))
        return run.execute(grading)


def grades(folder: Path, out: str = "out") -> dict[str, object]:
    return {i: essence(r) for i, r in final(folder / out / "grades.jsonl").items()}


def pids(folder: Path) -> list[int]:
    return sorted(int(p.name) for p in (folder / "pids").iterdir())


def test_same_grades_row_for_row_as_the_local_engine(folder: Path) -> None:
    with FaultyEndpoint(latency=0.02) as endpoint:
        local = run_batch(folder, engine_for(folder, endpoint.url), out="local")
        outcome = run_on_ray(folder, endpoint.url)
        assert len(pids(folder)) == 2 and endpoint.most > JOBS
    assert outcome.counts == local.counts and outcome.counts["missing"] == 0 and outcome.exit_code() == 3
    assert grades(folder) == grades(folder, "local")
    assert (outcome.graded, outcome.reused) == (local.graded, local.reused)
    assert outcome.spent.calls == local.spent.calls
    assert outcome.spent.prompt_tokens == local.spent.prompt_tokens


def test_workers_killed_in_the_middle_lose_nothing(folder: Path) -> None:
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        """All at once; that one dies and another lives is seen where a row kills its worker."""
        for pid in pids(folder) if done == 30 else []:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    with FaultyEndpoint(latency=0.05) as endpoint:
        run_batch(folder, engine_for(folder, endpoint.url), out="local")
        before = endpoint.answers.copy()
        outcome = run_on_ray(folder, endpoint.url, progress=kill)
        answers = endpoint.answers - before
    assert killed and len(pids(folder)) > len(killed)
    assert not outcome.stopped and outcome.counts["missing"] == 0
    assert grades(folder) == grades(folder, "local")
    # Asked twice is only what a dead worker had in flight (and the two replies of each worker's probe).
    assert sum(n - 1 for n in answers.values()) <= len(killed) * JOBS + 3 * len(pids(folder))


def test_endpoint_faults_are_each_workers_to_ride_out(folder: Path) -> None:
    (folder / "rows.jsonl").write_text("\n".join(lines(50)) + "\n", encoding="utf8")
    with FaultyEndpoint() as endpoint:
        run_batch(folder, engine_for(folder, endpoint.url), out="local")
    with FaultyEndpoint(rate=0.1, seed=3, hang=1.2) as endpoint:
        outcome = run_on_ray(folder, endpoint.url)
        assert sum(n for kind, n in endpoint.faults.items() if kind) > 5
    assert outcome.retries
    while outcome.counts["missing"] or any(r["retry"] for r in final(folder / "out/grades.jsonl").values()):
        with FaultyEndpoint() as endpoint:
            outcome = run_batch(folder, engine_for(folder, endpoint.url))
    assert grades(folder) == grades(folder, "local")


def test_a_budget_holds_over_all_workers_and_the_rest_is_graded_locally(folder: Path) -> None:
    with FaultyEndpoint(latency=0.02) as endpoint:
        whole = run_batch(folder, engine_for(folder, endpoint.url), out="local")
        tokens = whole.spent.prompt_tokens + whole.spent.completion_tokens
        outcome = run_on_ray(folder, endpoint.url, max_tokens=tokens // 2)
        rest = run_batch(folder, engine_for(folder, endpoint.url))
    spent = outcome.spent.prompt_tokens + outcome.spent.completion_tokens
    assert outcome.stopped.startswith("--max-tokens") and 0.7 * tokens // 2 < spent <= tokens // 2
    assert outcome.graded + rest.graded == whole.graded and rest.counts["missing"] == 0
    assert grades(folder) == grades(folder, "local")


def test_a_row_that_kills_its_worker_is_given_up_and_named(folder: Path) -> None:
    with FaultyEndpoint(latency=0.02) as endpoint:
        outcome = run_on_ray(folder, endpoint.url, make=deadly)
    found = final(folder / "out" / "grades.jsonl")
    assert [i for i, r in found.items() if "died 3 times" in str(r["error"])] == ["r3"] and found["r3"][
        "retry"
    ]
    assert not outcome.stopped and outcome.counts["missing"] == 0 and len(pids(folder)) >= 4
    with FaultyEndpoint() as endpoint:
        assert run_batch(folder, engine_for(folder, endpoint.url)).counts["missing"] == 0
    assert not any(r["retry"] for r in final(folder / "out" / "grades.jsonl").values())


@pytest.mark.parametrize(("make", "reason"), [(other, "another knowledge"), (broken, "no index yet")])
def test_a_worker_that_would_grade_differently_does_not(folder: Path, make: Make, reason: str) -> None:
    with FaultyEndpoint() as endpoint, pytest.raises(CoachError, match=reason):
        run_on_ray(folder, endpoint.url, make=make)
    assert all(r["status"] == "error" for r in final(folder / "out" / "grades.jsonl").values())


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError) as e, cluster(None):
        pass
    assert "[ray]" in e.value.hint


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("ray-cli")
    for name, file, text in (("notes", "a.md", NOTE), ("questions", "t.yaml", BANK)):
        (made / "knowledge" / name).mkdir(parents=True)
        (made / "knowledge" / name / file).write_text(text, encoding="utf8")
    return made


def test_command_line_interrupted_and_resumed_on_this_machine(home: Path, tmp_path: Path) -> None:
    out, rows = tmp_path / "o", write(tmp_path / "a.jsonl", 80)
    with FaultyEndpoint(latency=0.2) as endpoint:
        child = subprocess.Popen(
            [sys.executable, "-c", CODE, "batch", str(rows), "-o", str(out), "--engine", "ray", "--workers", "2",
             "-j", "2", "--no-xlsx"],
            env=environment(home, endpoint.url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        until = time.monotonic() + 120
        grades = out / "grades.jsonl"
        while time.monotonic() < until and not (grades.exists() and grades.stat().st_size > 3000):
            assert child.poll() is None, child.communicate()
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        printed, err = child.communicate(timeout=60)
        assert child.returncode == 130 and "the same command goes on" in err, (printed, err)
        before = final(grades)
        assert 0 < len(before) < 80
        done = batch(home, endpoint.url, str(rows), "-o", str(out), "--no-xlsx", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["this_run"]["graded"] == 80 - len(before)
        assert len(final(grades)) == 80


def test_bad_calls_say_what_to_do(home: Path, tmp_path: Path) -> None:
    rows, out = str(write(tmp_path / "a.jsonl", 1)), str(tmp_path / "o")
    for args, message in (
        (["--workers", "2"], "--engine ray"),
        (["--engine", "ray", "--address", "127.0.0.1:9"], "head node"),
    ):
        done = batch(home, "http://127.0.0.1:9", rows, "-o", out, *args)
        assert done.returncode == 2 and message in done.stderr, done.stderr
    done = batch(home, "", rows, "-o", out, "--engine", "ray", COACH_LLM="", COACH_BASE_URL="")
    assert done.returncode == 2 and "needs an endpoint" in done.stderr, done.stderr
