"""`--engine ray`: the same grading by worker processes of a Ray cluster (Moritz et al., OSDI 2018).

driver: spool → rows ⇢ workers: Engine.grade ⇢ records → grades.jsonl, written by the driver alone

Every row is a partition of its own and its line in grades.jsonl the checkpoint, so a worker that dies costs what it
had in flight: those rows are given to others and another worker is asked for. Ray's own actor restarts are not used,
for rows sent to a worker whose machine is gone for good would wait for it.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from coach.batch.engine import Engine, Result, failed, grade_row
from coach.batch.grading import Task
from coach.batch.pool import TICK, Pool
from coach.batch.spool import Entry
from coach.domain import Fingerprint, Question, Usage
from coach.errors import CoachError, UsageError

# A row that was being graded whenever a worker died, this many times, is more likely the cause than a bystander.
_DEATHS_OF_A_ROW = 3
# Seconds without any worker: long enough for an autoscaler, short enough to notice a cluster without room.
_PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker has spent since it started; of two reports the one with the larger `number` is the later."""

    number: int = 0
    spent: Usage = field(default_factory=Usage)
    retries: dict[str, int] = field(default_factory=dict)


class Worker:
    """One grader in a process of its own, on whichever machine Ray chose. `grade` is called from several threads."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._engine: Engine | None = None
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._reports = 0

    def open(self, wanted: Fingerprint) -> str:
        """Build the grader; "" or why this one must not grade: it would not give the grades the driver promised."""
        try:
            engine = self._make()
        except CoachError as e:
            return f"{e.message} ({e.hint})".removesuffix(" ()")
        mine, theirs = engine.fingerprint.model_dump(), wanted.model_dump()
        differing = [name for name in theirs if mine[name] != theirs[name]]
        if differing:
            return f"it has another {', another '.join(differing)} than the driver"
        self._engine = engine
        return ""

    def grade(self, entry: Entry, question: Question) -> tuple[Result, Report]:
        assert self._engine is not None
        result = Result(None) if self._stopped.is_set() else grade_row(self._engine, entry, question)
        llm = self._engine.llm
        with self._lock:
            self._reports += 1
            return result, Report(self._reports, llm.spent, dict(llm.retries)) if llm else Report()

    def stop(self) -> None:
        """Rows not begun are dropped, those that wait for their turn give up, what the endpoint has is finished."""
        self._stopped.set()
        if self._engine and self._engine.llm:
            self._engine.llm.throttle.stop()


@dataclass(eq=False, slots=True)
class _Member:
    """The driver's view of one worker."""

    actor: Any
    open: bool = False
    running: int = 0
    report: Report = field(default_factory=Report)


def _knock(where: str) -> None:
    """OSError when nothing listens at HOST:PORT: Ray itself would go on trying for minutes."""
    host, _, port = where.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@contextmanager
def cluster(address: str | None, workers: int | None = None) -> Iterator[int]:
    """Connected to the cluster at `address` (or RAY_ADDRESS), or to one of our own on this machine; yields how many
    workers to hire: `workers`, or one for each CPU of the cluster.

    UsageError when Ray is not installed or nothing answers at the address.
    """
    try:
        import ray
    except ImportError as e:
        raise UsageError("--engine ray needs Ray", "pip install -e '.[ray]' -c constraints.txt") from e
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if where == "local":
        # Workers wait for an endpoint more than they compute, so more of them than CPUs is no mistake.
        options |= {"num_cpus": max(workers or 1, os.cpu_count() or 1), "include_dashboard": False}
    try:
        _knock(where)
        ray.init(address=where, **options)
    except Exception as e:  # Ray's own, grpc's and Python's: whichever, this cluster cannot be used
        raise UsageError(
            f"no Ray cluster can be used at {where}: {str(e).splitlines()[0] if str(e) else type(e).__name__}",
            "give the head node's address, e.g. --address 10.0.0.1:6379, or none for this machine alone",
        ) from e
    try:
        yield workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        ray.shutdown()


