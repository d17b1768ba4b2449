"""A batch run against an endpoint that misbehaves, killed again and again: one final record per row, the right one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.batch_child import engine_for, run_batch
from tests.batch_data import lines, prepare
from tests.batch_fakes import FaultyEndpoint

ROOT = Path(__file__).resolve().parent.parent
ROWS = int(os.environ.get("COACH_TEST_BATCH_ROWS", "120"))
JOBS = 8
KILLS = int(os.environ.get("COACH_TEST_BATCH_KILLS", "3"))


def final(path: Path) -> dict[str, dict[str, object]]:
    """Records by row id; fails when a row has two."""
    out: dict[str, dict[str, object]] = {}
    for line in path.read_text(encoding="utf8").splitlines():
        record = json.loads(line)
        assert record["id"] not in out, f"two records for {record['id']}"
        out[record["id"]] = record
    return out


def essence(record: dict[str, object]) -> dict[str, object]:
    """What must be equal however often the run was disturbed: all but tokens, seconds and who was graded first."""
    return {k: v for k, v in record.items() if k not in ("usage", "same_as")}


def test_killed_and_disturbed_runs_end_like_an_undisturbed_one(tmp_path: Path) -> None:
    calm, rough = prepare(tmp_path / "calm"), prepare(tmp_path / "rough")
    text = "\n".join(lines(ROWS)) + "\n"
    for folder in (calm, rough):
        (folder / "rows.jsonl").write_text(text, encoding="utf8")
    with FaultyEndpoint() as endpoint:
        assert run_batch(calm, engine_for(calm, endpoint.url)).exit_code() == 3
    rng = random.Random(5)
    kills, runs, faults = 0, 0, 0
    answered: Counter[int] = Counter()
    port, seed = 0, 1
    while True:
        # The endpoint is restarted too, on the same port, with the client still running or about to start.
        with FaultyEndpoint(rate=0.12, seed=seed, port=port, hang=1.4, latency=0.01) as endpoint:
            port, seed, runs = int(endpoint.url.rsplit(":", 1)[1]), seed + 1, runs + 1
            child = subprocess.Popen(
                [sys.executable, "-m", "tests.batch_child", str(rough), endpoint.url], cwd=ROOT
            )
            if kills < KILLS:
                file = rough / "out" / "grades.jsonl"
                before = file.stat().st_size if file.exists() else 0
                until = time.monotonic() + 60
                while child.poll() is None and time.monotonic() < until:
                    if (
                        file.exists()
                        and file.stat().st_size > before + rng.randrange(2_000, 12_000) * ROWS // 160
                    ):
                        break
                    time.sleep(0.01)
                if child.poll() is None:
                    child.send_signal(signal.SIGKILL)
                    kills += 1
            child.wait(timeout=300)
            faults += sum(n for kind, n in endpoint.faults.items() if kind)
            answered += endpoint.answers
        if kills == KILLS and child.returncode == 3:
            wanted, got = final(calm / "out" / "grades.jsonl"), final(rough / "out" / "grades.jsonl")
            if not any(r["retry"] for r in got.values()):
                break
        assert runs < KILLS + 12, "the run does not come to an end"
    print(
        f"{kills} kills, {runs} runs, {faults} faults, {answered.total()} replies, "
        f"{len(answered)} distinct, for {len(wanted)} rows"
    )
    # Asked twice is only what was in flight when a run was killed.
    assert answered.total() - len(answered) <= KILLS * JOBS
    assert faults > 10
    assert got.keys() == wanted.keys() and len(got) == ROWS
    assert {i: essence(r) for i, r in got.items()} == {i: essence(r) for i, r in wanted.items()}


def test_a_dead_endpoint_ends_the_run_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coach.batch import pacing

    monkeypatch.setattr(pacing, "_BACKOFF", 0.01)
    folder = prepare(tmp_path / "d")
    (folder / "rows.jsonl").write_text("\n".join(lines(60)) + "\n", encoding="utf8")
    with FaultyEndpoint() as endpoint:
        engine = engine_for(folder, endpoint.url, jobs=2)
        assert engine.llm and engine.llm.capabilities.json_mode == "schema"
    outcome = run_batch(folder, engine)
    assert "in a row" in outcome.stopped and outcome.exit_code() == 4
    with FaultyEndpoint() as endpoint:
        again = run_batch(folder, engine_for(folder, endpoint.url))
    assert again.exit_code() == 3 and again.counts["missing"] == 0
    assert not any(r["retry"] for r in final(folder / "out" / "grades.jsonl").values())
