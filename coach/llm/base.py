"""The seam between graders and language models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Required, TypedDict, Unpack, runtime_checkable

from coach.domain import Usage
from coach.prompts import Messages


@dataclass(frozen=True, slots=True)
class Reply:
    """`first_token` holds (token, natural-log probability) alternatives for the first generated token, or None."""

    text: str
    usage: Usage
    first_token: tuple[tuple[str, float], ...] | None = None
    finish_reason: str = ""

    def mass(self, spellings: frozenset[str]) -> float:
        """Probability that the first token is one of `spellings` (stripped, lower-cased)."""
        return sum(math.exp(lp) for token, lp in self.first_token or () if token.strip().lower() in spellings)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an endpoint was seen to do. `json_mode` is "schema", "object" or "none"."""

    logprobs: bool
    json_mode: str


class ChatOptions(TypedDict, total=False):
    """How a chat is to be answered. `top_logprobs`: alternatives for the first token; `schema`: JSON schema of the
    reply, as far as the endpoint can hold to one; `temperature` is 0 unless given.
    """

    max_tokens: Required[int]
    top_logprobs: int
    schema: dict[str, Any]
    temperature: float
    seed: int


class LLM(Protocol):
    """`name` goes into the fingerprint; `chat` raises only the LLMError family."""

    name: str

    @property
    def capabilities(self) -> Capabilities: ...

    def chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Reply: ...


Prefix = tuple[str, str]  # what may be read ahead, and the rest
OnEach = Callable[[int, float], None]  # (place, log-odds)


@runtime_checkable
class AdaptedLLM(LLM, Protocol):
    """A model that carries an adapter trained to judge claims; chat goes without it.

    `digest` names the weights, `adapter` the adapter ("" when there is none): what was fitted on one fits no other.
    """

    digest: str
    adapter: str
    max_claims_tokens: int

    def count_tokens(self, text: str) -> int: ...

    def prepare(self, beginning: str) -> None:
        """Read ahead what the next `log_odds` will begin with."""
        ...

    def log_odds(
        self, prefix: Prefix, pieces: Sequence[str], on_each: OnEach | None = None
    ) -> tuple[list[float], Usage]:
        """Log-odds of 是 against 否 as what follows each piece of `prefix + pieces[0] + pieces[1] …`, one a piece.

        `on_each` gets the numbers as they come. LLMRejected
        when all together is longer than `max_claims_tokens`.
        """
        ...
