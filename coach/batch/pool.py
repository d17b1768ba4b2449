"""Workers around one function: bounded in flight, results in the caller's thread, a stop that loses nothing."""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")
TICK = 0.2


class Pool(ABC, Generic[T, R]):
    """Tasks go to workers, wherever those are. Twice as many tasks are taken as run at once, so that none waits."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._stop = threading.Event()

    @abstractmethod
    def _room(self) -> int:
        """How many more tasks are taken now; 0 or less: none."""

    @abstractmethod
    def _start(self, task: T) -> None:
        """Give `task` to a worker."""

    @abstractmethod
    def _next(self) -> tuple[T, R | None] | None:
        """The next task that is over, or None when for a moment none was; the result is None when it was dropped."""

    @abstractmethod
    def close(self) -> None:
        """Let the workers go; what they still do is not waited for."""

    def stop(self) -> None:
        """Tasks not yet begun are dropped; those running are finished and still come out of `run`."""
        self._stop.set()

    def run(
        self, tasks: Iterator[T], ready: Callable[[], bool], idle: Callable[[], None]
    ) -> Iterator[tuple[T, R]]:
        """(task, result) as they finish. `ready` says before each task whether it may be started now; when it says no
        and nothing is running, the run is over.

        An exception that escaped a worker is raised here, in the caller's thread.
        """
        more = True
        while True:
            while more and self._room() > 0 and not self._stop.is_set():
                if not ready():
                    break
                task = next(tasks, None)
                if task is None:
                    more = False
                    break
                self.in_flight += 1
                self._start(task)
            starved = more and self._room() <= 0 and not self._stop.is_set()
            if not self.in_flight and not starved:
                return
            found = self._next()
            if found is None:
                idle()
                continue
            self.in_flight -= 1
            if found[1] is not None:
                yield found[0], found[1]


class Threads(Pool[T, R]):
    """`work` runs in `jobs` threads of this process and must return, never raise."""

    def __init__(self, work: Callable[[T], R], jobs: int) -> None:
        super().__init__()
        self._work = work
        self._jobs = jobs
        self._tasks: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[tuple[T, R | BaseException | None]] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._loop, daemon=True) for _ in range(jobs)]
        for thread in self._threads:
            thread.start()

    def _loop(self) -> None:
        while (task := self._tasks.get()) is not None:
            if self._stop.is_set():
                self._results.put((task, None))
                continue
            try:
                self._results.put((task, self._work(task)))
            except BaseException as e:
                self._results.put((task, e))

    def _room(self) -> int:
        return 2 * self._jobs - self.in_flight

    def _start(self, task: T) -> None:
        self._tasks.put(task)

    def _next(self) -> tuple[T, R | None] | None:
        try:
            task, result = self._results.get(timeout=TICK)
        except queue.Empty:
            return None
        if isinstance(result, BaseException):
            raise result
        return task, result

    def close(self) -> None:
        self._stop.set()
        for _ in self._threads:
            self._tasks.put(None)