class RayWorkers(Pool[Task, Result]):
    """`workers` actors with `jobs` rows at once in each. Used inside `cluster`; `make` is called in every worker.

    Ray's callbacks only put events into a queue; all state is changed in the caller's thread, by `_next`.
    CoachError when no worker starts, or they keep dying: rows in flight stay ungraded, nothing is lost.
    """

    def __init__(self, make: Callable[[], Engine], fingerprint: Fingerprint, workers: int, jobs: int) -> None:
        super().__init__()
        self.jobs = workers * jobs
        self.warnings: list[str] = []
        self._make = make
        self._fingerprint = fingerprint
        self._each = jobs
        self._wanted = workers
        self._members: list[_Member] = []
        self._ever: list[_Member] = []
        self._again: deque[Task] = deque()
        self._suspect: int | None = None
        self._deaths_of: Counter[int] = Counter()
        self._deaths = 0
        self._without = time.monotonic()
        self._events: queue.SimpleQueue[tuple[Callable[[Any], tuple[Task, Result | None] | None], Any]] = (
            queue.SimpleQueue()
        )
        for _ in range(workers):
            self._hire()

    @property
    def spent(self) -> Usage:
        return sum((r.spent for r in self._reports()), Usage())

    @property
    def retries(self) -> dict[str, int]:
        total: Counter[str] = Counter()
        for report in self._reports():
            total.update(report.retries)
        return dict(total)

    def _reports(self) -> list[Report]:
        return [m.report for m in self._ever]

    # ── Pool ─────────────────────────────────────────────────────────────────────────────────────
    def _room(self) -> int:
        return sum(2 * self._each - m.running for m in self._members if m.open)

    def _start(self, task: Task) -> None:
        member = min((m for m in self._members if m.open), key=lambda m: m.running)
        member.running += 1
        self._when(member.actor.grade.remote(*task), partial(self._graded, member, task))

    def _next(self) -> tuple[Task, Result | None] | None:
        if self._stop.is_set() and self._again:
            return self._again.popleft(), None
        try:
            then, future = self._events.get(timeout=TICK)
        except queue.Empty:
            if not any(m.open for m in self._members) and time.monotonic() - self._without > _PATIENCE:
                raise CoachError(
                    f"no worker has started in {_PATIENCE:g} s",
                    "is there a free CPU in the cluster? ray status",
                ) from None
            return None
        return then(future)

    def stop(self) -> None:
        if self._stop.is_set():
            return
        super().stop()
        for member in self._members:
            member.actor.stop.options(concurrency_group="control").remote()

    def close(self) -> None:
        import ray

        self._stop.set()
        for member in self._members:
            ray.kill(member.actor)

    # ── events ───────────────────────────────────────────────────────────────────────────────────
    def _when(self, ref: Any, then: Callable[[Any], tuple[Task, Result | None] | None]) -> None:
        ref.future().add_done_callback(lambda future: self._events.put((then, future)))

    def _hire(self) -> None:
        import ray

        # Its own group of threads lets `stop` overtake the rows that wait.
        kind = ray.remote(num_cpus=1, max_concurrency=self._each, concurrency_groups={"control": 1})(Worker)
        member = _Member(kind.remote(self._make))
        self._members.append(member)
        self._ever.append(member)
        self._when(member.actor.open.remote(self._fingerprint), partial(self._opened, member))

    def _opened(self, member: _Member, future: Any) -> None:
        import ray

        error = future.exception()
        if isinstance(error, ray.exceptions.RayActorError):
            return self._lost(member)
        refusal = str(error) if error else future.result()
        if not refusal:
            member.open = True
            self._ask_again()
            return None
        self._dismiss(member)
        ray.kill(member.actor)
        warning = f"a worker cannot grade: {refusal}"
        if warning not in self.warnings:
            self.warnings.append(warning)
        if not self._members:
            raise CoachError(
                warning, "install the same version of the coach and the same notes on every machine"
            )
        return None

    def _graded(self, member: _Member, task: Task, future: Any) -> tuple[Task, Result | None] | None:
        import ray

        member.running -= 1
        if self._suspect == task[0].seq:
            self._suspect = None
        error = future.exception()
        found: tuple[Task, Result | None] | None
        if error is None:
            result, report = future.result()
            self._deaths = 0
            if report.number > member.report.number:
                member.report = report
            found = task, result
        elif isinstance(error, ray.exceptions.RayActorError):
            self._lost(member)
            found = self._survive(task)
        else:
            raise error
        self._ask_again()
        return found

    def _survive(self, task: Task) -> tuple[Task, Result | None] | None:
        """The row's worker is dead: the row is over when it has had its chances, else it waits for another."""
        self._deaths_of[task[0].seq] += 1
        if self._deaths_of[task[0].seq] >= _DEATHS_OF_A_ROW:
            reason = f"its worker died {_DEATHS_OF_A_ROW} times"
            return task, Result(failed(task[0], reason), unreachable=True)
        self._again.append(task)
        return None

    def _ask_again(self) -> None:
        """One at a time: a row that kills its worker whenever it is asked must not take the same others with it."""
        if self._again and self._suspect is None and any(m.open for m in self._members):
            task = self._again.popleft()
            self._suspect = task[0].seq
            self._start(task)

    def _lost(self, member: _Member) -> None:
        """A worker has died; said once for every row it had, counted once."""
        import ray

        if member not in self._members:
            return
        self._dismiss(member)
        # It may only be out of reach; then the rest of its rows come back as lost, too.
        ray.kill(member.actor)
        self._deaths += 1
        if self._deaths > _DEATHS_OF_A_ROW * self._wanted:
            raise CoachError(
                f"{self._deaths} workers have died without grading a row", "look at Ray's logs: ray logs"
            )
        if not self._stop.is_set():
            self._hire()

    def _dismiss(self, member: _Member) -> None:
        self._members.remove(member)
        if not any(m.open for m in self._members):
            self._without = time.monotonic()
