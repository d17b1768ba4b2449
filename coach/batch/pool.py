"""Worker threads around one function: bounded in flight, results in the caller's thread, a stop that loses nothing."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
_TICK = 0.2


class Pool(Generic[T, R]):
    """`work` runs in `jobs` threads and must return, never raise. Only `2 × jobs` tasks are taken in advance."""

    def __init__(self, work: Callable[[T], R], jobs: int) -> None:
        self._work = work
        self._tasks: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[T, R | BaseException]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._jobs = jobs
        self.in_flight = 0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(jobs)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            if self._stop.is_set():
                self._results.put((task, _Dropped()))
                continue
            try:
                self._results.put((task, self._work(task)))
            except BaseException as e:
                self._results.put((task, e))

    def run(
        self, tasks: Iterator[T], ready: Callable[[], bool], idle: Callable[[], None]
    ) -> Iterator[tuple[T, R]]:
        """(task, result) as they finish. `ready` says before each task whether it may be started now; when it says no
        and nothing is running, the run is over.

        An exception that escaped `work` is raised here, in the caller's thread.
        """
        more = True
        while True:
            while more and self.in_flight < 2 * self._jobs and not self._stop.is_set():
                if not ready():
                    break
                task = next(tasks, None)
                if task is None:
                    more = False
                    break
                self.in_flight += 1
                self._tasks.put(task)
            if not self.in_flight:
                return
            try:
                task, result = self._results.get(timeout=_TICK)
            except queue.Empty:
                idle()
                continue
            self.in_flight -= 1
            if isinstance(result, _Dropped):
                continue
            if isinstance(result, BaseException):
                raise result
            yield task, result

    def stop(self) -> None:
        """Tasks not yet begun are dropped; those running are finished and still come out of `run`."""
        self._stop.set()

    def close(self) -> None:
        self.stop()
        for _ in self._threads:
            self._tasks.put(None)


class _Dropped(Exception):
    pass
