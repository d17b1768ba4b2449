"""One batch run on this machine: read, grade what is missing, write what came out.

fill the spool → index grades.jsonl → grade missing rows question by question → compact → tables and report
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from coach.batch.fields import Raw
from coach.batch.pacing import PacedLLM, Stopped, Waiting
from coach.batch.plan import Mapper, fill
from coach.batch.pool import Pool
from coach.batch.records import Record, error_record, fingerprint_hash, for_row, grade_record
from coach.batch.spool import Entry, Spool
from coach.batch.store import Store, StoreError, compact
from coach.domain import Fingerprint, Grade, Question, Usage
from coach.errors import CoachError, LLMError, LLMRejected, UsageError

GRADES = "grades.jsonl"
HISTORY = "history.jsonl"
_FATAL = (401, 403, 404)


@dataclass(frozen=True, slots=True)
class Engine:
    """What grades: `grade` may be called from `jobs` threads. `llm` paces and counts; None when nothing is paced."""

    grade: Callable[[Question, str], Grade]
    fingerprint: Fingerprint
    jobs: int = 1
    llm: PacedLLM | None = None


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


@dataclass(frozen=True, slots=True)
class Result:
    """What a worker made of one row. `fatal` ends the run, `unreachable` counts towards giving up."""

    record: Record | None
    fatal: CoachError | None = None
    unreachable: bool = False


def cost_of(usage: Usage, price_in: float | None, price_out: float | None) -> float | None:
    """Currency units; None when no price is known."""
    if price_in is None and price_out is None:
        return None
    return (usage.prompt_tokens * (price_in or 0) + usage.completion_tokens * (price_out or 0)) / 1e6


def grade_row(engine: Engine, entry: Entry, question: Question) -> Result:
    """Never raises for what one answer or the endpoint can do; a defect of ours becomes an error row, not a crash."""
    try:
        grade = engine.grade(question, entry.answer)
    except (Stopped, Waiting):
        return Result(None)
    except LLMRejected as e:
        fatal = e if e.status in _FATAL else None
        return Result(_failed(entry, e.message), fatal=fatal)
    except LLMError as e:
        return Result(_failed(entry, e.message), unreachable=True)
    except UsageError as e:
        return Result(_failed(entry, e.message, retry=False))
    except CoachError as e:
        return Result(None, fatal=e)
    except Exception as e:
        return Result(_failed(entry, f"internal error: {type(e).__name__}: {e}"[:500]))
    return Result(grade_record(entry.key, entry.content, question, grade, engine.fingerprint))


def _failed(entry: Entry, reason: str, retry: bool = True) -> Record:
    return error_record(entry.key, entry.question_id, reason, content=entry.content, retry=retry)


class Run:
    """Holds the output folder's lock while used as a context manager."""

    def __init__(
        self,
        engine: Engine,
        options: Options,
        *,
        clock: Callable[[], float] = time.monotonic,
        interrupted: Callable[[], bool] = lambda: False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.engine = engine
        self.options = options
        self.outcome = Outcome()
        self._clock = clock
        self._interrupted = interrupted
        self._progress = progress
        self._start = clock()
        self._done = 0
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

    def execute(self, grade: Callable[[Store, int], None] | None = None) -> Outcome:
        """Grade what has no final record yet, by `grade(store, rows to do)` instead of threads where one is given.

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
                (grade or self._grade)(store, total)
        self._measure()
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

    def _grade(self, store: Store, total: int) -> None:
        lost = 0
        pool: Pool[tuple[Entry, Question], Result] = Pool(
            lambda task: grade_row(self.engine, *task), self.engine.jobs
        )

        def idle() -> None:
            store.idle()
            if self._interrupted():
                self._end("interrupted", pool)
            elif self._late():
                self._end(f"--deadline {self.options.deadline:g} s", pool)

        tasks = ((e, self.spool.question(e.qkey)) for e in self.spool.todo())
        try:
            for (entry, _), result in pool.run(tasks, lambda: self._may_start(pool, idle), idle):
                if result.record is not None:
                    self.record(store, entry, result.record)
                    self._done += 1
                    if self._progress:
                        self._progress(self._done, total)
                lost = lost + 1 if result.unreachable else 0
                if result.fatal:
                    self._end(f"{result.fatal.message} ({result.fatal.hint})".removesuffix(" ()"), pool)
                elif lost >= max(5, self.engine.jobs):
                    self._end(
                        f"the endpoint failed {lost} rows in a row: {(result.record or {}).get('error')}",
                        pool,
                    )
                elif self.options.fail_fast and result.record and result.record["status"] == "error":
                    self._end(f"--fail-fast: {entry.place}: {result.record['error']}", pool)
                idle()
        finally:
            pool.close()

    def record(self, store: Store, entry: Entry, record: Record) -> None:
        """Append the record for this row and for every row with the same content."""
        for twin in self.spool.sharing(entry.key):
            same = "" if twin.id == entry.id else entry.id
            made = for_row(record, twin.id, twin.place, twin.candidate, same_as=same)
            self._put(store, made)
            if record["status"] != "error":
                self.outcome.graded += 0 if same else 1
                self.outcome.reused += 1 if same else 0

    def _end(self, reason: str, pool: Pool[Any, Any]) -> None:
        self.outcome.stopped = self.outcome.stopped or reason
        pool.stop()
        if self.engine.llm:
            self.engine.llm.throttle.stop()

    def _late(self) -> bool:
        limit = self.options.deadline
        return limit is not None and self._clock() - self._start >= limit

    def _may_start(self, pool: Pool[Any, Any], idle: Callable[[], None]) -> bool:
        """Not when what runs already is likely to use up the budget; what runs is always finished."""
        idle()
        if self.outcome.stopped:
            return False
        o, done = self.options, self._done
        spent = self.engine.llm.spent if self.engine.llm else Usage()
        share = (pool.in_flight + 1) / done if done else 0.0
        tokens = spent.prompt_tokens + spent.completion_tokens
        cost = cost_of(spent, o.price_in, o.price_out) or 0.0
        for name, used, most in (("--max-tokens", tokens, o.max_tokens), ("--max-cost", cost, o.max_cost)):
            if most is None:
                continue
            # Until the first row has shown what a row costs, one at a time; near the limit, wait for what runs.
            if (done == 0 and pool.in_flight) or used * (1 + share) > most:
                if not pool.in_flight:
                    self.outcome.stopped = f"{name} {most:g}"
                return False
        return True

    def _measure(self) -> None:
        self.outcome.seconds = self._clock() - self._start
        if self.engine.llm:
            self.outcome.spent = self.engine.llm.spent
            self.outcome.retries = dict(self.engine.llm.retries)

    def _compact(self) -> None:
        """One record per row: what a later grade or a changed input replaced moves to history.jsonl."""
        with self.grades.open("rb") as f:
            lines = sum(1 for _ in f)
        current = sum(self.spool.counts()[s] for s in ("ok", "unjudged", "error"))
        if lines != current:
            compact(self.grades, self.options.out / HISTORY, self.spool.is_current)
            self.spool.load_grades(self.grades)


__all__ = ["GRADES", "Engine", "Options", "Outcome", "Run", "StoreError", "cost_of", "grade_row"]
