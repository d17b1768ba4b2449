"""`--engine openai-batch` against a scripted Batch API: same grades as single calls, nothing submitted twice."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from coach.bank import load_bank
from coach.batch.caching import SharedIndex, batch_grade, shared_grader
from coach.batch.engine import Engine
from coach.batch.openai_batch import BatchGrading, Replay
from coach.batch.plan import Mapper
from coach.batch.questions import QuestionFinder
from coach.batch.readers import tables
from coach.batch.run import Options, Outcome, Run
from coach.config import load_settings
from coach.embed import VectorCache
from coach.errors import LLMRejected
from coach.index import CURATED, Root, build, open_index
from coach.judge import make_judge
from coach.llm.openai_batches import BatchApi
from tests.batch_child import engine_for, run_batch
from tests.batch_data import lines, prepare
from tests.batch_fakes import FaultyEndpoint, judge_reply
from tests.fakes import HashEmbedder, completion

Answer = Callable[[dict[str, Any], int], tuple[int, Any]]


class ScriptedBatchApi:
    """Files and batches in memory. `answer(body, attempt)` gives (status, body) of one request; a batch takes `polls` polls."""

    def __init__(self, answer: Answer | None = None, polls: int = 2, final: str = "completed") -> None:
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.seen: dict[str, int] = {}
        self.polls, self.final = polls, final
        self.answer = answer or (lambda body, n: (200, json.loads(completion(judge_reply(body)))))
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _send(self, value: Any, status: int = 200) -> None:
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.endswith("/files"):
                    name = f"file-{len(api.files)}"
                    api.files[name] = re.search(rb"\r\n\r\n(\{.*\n)\r\n--", data, re.S)[1]  # type: ignore[index]
                    meta = {"id": name, "object": "file", "bytes": 1, "created_at": 0, "filename": "f"}
                    return self._send({**meta, "purpose": "batch", "status": "processed"})
                made = json.loads(data)
                name = f"batch-{len(api.batches)}"
                api.batches[name] = {
                    "id": name, "object": "batch", "endpoint": made["endpoint"], "created_at": 0, "left": api.polls,
                    "completion_window": "24h", "input_file_id": made["input_file_id"], "status": "in_progress",
                    "metadata": made["metadata"],
                }  # fmt: skip
                return self._send(api.batches[name])

            def do_GET(self) -> None:
                path = self.path.split("?")[0]
                if path.endswith("/content"):
                    return self._send(api.files[path.split("/")[-2]])
                if path.endswith("/batches"):
                    return self._send(
                        {"object": "list", "data": list(api.batches.values()), "has_more": False}
                    )
                batch = api.batches[path.split("/")[-1]]
                batch["left"] -= 1
                if batch["left"] <= 0 and batch["status"] == "in_progress":
                    api.finish(batch)
                return self._send(batch)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def finish(self, batch: dict[str, Any]) -> None:
        batch["status"] = self.final
        if self.final == "failed":
            batch["errors"] = {"object": "list", "data": [{"message": "bad line 1", "code": "x"}]}
            return
        good, bad = [], []
        for line in self.files[batch["input_file_id"]].splitlines():
            request = json.loads(line)
            key = request["custom_id"]
            self.seen[key] = self.seen.get(key, 0) + 1
            status, body = self.answer(request["body"], self.seen[key])
            row = {
                "id": "x",
                "custom_id": key,
                "response": {"status_code": status, "body": body},
                "error": None,
            }
            (good if status == 200 else bad).append(json.dumps(row))
        for kind, rows in (("output_file_id", good), ("error_file_id", bad)):
            if rows:
                batch[kind] = f"{batch['id']}-{kind}"
                self.files[batch[kind]] = ("\n".join(reversed(rows)) + "\n").encode()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> ScriptedBatchApi:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    made = prepare(tmp_path / "w")
    (made / "rows.jsonl").write_text("\n".join(lines(40)) + "\n", encoding="utf8")
    embedder = HashEmbedder()
    build(made / "index", [Root(CURATED, made / "notes")], embedder, VectorCache(made / "v.sqlite"))
    yield made


def batch(
    folder: Path,
    api: ScriptedBatchApi,
    out: str = "out",
    interrupted: Callable[[], bool] = lambda: False,
    votes: str = "1",
) -> Outcome:
    env = {"COACH_HOME": str(folder / "h"), "COACH_LLM": "scripted", "COACH_BASE_URL": api.url}
    settings = load_settings({**env, "COACH_VOTES": votes})
    index = SharedIndex(open_index(folder / "index", HashEmbedder()))
    replay = Replay("scripted", api.url, folder / out / "openai-batch" / "replies.sqlite")
    grader = shared_grader(
        settings, make_judge(settings, replay, index.embedder, "structured"), index, replay
    )
    client = BatchApi(f"{api.url}/v1", None, 10)
    engine = Engine(batch_grade(grader, index), grader.fingerprint)
    with Run(engine, Options(out=folder / out), interrupted=interrupted) as run:
        run.read(tables(folder / "rows.jsonl"), Mapper(QuestionFinder(load_bank(folder / "bank")), {}))
        try:
            return run.execute(BatchGrading(replay, client, poll=0.01))
        finally:
            replay.close()


def grades(folder: Path, out: str) -> dict[str, Any]:
    rows = map(json.loads, (folder / out / "grades.jsonl").read_text("utf8").splitlines())
    return {r["id"]: {k: v for k, v in r.items() if k not in ("usage", "same_as")} for r in rows}


def test_same_grades_as_single_calls(folder: Path) -> None:
    with FaultyEndpoint() as endpoint:
        run_batch(folder, engine_for(folder, endpoint.url), out="single")
    with ScriptedBatchApi() as api:
        outcome = batch(folder, api, votes="3")
    # The second round asks again what the first left in doubt, and agrees with it.
    assert outcome.counts["missing"] == 0 and len(api.batches) == 2 and set(api.seen.values()) == {1}
    assert grades(folder, "out") == grades(folder, "single")


def test_unreadable_replies_are_repaired_and_passing_failures_asked_again(folder: Path) -> None:
    def answer(body: dict[str, Any], attempt: int) -> tuple[int, Any]:
        if len(body["messages"]) == 2 and "第1" in body["messages"][1]["content"]:
            return 200, json.loads(completion("{not json"))
        if attempt == 1 and "第2" in body["messages"][1]["content"]:
            return 500, {"error": {"message": "oops"}}
        return 200, json.loads(completion(judge_reply(body)))

    with ScriptedBatchApi(answer) as api:
        outcome = batch(folder, api)
    found = grades(folder, "out")
    assert outcome.counts["missing"] == 0 and len(api.batches) == 2
    assert not any(r["retry"] for r in found.values())


def test_a_refused_request_is_an_error_row(folder: Path) -> None:
    with ScriptedBatchApi(lambda body, n: (400, {"error": {"message": "too long"}})) as api:
        outcome = batch(folder, api)
    assert outcome.counts["ok"] == 0 and outcome.exit_code() == 3
    assert any("400" in (r["error"] or "") for r in grades(folder, "out").values())


def test_stopped_while_waiting_goes_on_without_submitting_again(folder: Path) -> None:
    with ScriptedBatchApi(polls=5) as api:
        asked: list[int] = []

        def interrupted() -> bool:
            asked.append(1)
            return len(asked) > 3

        assert batch(folder, api, interrupted=interrupted).stopped == "interrupted"
        assert len(api.batches) == 1 and not api.seen
        assert batch(folder, api).counts["missing"] == 0
        assert len(api.batches) == 1 and set(api.seen.values()) == {1}


def test_a_crash_right_after_submitting_adopts_the_batch(folder: Path) -> None:
    with ScriptedBatchApi() as api:
        batch(folder, api, interrupted=lambda: bool(api.batches))
        (folder / "out" / "openai-batch" / "replies.sqlite").unlink()  # the id was never written down
        assert batch(folder, api).counts["missing"] == 0 and len(api.batches) == 1


def test_a_failed_batch_says_why(folder: Path) -> None:
    with ScriptedBatchApi(final="failed") as api, pytest.raises(LLMRejected, match="bad line 1"):
        batch(folder, api)
