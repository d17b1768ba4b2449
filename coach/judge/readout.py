"""How a claim's truth in an answer is read out of a language model: the exchangeable part of the pointwise judge.

`YesNo` asks one yes/no question per claim and works with every endpoint that returns token probabilities.
`Trained` writes claim after claim behind question and answer, each of which sees the ones before it, to a model that
carries a LoRA adapter (Hu et al. 2021, arXiv 2106.09685) trained to say 是 or 否 there.
Both give a log-odds per claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from coach.config import Settings
from coach.domain import Usage
from coach.judge.calibration import load_calibration
from coach.llm import LLM, Reply
from coach.llm.base import AdaptedLLM
from coach.prompts import load_prompt
from coach.text import neutralise

YES = frozenset({"是", "是的", "yes", "对", "“是”", "y", "true"})
NO = frozenset({"否", "不", "不是", "no", "没有", "没", "“否”", "n", "false"})
TOP = 20
_FLOOR = 1e-6
_FENCE = "\n<<<\n"  # in prompts/judge-claims.md, before the answer


@dataclass(frozen=True, slots=True)
class Reading:
    """Log-odds that the answer states the claim, or None when the reply could not be read; `raw` keeps the reply."""

    logit: float | None
    raw: str = ""


OnReading = Callable[[int, Reading], None]


class Readout(Protocol):
    name: str
    prompts: dict[str, str]

    def prepare(self, question: str) -> None:
        """Called when a question is asked, before there is an answer."""

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

    def __init__(self, settings: Settings, llm: LLM) -> None:
        self._llm = llm
        self._prompt = load_prompt(settings.prompts, "judge-point")
        self.prompts = {self._prompt.name: self._prompt.content_hash}

    def prepare(self, question: str) -> None:
        pass

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


class Trained:
    """Claims one after the other in one text: the caller fixes their order. It belongs to one model and adapter."""

    name = "adapter"

    def __init__(self, settings: Settings, llm: AdaptedLLM) -> None:
        self._llm = llm
        self._prompt = load_prompt(settings.prompts, "judge-claims")
        self.prompts = {self._prompt.name: self._prompt.content_hash}

    def fits(self, folder: Path | None = None) -> bool:
        """Was the calibration made for this very model, adapter and prompt?"""
        here = {"model": self._llm.digest, "adapter": self._llm.adapter, **self.prompts}
        return load_calibration(self._llm.name, self.name, folder).made_for == here

    def prepare(self, question: str) -> None:
        self._llm.prepare(self._prefix(question, "")[0])

    def _prefix(self, question: str, answer: str) -> tuple[str, str]:
        """What stands before the answer, and the answer with what follows."""
        system, user = (m["content"] for m in self._prompt.fill(question=neutralise(question), answer=answer))
        before, fence, after = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}".partition(
            _FENCE
        )
        return before + fence, after

    def passes(
        self, question: str, answer: str, claims: Sequence[str]
    ) -> list[tuple[tuple[str, str], list[str]]]:
        """(prefix, pieces) of the texts to be read, as few as the model has room for; claims keep their order."""
        prefix = self._prefix(question, answer)
        pieces = [f"\n要点：{neutralise(claim)}\n是否答到：" for claim in claims]
        room = self._llm.max_claims_tokens - sum(map(self._llm.count_tokens, prefix))
        groups = _fit(pieces, [self._llm.count_tokens(p) for p in pieces], room)
        return [(prefix, [pieces[i] for i in group]) for group in groups]

    def read(
        self, question: str, answer: str, claims: Sequence[str], on_reading: OnReading | None = None
    ) -> tuple[list[Reading], Usage]:
        readings: list[Reading] = []
        usage = Usage()
        for prefix, pieces in self.passes(question, answer, claims):
            before = len(readings)

            def tell(i: int, logit: float, before: int = before) -> None:
                if on_reading:
                    on_reading(before + i, Reading(logit))

            found, used = self._llm.log_odds(prefix, pieces, tell)
            readings += [Reading(logit) for logit in found]
            usage += used
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


def choose_readout(settings: Settings, llm: LLM, folder: Path | None = None) -> Readout:
    if isinstance(llm, AdaptedLLM) and llm.adapter and (trained := Trained(settings, llm)).fits(folder):
        return trained
    return YesNo(settings, llm)
