"""Judges: answer in, one verdict per rubric point out. Two ways, one result type."""

from __future__ import annotations

from coach.config import Settings
from coach.embed import Embedder
from coach.errors import UsageError
from coach.judge.base import Case, Judge, Judgement
from coach.llm import LLM

__all__ = ["JUDGES", "Case", "Judge", "Judgement", "choose_judge", "make_judge"]

JUDGES = ("pointwise", "structured")


def choose_judge(llm: LLM) -> str:
    """What the endpoint can do decides: JSON replies → structured, token probabilities only → pointwise.

    The embedded model can do both and is pointwise: its trained readout works claim by claim. How its structured
    replies compare has not been measured.
    """
    from coach.llm.embedded import EmbeddedChat

    if isinstance(llm, EmbeddedChat):
        return "pointwise"
    can = llm.capabilities
    return "pointwise" if can.logprobs and can.json_mode == "none" else "structured"


def make_judge(settings: Settings, llm: LLM, embedder: Embedder, name: str | None = None) -> Judge:
    """UsageError when the wanted judge cannot work with this endpoint."""
    name = name or choose_judge(llm)
    if name == "pointwise":
        if not llm.capabilities.logprobs:
            raise UsageError(f"{llm.name} returns no token probabilities", "use --judge structured")
        from coach.judge.pointwise import PointwiseJudge

        return PointwiseJudge(settings, llm, embedder)
    if name == "structured":
        from coach.judge.structured import StructuredJudge

        return StructuredJudge(settings, llm)
    raise UsageError(f"no judge named {name!r}", f"there are: {', '.join(JUDGES)}")
