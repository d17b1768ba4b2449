"""How a claim's truth in an answer is read out of a language model: the exchangeable part of the pointwise judge.

`YesNo` asks one yes/no question per claim and works with every endpoint that returns token probabilities.
`Probe` runs question, answer and all claims through one forward pass and reads the hidden state after each claim
with a trained linear head (a linear probe, Alain & Bengio 2016; the model's upper layers may carry a LoRA adapter
trained for it); it belongs to one model and is a small data file.
Both give a log-odds per claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from coach.config import Settings, resource
from coach.domain import Usage
from coach.errors import CoachError
from coach.llm import LLM, Reply
from coach.llm.base import StatefulLLM
from coach.prompts import load_prompt
from coach.text import neutralise, sha256

YES = frozenset({"是", "是的", "yes", "对", "“是”", "y", "true"})
NO = frozenset({"否", "不", "不是", "no", "没有", "没", "“否”", "n", "false"})
TOP = 20
_FLOOR = 1e-6


@dataclass(frozen=True, slots=True)
class Reading:
    """Log-odds that the answer states the claim, or None when the reply could not be read; `raw` keeps the reply."""

    logit: float | None
    raw: str = ""


OnReading = Callable[[int, Reading], None]


class Readout(Protocol):
    """`version` goes into the fingerprint."""

    name: str
    version: str
    prompts: dict[str, str]

    def read(
        self, question: str, answer: str, claims: Sequence[str], on_reading: OnReading | None = None
    ) -> tuple[list[Reading], Usage]: ...


def yes_logit(reply: Reply) -> float | None:
    """log P(yes)/P(no) over all spellings; None when the reply is about something else entirely."""
    yes, no = reply.mass(YES), reply.mass(NO)
    if yes + no < 0.05:
        return None
    return math.log((yes + _FLOOR) / (no + _FLOOR))


class YesNo:
    """One question per claim, the claim last: the server's prefix cache pays for question and answer once."""

    name = "yes-no"
    version = ""

    def __init__(self, settings: Settings, llm: LLM) -> None:
        self._llm = llm
        self._prompt = load_prompt(settings.prompts, "judge-point")
        self.prompts = {self._prompt.name: self._prompt.content_hash}

    def read(
        self, question: str, answer: str, claims: Sequence[str], on_reading: OnReading | None = None
    ) -> tuple[list[Reading], Usage]:
        usage = Usage()
        readings = []
        for i, claim in enumerate(claims):
            messages = self._prompt.fill(
                question=neutralise(question), answer=answer, claim=neutralise(claim)
            )
            reply = self._llm.chat(messages, max_tokens=1, top_logprobs=TOP)
            usage += reply.usage
            readings.append(Reading(yes_logit(reply), reply.text))
            if on_reading:
                on_reading(i, readings[-1])
        return readings, usage


@dataclass(frozen=True, slots=True)
class LinearHead:
    """logit = (state − mean) / scale · weight + bias, all of shape (hidden,).

    Made for one prompt, one model and one adapter of it ("" for none).
    """

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: float
    model_digest: str
    prompt_hash: str
    adapter: str
    version: str

    def __call__(self, states: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray((states - self.mean) / self.scale @ self.weight + self.bias, dtype=np.float32)


def load_head(path: Path) -> LinearHead:
    try:
        with np.load(path) as data:
            return LinearHead(
                mean=data["mean"].astype(np.float32),
                scale=data["scale"].astype(np.float32),
                weight=data["weight"].astype(np.float32),
                bias=float(data["bias"]),
                model_digest=str(data["model_digest"]),
                prompt_hash=str(data["prompt_hash"]),
                adapter=str(data["adapter"]) if "adapter" in data else "",
                version=f"{path.stem}@{sha256(path.read_bytes())[:8]}",
            )
    except (OSError, KeyError, ValueError) as e:
        raise CoachError(
            f"{path}: the readout cannot be read: {e}", "restore the file from the distribution"
        ) from e


class Probe:
    """One pass for all claims, each of which sees the ones before it: the caller fixes their order."""

    name = "probe"

    def __init__(self, settings: Settings, llm: StatefulLLM, head: LinearHead | None) -> None:
        self._llm = llm
        self._head = head
        self._prompt = load_prompt(settings.prompts, "judge-probe")
        self.prompts = {self._prompt.name: self._prompt.content_hash}
        self.version = head.version if head else ""

    @staticmethod
    def fitting(settings: Settings, llm: LLM, folder: Path | None = None) -> Probe | None:
        """The probe for this very model, adapter and prompt, or None: then the untrained readout is used."""
        path = (folder or resource("eval") / "calibration") / f"{llm.name}.npz"
        if not path.is_file() or not isinstance(llm, StatefulLLM):
            return None
        head = load_head(path)
        probe = Probe(settings, llm, head)
        made_for = (head.model_digest, head.adapter)
        fits = made_for == (llm.digest, llm.adapter) and head.prompt_hash in probe.prompts.values()
        return probe if fits else None

    def states(self, question: str, answer: str, claims: Sequence[str]) -> tuple[NDArray[np.float32], Usage]:
        """States after each claim, (len(claims), hidden), in the order of `claims`."""
        system, user = (m["content"] for m in self._prompt.fill(question=neutralise(question), answer=answer))
        prefix = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}"
        pieces = [f"\n要点：{neutralise(claim)}\n是否答到：" for claim in claims]
        usage = Usage()
        parts = []
        room = self._llm.max_state_tokens - self._llm.count_tokens(prefix)
        for group in _fit(pieces, [self._llm.count_tokens(p) for p in pieces], room):
            states, used = self._llm.states(prefix, [pieces[j] for j in group])
            usage += used
            parts.append(states)
        return np.concatenate(parts), usage

    def read(
        self, question: str, answer: str, claims: Sequence[str], on_reading: OnReading | None = None
    ) -> tuple[list[Reading], Usage]:
        if self._head is None:
            raise CoachError("this probe has no trained head")
        states, usage = self.states(question, answer, claims)
        readings = [Reading(float(z)) for z in self._head(states)]
        for i, reading in enumerate(readings):
            if on_reading:
                on_reading(i, reading)
        return readings, usage


def _fit(pieces: Sequence[str], sizes: Sequence[int], room: int) -> list[list[int]]:
    """Consecutive pieces in as few groups as fit into `room` tokens each."""
    groups: list[list[int]] = []
    left = 0
    for i in range(len(pieces)):
        if not groups or sizes[i] > left:
            groups.append([])
            left = room
        groups[-1].append(i)
        left -= sizes[i]
    return groups


def choose_readout(settings: Settings, llm: LLM) -> Readout:
    return Probe.fitting(settings, llm) or YesNo(settings, llm)
