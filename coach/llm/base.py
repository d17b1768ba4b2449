"""The seam between graders and language models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Required, TypedDict, Unpack, runtime_checkable

import numpy as np
from numpy.typing import NDArray

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


@runtime_checkable
class StatefulLLM(LLM, Protocol):
    """A model whose hidden states can be read. `digest` names the weights that a trained readout belongs to.

    `adapter` is the digest of the LoRA adapter at work while states are read ("" when there is none); chat goes
    without it.
    """

    digest: str
    adapter: str
    max_state_tokens: int

    def count_tokens(self, text: str) -> int: ...

    def states(self, prefix: str, pieces: Sequence[str]) -> tuple[NDArray[np.float32], Usage]:
        """Last-layer states at the end of each piece of `prefix + pieces[0] + pieces[1] …`: (len(pieces), hidden)."""
        ...
