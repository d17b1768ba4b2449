"""One batch run: read, grade what is missing, write what came out.

fill the spool → index grades.jsonl → grade missing rows question by question → compact → tables and report
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from coach.batch.engine import Engine
from coach.batch.fields import Raw
from coach.batch.grading import LocalWorkers, WorkerGrading
from coach.batch.plan import Mapper, fill
from coach.batch.records import Record, error_record, fingerprint_hash, for_row
from coach.batch.spool import Entry, Spool
from coach.batch.store import Store, compact
from coach.domain import Usage
from coach.errors import UsageError

GRADES = "grades.jsonl"
HISTORY = "history.jsonl"


@dataclass(frozen=True, slots=True)
class Options:
    """Budgets hold for one run: `max_cost` in the units of the prices per million tokens, `deadline` in seconds."""

    out: Path
    limit: int | None = None
    force: bool = False
    fail_fast: bool = False
    fsync: str = "interval"
    max_cost: float | None = None
    max_tokens: int | None = None
    deadline: float | None = None
    price_in: float | None = None
    price_out: float | None = None


@dataclass(slots=True)
class Outcome:
    """`stopped` says why the run ended before its last row; empty when it did not."""

    counts: dict[str, int] = field(default_factory=dict)
    graded: int = 0
    reused: int = 0
    stopped: str = ""
    seconds: float = 0.0
    spent: Usage = field(default_factory=Usage)
    warnings: list[str] = field(default_factory=list)
    retries: dict[str, int] = field(default_factory=dict)

    def exit_code(self, limited: bool = False) -> int:
        """0 every row has a grade, 3 some have none, 4 the run was stopped."""
        if self.stopped:
            return 4
        bad = self.counts["error"] + self.counts["unjudged"] + (0 if limited else self.counts["missing"])
        return 3 if bad else 0


class Run:
    """Holds the output folder's lock while used as a context manager."""

    def __init__(
        self,
        engine: Engine,
        options: Options,
        *,
        clock: Callable[[], float] = time.monotonic,
        interrupted: Callable[[], bool] = lambda: False,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self.engine = engine
        self.options = options
        self.outcome = Outcome()
        self._clock = clock
        self.interrupted = interrupted
        self.progress = progress
        self._start = clock()
        out = options.out
        try:
            out.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(out / ".lock")
            self._lock.acquire(timeout=0)
        except Timeout as e:
            raise UsageError(f"{out} is in use by another batch run", "wait for it, or use another -o") from e
        except OSError as e:
            raise UsageError(
                f"{out}: {e.strerror or e}", "choose a folder that can be written with -o"
            ) from e
        self.spool = Spool(out / ".rows.sqlite")

    @property
    def grades(self) -> Path:
        return self.options.out / GRADES

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *exc: object) -> None:
        self.spool.close()
        self._lock.release()

    def read(
        self, tables: Iterator[Iterator[Raw]], mapper: Mapper, progress: Callable[[int], None] | None = None
    ) -> None:
        fill(self.spool, tables, mapper, fingerprint_hash(self.engine.fingerprint), progress)

    def execute(self, grading: Grading | None = None) -> Outcome:
        """Grade what has no final record yet, in threads of this process where no other `grading` is given.

        StoreError when the output cannot be written.
        """
        with Store(self.grades, self.options.fsync) as store:
            if self.options.force:
                self.spool.load_grades(None)
            elif broken := self.spool.load_grades(self.grades):
                self.outcome.warnings.append(
                    f"{broken} damaged lines of {GRADES} are ignored; their rows are graded again"
                )
            self._settle(store)
            total = self.spool.plan(self.options.limit)
            if total and not self.outcome.stopped:
                (grading or WorkerGrading(lambda: LocalWorkers(self.engine)))(self, store, total)
        self.outcome.seconds = self._clock() - self._start
        if not self.outcome.stopped:
            if self.options.force:
                self.spool.load_grades(self.grades)
            self._compact()
        self.outcome.counts = self.spool.counts()
        return self.outcome

    def _put(self, store: Store, record: Record) -> None:
        self.spool.put(record, *store.append(record))

    def _settle(self, store: Store) -> None:
        """Rows that need no grading: those that cannot be graded, and those whose content has been."""
        for entry in list(self.spool.unreported_errors()):
            record = error_record(entry.key, entry.question_id, entry.error)
            self._put(store, for_row(record, entry.id, entry.place, entry.candidate))
            if self.options.fail_fast:
                self.outcome.stopped = f"--fail-fast: {entry.place}: {entry.error}"
                return
        for row_id, place, candidate, question_id, other, offset, length in self.spool.known_elsewhere():
            record = for_row(store.read(offset, length), row_id, place, candidate, same_as=other)
            self._put(store, record | {"question_id": question_id})
            self.outcome.reused += 1

    def record(self, store: Store, entry: Entry, record: Record) -> None:
        """Append the record for this row and for every row with the same content."""
        for twin in self.spool.sharing(entry.key):
            same = "" if twin.id == entry.id else entry.id
            made = for_row(record, twin.id, twin.place, twin.candidate, same_as=same)
            self._put(store, made)
            if record["status"] != "error":
                self.outcome.graded += 0 if same else 1
                self.outcome.reused += 1 if same else 0

    def late(self) -> bool:
        limit = self.options.deadline
        return limit is not None and self._clock() - self._start >= limit

    def _compact(self) -> None:
        """One record per row: what a later grade or a changed input replaced moves to history.jsonl."""
        with self.grades.open("rb") as f:
            lines = sum(1 for _ in f)
        current = sum(self.spool.counts()[s] for s in ("ok", "unjudged", "error"))
        if lines != current:
            compact(self.grades, self.options.out / HISTORY, self.spool.is_current)
            self.spool.load_grades(self.grades)


# Grades the rows that are missing, so many of them, and puts their records into the store.
Grading = Callable[[Run, Store, int], None]
