"""`--engine openai-batch`: the same grading, with the endpoint's Batch API in place of single calls.

Grading runs against a *replay*: a request whose reply is known gets it, any other is written down and the row waits.
What was written down is submitted as one file; when its replies are in, grading runs again. A structured row needs
one round, one more for every further reading of what was in doubt and for every reply that had to be repaired. Replies are kept in SQLite, so a killed run never pays twice.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Unpack

from coach.batch.engine import failed, grade_row
from coach.batch.pacing import Waiting
from coach.batch.run import Run
from coach.batch.store import Store, StoreError, write_text
from coach.domain import Usage
from coach.errors import LLMRejected
from coach.llm.base import Capabilities, ChatOptions, Reply
from coach.llm.openai_batches import BatchApi, BatchState, read_reply
from coach.llm.openai_chat import request_options
from coach.prompts import Messages
from coach.text import sha256

# The API's own limits are 50,000 requests and 200 MB a file.
MOST_REQUESTS = 50_000
MOST_BYTES = 190 * 1024 * 1024
ROUNDS = 6


class Replay:
    """An LLM that answers from stored replies. For one thread; `waiting` says whether the last row lacks any."""

    def __init__(self, model: str, where: str, path: Path) -> None:
        self.name = model
        self.capabilities = Capabilities(logprobs=True, json_mode="schema")
        self.waiting = False
        self.where = where
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, status INTEGER, body TEXT)"
            )
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS batches (id TEXT PRIMARY KEY, ended INTEGER NOT NULL)"
            )
            self._db.execute("CREATE TEMP TABLE wanted (key TEXT PRIMARY KEY, body TEXT NOT NULL)")
        except sqlite3.Error as e:
            raise StoreError(f"{path}: {e}", "choose another folder with -o") from e

    def chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Reply:
        wanted = request_options(options, self.capabilities.json_mode)
        body = json.dumps(
            {"model": self.name, "messages": messages, **wanted}, ensure_ascii=False, sort_keys=True
        )
        key = sha256(body)[:48]
        found = self._db.execute("SELECT status, body FROM replies WHERE key = ?", (key,)).fetchone()
        if found is None:
            self._db.execute("INSERT OR IGNORE INTO wanted VALUES (?, ?)", (key, body))
            self.waiting = True
            if "schema" in options:
                raise Waiting
            # A pointwise judge asks its points independently: let it name them all. What it makes of this
            # unreadable reply is thrown away, because the row is waiting.
            return Reply(text="", usage=Usage())
        status, text = found
        if status != 200:
            raise LLMRejected(f"{self.where} refused the request ({status}): {text[:200]}")
        reply: Reply = read_reply(json.loads(text), self.where)
        return reply

    def keep(self, line: dict[str, Any]) -> None:
        """Store one result line. Passing failures are not kept, so the next round asks again."""
        response = line.get("response") or {}
        status = response.get("status_code")
        if not isinstance(status, int) or status == 429 or status >= 500 or "custom_id" not in line:
            return
        body = json.dumps(response.get("body"), ensure_ascii=False)
        self._db.execute("INSERT OR IGNORE INTO replies VALUES (?,?,?)", (line["custom_id"], status, body))

    def wanted_files(self, folder: Path) -> list[Path]:
        """Write what is asked for as request files within the API's limits, named by their content."""
        files: list[Path] = []
        part: list[str] = []
        size = 0

        def flush() -> None:
            nonlocal size
            if part:
                text = "".join(part)
                path = folder / f"requests-{sha256(text)[:16]}.jsonl"
                write_text(path, text)
                files.append(path)
            part.clear()
            size = 0

        for key, body in self._db.execute("SELECT key, body FROM wanted ORDER BY rowid"):
            line = f'{{"custom_id":"{key}","method":"POST","url":"/v1/chat/completions","body":{body}}}\n'
            if len(part) == MOST_REQUESTS or size + 4 * len(line) > MOST_BYTES:
                flush()
            part.append(line)
            size += len(line.encode("utf8"))
        flush()
        self._db.execute("DELETE FROM wanted")
        return files

    def open_batches(self) -> list[str]:
        return [str(i) for (i,) in self._db.execute("SELECT id FROM batches WHERE ended = 0")]

    def opened(self, batch_id: str) -> None:
        self._db.execute("INSERT OR IGNORE INTO batches VALUES (?, 0)", (batch_id,))

    def ended(self, batch_id: str) -> None:
        self._db.execute("UPDATE batches SET ended = 1 WHERE id = ?", (batch_id,))

    def close(self) -> None:
        self._db.close()


class BatchGrading:
    """The grading of `Run.execute`: rounds of replaying, submitting and waiting."""

    def __init__(
        self,
        replay: Replay,
        api: BatchApi,
        *,
        poll: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replay = replay
        self._api = api
        self._poll = poll
        self._sleep = sleep
        self._clock = clock

    def __call__(self, run: Run, store: Store, total: int) -> None:
        for batch_id in self._replay.open_batches():  # of a run that was stopped while waiting
            if not self._collect(run, batch_id):
                return
        for round_ in range(1, ROUNDS + 1):
            waiting = self._replay_all(run, store, total, last=round_ == ROUNDS)
            if not waiting or round_ == ROUNDS or self._stopped(run):
                return
            for path in self._replay.wanted_files(run.options.out / "openai-batch"):
                # The tag names round and content: the same requests asked anew are a new batch, a crash is not.
                batch_id = self._api.submit(path, f"{path.stem}-{round_}")
                self._replay.opened(batch_id)
            for batch_id in self._replay.open_batches():
                if not self._collect(run, batch_id):
                    return

    def _replay_all(self, run: Run, store: Store, total: int, last: bool) -> int:
        waiting = 0
        for entry in run.spool.todo():
            if run.spool.is_done(entry):
                continue
            self._replay.waiting = False
            question = run.spool.question(entry.qkey)
            record = grade_row(run.engine, entry, question).record
            if self._replay.waiting:
                waiting += 1
                if not last:
                    continue
                record = failed(entry, f"the endpoint gave no reply in {ROUNDS} batches")
            if record is not None:
                run.record(store, entry, record)
        run.progress(total - waiting, total)
        return waiting

    def _stopped(self, run: Run) -> bool:
        if run.interrupted():
            run.outcome.stopped = "interrupted"
        return bool(run.outcome.stopped)

    def _collect(self, run: Run, batch_id: str) -> bool:
        """Wait for the batch and keep its replies; False when the run was interrupted meanwhile."""
        while not (state := self._api.state(batch_id)).ended:
            if self._stopped(run):
                return False
            until = self._clock() + self._poll
            while self._clock() < until and not self._stopped(run):  # Ctrl-C must not wait for the next poll
                self._sleep(min(1.0, self._poll))
        self._keep(state)
        if state.status == "failed":
            self._replay.ended(batch_id)
            raise LLMRejected(
                f"the batch {batch_id} failed: {state.problem or 'no reason given'}",
                "mend that and run again",
            )
        self._replay.ended(batch_id)
        return True

    def _keep(self, state: BatchState) -> None:
        for file_id in filter(None, (state.output, state.errors)):
            for line in self._api.lines(file_id):
                self._replay.keep(line)
