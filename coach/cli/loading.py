"""What is loaded and read ahead in the background, while the candidate reads and types."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coach.grade import Grader


class Loader:
    """Loads the grader in the background, while the first question is read and answered."""

    def __init__(self, load: Callable[[], Grader]) -> None:
        self._load = load
        self._thread: threading.Thread | None = None
        self._made: Grader | None = None
        self._error: Exception | None = None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            self._made = self._load()
        except Exception as e:
            self._error = e

    @property
    def loading(self) -> bool:
        return self._thread is None or self._thread.is_alive()

    def prepare(self, asked: str) -> None:
        """Let the model read the question in the background. What fails here fails again, and is told, when grading."""

        self.start()
        loading = self._thread

        def ahead() -> None:
            if loading:
                loading.join()
            if self._made:
                with suppress(Exception):
                    self._made.prepare(asked)

        threading.Thread(target=ahead, daemon=True).start()

    def __call__(self) -> Grader:
        """Waits for the grader; raises what loading raised, and loads anew at the next call."""
        self.start()
        assert self._thread is not None
        while self._thread.is_alive():
            self._thread.join(0.1)  # in slices, so that Ctrl-C is heard
        if self._made is None:
            error, self._error, self._thread = self._error, None, None
            raise error or RuntimeError("the grader was not loaded")
        return self._made
