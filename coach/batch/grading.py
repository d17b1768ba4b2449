"""Missing rows → workers → records, within the budgets. Whose workers they are makes no difference here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from coach.batch.engine import Engine, Result, cost_of, grade_row
from coach.batch.pool import Threads
from coach.batch.spool import Entry
from coach.batch.store import Store
from coach.domain import Question, Usage

if TYPE_CHECKING:
    from coach.batch.run import Run

Task = tuple[Entry, Question]


class Workers(Protocol):
    """`jobs` rows are graded at once; `spent`, `retries` and `warnings` are what all workers have reported so far."""

    jobs: int
    in_flight: int
    warnings: list[str]

    @property
    def spent(self) -> Usage: ...

    @property
    def retries(self) -> dict[str, int]: ...

    def run(
        self, tasks: Iterator[Task], ready: Callable[[], bool], idle: Callable[[], None]
    ) -> Iterator[tuple[Task, Result]]: ...

    def stop(self) -> None: ...

    def close(self) -> None: ...


class LocalWorkers(Threads[Task, Result]):
    """Threads of this process around one engine."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(lambda task: grade_row(engine, *task), engine.jobs)
        self.jobs = engine.jobs
        self.warnings: list[str] = []
        self._llm = engine.llm

    @property
    def spent(self) -> Usage:
        return self._llm.spent if self._llm else Usage()

    @property
    def retries(self) -> dict[str, int]:
        return dict(self._llm.retries) if self._llm else {}

    def stop(self) -> None:
        super().stop()
        if self._llm:
            self._llm.throttle.stop()


class WorkerGrading:
    """The grading of `Run.execute` by workers, who are hired when there is something to do."""

    def __init__(self, hire: Callable[[], Workers]) -> None:
        self._hire = hire

    def __call__(self, run: Run, store: Store, total: int) -> None:
        workers = self._hire()
        try:
            _Shift(run, store, workers, total).work()
        finally:
            workers.close()
            run.outcome.spent = workers.spent
            run.outcome.retries = workers.retries
            run.outcome.warnings += workers.warnings


class _Shift:
    """One run's rows through one set of workers."""

    def __init__(self, run: Run, store: Store, workers: Workers, total: int) -> None:
        self._run = run
        self._store = store
        self._workers = workers
        self._total = total
        self._done = 0
        self._lost = 0

    def work(self) -> None:
        spool = self._run.spool
        tasks = ((e, spool.question(e.qkey)) for e in spool.todo())
        for (entry, _), result in self._workers.run(tasks, self._may_start, self._idle):
            if result.record is not None:
                self._run.record(self._store, entry, result.record)
                self._done += 1
                self._run.progress(self._done, self._total)
            self._judge(entry, result)
            self._idle()

    def _judge(self, entry: Entry, result: Result) -> None:
        """Must the run end after this row?"""
        self._lost = self._lost + 1 if result.unreachable else 0
        error = (result.record or {}).get("error")
        if result.fatal:
            self._end(f"{result.fatal.message} ({result.fatal.hint})".removesuffix(" ()"))
        elif self._lost >= max(5, self._workers.jobs):
            self._end(f"the endpoint failed {self._lost} rows in a row: {error}")
        elif self._run.options.fail_fast and result.record and result.record["status"] == "error":
            self._end(f"--fail-fast: {entry.place}: {error}")

    def _idle(self) -> None:
        self._store.idle()
        if self._run.interrupted():
            self._end("interrupted")
        elif self._run.late():
            self._end(f"--deadline {self._run.options.deadline:g} s")

    def _end(self, reason: str) -> None:
        self._run.outcome.stopped = self._run.outcome.stopped or reason
        self._workers.stop()

    def _may_start(self) -> bool:
        """Not when what runs already is likely to use up the budget; what runs is always finished."""
        self._idle()
        if self._run.outcome.stopped:
            return False
        o, done, running = self._run.options, self._done, self._workers.in_flight
        if o.max_tokens is None and o.max_cost is None:
            return True
        spent = self._workers.spent
        share = (running + 1) / done if done else 0.0
        tokens = spent.prompt_tokens + spent.completion_tokens
        cost = cost_of(spent, o.price_in, o.price_out) or 0.0
        for name, used, most in (("--max-tokens", tokens, o.max_tokens), ("--max-cost", cost, o.max_cost)):
            if most is None:
                continue
            # Until the first row has shown what a row costs, one at a time; near the limit, wait for what runs.
            if (done == 0 and running) or used * (1 + share) > most:
                if not running:
                    self._run.outcome.stopped = f"{name} {most:g}"
                return False
        return True
