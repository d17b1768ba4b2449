"""What a run will need, before it is paid for: rows, questions, tokens, time, cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from coach.domain import Question, Usage
from coach.errors import CoachError, LLMUnreadable
from coach.llm.base import Capabilities, ChatOptions, Reply
from coach.prompts import Messages

_REPLY_TOKENS_PER_POINT = 60


def tokens_of(text: str) -> int:
    """About 0.75 tokens a Chinese character and one for four others: within a fifth for the usual tokenizers."""
    wide = sum(1 for c in text if c > "\u2e7f")
    return round(0.75 * wide + (len(text) - wide) / 4) + 1


class Gauge:
    """Stands in for the endpoint and only weighs the prompts. It never makes a grade: a structured judge is
    stopped after its first prompt, a pointwise one gets a reply that cannot be read."""

    def __init__(self, name: str, capabilities: Capabilities) -> None:
        self.name = name
        self.capabilities = capabilities
        self.usage = Usage()

    def chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Reply:
        size = sum(tokens_of(m["content"]) + 4 for m in messages)
        self.usage += Usage(
            calls=1, prompt_tokens=size, completion_tokens=1 if options.get("top_logprobs") else 0
        )
        if "schema" in options:
            raise LLMUnreadable("only weighing")
        return Reply(text="", usage=Usage())


@dataclass(frozen=True, slots=True)
class Estimate:
    """`usage` is for all `rows`; `seconds` only where rows were really graded for the sample."""

    rows: int
    sampled: int
    usage: Usage
    seconds: float | None


def weigh(
    samples: Sequence[tuple[Question, str]],
    rows: int,
    grade: Callable[[Question, str], object],
    gauge: Gauge,
) -> Estimate:
    """Tokens of `rows` rows from the prompts of some, with no call to any endpoint."""
    points = 0
    for question, answer in samples:
        try:
            grade(question, answer)
        except CoachError:
            points += len(question.rubric)
    used = gauge.usage + Usage(completion_tokens=points * _REPLY_TOKENS_PER_POINT)
    return Estimate(rows, len(samples), scaled(used, rows, len(samples)), None)


def measure(
    samples: Sequence[tuple[Question, str]],
    rows: int,
    jobs: int,
    grade: Callable[[Question, str], Any],
    clock: Callable[[], float] = time.monotonic,
) -> Estimate:
    """Tokens and seconds of `rows` rows from really grading some, one after the other."""
    start = clock()
    used = Usage()
    for question, answer in samples:
        used += grade(question, answer).usage
    per_row = (clock() - start) / max(1, len(samples))
    return Estimate(rows, len(samples), scaled(used, rows, len(samples)), per_row * rows / jobs)


def scaled(usage: Usage, rows: int, sampled: int) -> Usage:
    if not sampled:
        return Usage()
    f = rows / sampled
    return Usage(
        calls=round(usage.calls * f),
        prompt_tokens=round(usage.prompt_tokens * f),
        cached_tokens=round(usage.cached_tokens * f),
        completion_tokens=round(usage.completion_tokens * f),
    )
