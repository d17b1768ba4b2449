"""One endpoint, many threads: how many requests run at once is learnt from how the endpoint takes them.

Additive increase, multiplicative decrease (Chiu & Jain 1989): every success widens the window a little, a refusal
halves it, once per burst. A 429 with Retry-After holds everybody back for that long. A request that fails for a
passing reason is asked again with exponential backoff and full jitter (Brooker, AWS 2015).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, Unpack

from coach.domain import Usage
from coach.errors import LLMError, LLMUnavailable, LLMUnreadable
from coach.llm import LLM
from coach.llm.base import AdaptedLLM, Capabilities, ChatOptions, OnEach, Prefix, Reply
from coach.prompts import Messages

T = TypeVar("T")
_BACKOFF = 0.5
_LONGEST = 30.0


class Stopped(Exception):
    """The run is being stopped; the row stays ungraded and is not an error."""


class Waiting(Exception):
    """The row needs a reply that is not there yet (batch API); it stays ungraded and is not an error."""


class Throttle:
    """At most `limit` requests at once, 1 ≤ limit ≤ `most`. `wait` is Condition.wait, passed in for tests."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.limit = float(most)
        self.lowest = float(most)
        self.held = 0.0
        self._clock = clock
        self._running = 0
        self._until = 0.0
        self._cut = -1.0
        self._stopped = False
        self._changed = threading.Condition()

    @contextmanager
    def slot(self) -> Iterator[float]:
        """Yields the time the request may start; waits for a place first. Stopped when the run ends meanwhile."""
        with self._changed:
            while True:
                if self._stopped:
                    raise Stopped
                now = self._clock()
                if now >= self._until and self._running < max(1, int(self.limit)):
                    break
                self._changed.wait(min(1.0, self._until - now) if now < self._until else 1.0)
            self._running += 1
        try:
            yield now
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify()

    def succeeded(self) -> None:
        with self._changed:
            if self.limit < self.most:
                self.limit = min(float(self.most), self.limit + 1 / self.limit)
                self._changed.notify()

    def congested(self, started: float, retry_after: float | None) -> None:
        """A request that started at `started` was refused. Refusals of one burst count once."""
        with self._changed:
            now = self._clock()
            if retry_after:
                until = now + min(retry_after, 3600.0)
                if until > self._until:
                    self.held += until - max(now, self._until)
                    self._until = until
            if started >= self._cut:
                self._cut = now
                self.limit = max(1.0, self.limit / 2)
                self.lowest = min(self.lowest, self.limit)

    def pause(self, seconds: float) -> None:
        """Wait outside a slot; Stopped when the run ends meanwhile."""
        until = self._clock() + seconds
        with self._changed:
            while (left := until - self._clock()) > 0:
                if self._stopped:
                    raise Stopped
                self._changed.wait(min(left, 0.5))

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


class PacedLLM:
    """An LLM for several threads: same answers, but it waits its turn, asks again, and counts what was spent."""

    def __init__(
        self,
        llm: LLM,
        throttle: Throttle,
        *,
        attempts: int = 6,
        patience: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._llm = llm
        self.name = llm.name
        self.throttle = throttle
        self._attempts = attempts
        self._patience = patience
        self._clock = clock
        self._rng = rng or random.Random()
        self._lock = threading.Lock()
        self._probing = threading.Lock()
        self.spent = Usage()
        self.retries: dict[str, int] = {}

    @property
    def capabilities(self) -> Capabilities:
        with self._probing:  # found out once, by a few requests, not once per thread
            for attempt in range(1, min(4, self._attempts)):
                try:
                    return self._llm.capabilities
                except (LLMUnavailable, LLMUnreadable) as e:
                    self._wait(e, attempt)
                    self.throttle.pause(min(e.retry_after or 0.0, _LONGEST))
            return self._llm.capabilities

    def chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Reply:
        """Raises what the last attempt raised; LLMRejected at once, for asking again would not help."""
        if "schema" in options:
            _ = self.capabilities  # outside the slot: the probe is a request of its own
        reply = self._insist(lambda: self._llm.chat(messages, **options))
        self._count(reply.usage)
        return reply

    def _insist(self, ask: Callable[[], T]) -> T:
        give_up = self._clock() + self._patience
        for attempt in range(1, self._attempts + 1):
            try:
                with self.throttle.slot() as started:
                    got = ask()
            except (LLMUnavailable, LLMUnreadable) as e:
                reason = str(e.status) if e.status else type(e).__name__
                with self._lock:
                    self.retries[reason] = self.retries.get(reason, 0) + 1
                if isinstance(e, LLMUnavailable):
                    self.throttle.congested(started, e.retry_after)
                if attempt == self._attempts or self._clock() >= give_up:
                    raise
                self._wait(e, attempt)
                continue
            self.throttle.succeeded()
            return got
        raise AssertionError("unreachable")

    def _count(self, usage: Usage) -> None:
        with self._lock:
            self.spent += usage

    def _wait(self, error: LLMError, attempt: int) -> None:
        longest = min(_LONGEST, _BACKOFF * 2**attempt)
        # Retry-After holds everybody at the next slot; a little jitter keeps them from starting all at once.
        self.throttle.pause(self._rng.uniform(0.1 * longest, longest))


class PacedAdapted(PacedLLM):
    """The same for a model with an adapter: batch must find in it what practice finds in the model."""

    def __init__(self, llm: AdaptedLLM, throttle: Throttle, *, attempts: int = 6) -> None:
        super().__init__(llm, throttle, attempts=attempts)
        self._adapted = llm
        self.digest, self.adapter, self.max_claims_tokens = llm.digest, llm.adapter, llm.max_claims_tokens

    def count_tokens(self, text: str) -> int:
        return self._adapted.count_tokens(text)

    def prepare(self, beginning: str) -> None:
        self._insist(lambda: self._adapted.prepare(beginning))

    def log_odds(
        self, prefix: Prefix, pieces: Sequence[str], on_each: OnEach | None = None
    ) -> tuple[list[float], Usage]:
        found, usage = self._insist(lambda: self._adapted.log_odds(prefix, pieces, on_each))
        self._count(usage)
        return found, usage


def pace(llm: LLM, throttle: Throttle, *, attempts: int = 6) -> PacedLLM:
    if isinstance(llm, AdaptedLLM):
        return PacedAdapted(llm, throttle, attempts=attempts)
    return PacedLLM(llm, throttle, attempts=attempts)
