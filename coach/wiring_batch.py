"""Building what batch grading needs; apart from `wiring`, so that grading one answer does not load it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coach.batch.caching import SharedIndex, batch_grade, shared_grader
from coach.batch.openai_batch import Replay
from coach.batch.pacing import Throttle, pace
from coach.batch.run import Engine
from coach.config import Settings
from coach.domain import Grade, Question
from coach.embed import Progress
from coach.errors import UsageError
from coach.judge import choose_judge, make_judge
from coach.llm import LLM, open_llm
from coach.llm.openai_batches import BatchApi
from coach.llm.providers import provider
from coach.wiring import index


def batch_engine(
    settings: Settings, judge: str | None = None, jobs: int | None = None, progress: Progress | None = None
) -> Engine:
    """A grader for many answers from several threads, paced by what the endpoint takes.

    The embedded model has one slot, so it gets one job; an endpoint gets 8 unless told otherwise.
    """
    ready = SharedIndex(index(settings, progress))
    llm = open_llm(settings, paced=True)
    alone = provider(settings) == "embedded"
    wanted = 1 if alone else jobs or 8
    paced = pace(llm, Throttle(wanted), attempts=1 if alone else 6)
    _ = paced.capabilities  # a dead endpoint or a wrong key is one clear failure now, not one for every row
    made = make_judge(settings, paced, ready.embedder, judge or choose_judge(llm if alone else paced))
    grader = shared_grader(settings, made, ready, paced)
    return Engine(batch_grade(grader, ready), grader.fingerprint, wanted, paced)


def gauge_grade(settings: Settings, engine: Engine, gauge: LLM) -> Callable[[Question, str], Grade]:
    """Grading with the same judge and index, but a gauge in place of the endpoint."""
    ready = SharedIndex(index(settings))
    judge = make_judge(settings, gauge, ready.embedder, engine.fingerprint.judge)
    return batch_grade(shared_grader(settings, judge, ready, gauge), ready)


def replay_engine(settings: Settings, out: Path, judge: str | None = None) -> tuple[Engine, Replay, BatchApi]:
    """The objects of `--engine openai-batch`. UsageError without an endpoint: the embedded model has no Batch API."""
    if settings.base_url is None or not settings.llm:
        raise UsageError(
            "--engine openai-batch needs an endpoint", "set COACH_LLM, COACH_BASE_URL and COACH_API_KEY"
        )
    ready = SharedIndex(index(settings))
    replay = Replay(settings.llm, settings.base_url, out / "openai-batch" / "replies.sqlite")
    grader = shared_grader(
        settings, make_judge(settings, replay, ready.embedder, judge or "structured"), ready, replay
    )
    api = BatchApi(settings.base_url, settings.api_key, settings.timeout)
    return Engine(batch_grade(grader, ready), grader.fingerprint), replay, api
