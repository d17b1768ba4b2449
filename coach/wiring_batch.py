"""Building what batch grading needs; apart from `wiring`, so that grading one answer does not load it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from coach.batch.caching import SharedIndex, batch_grade, shared_grader
from coach.batch.engine import Engine
from coach.batch.grading import LocalWorkers, WorkerGrading
from coach.batch.openai_batch import BatchGrading, Replay
from coach.batch.pacing import Throttle, pace
from coach.batch.ray_workers import RayWorkers, cluster
from coach.batch.run import Grading, Options
from coach.config import Settings, load_settings
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


# ── engines: how the rows of a run are graded ────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Choice:
    """What the call says about grading. `address` and `workers` are of a Ray cluster; `jobs` is for each worker.

    UsageError for an engine that does not exist, or an option of another one.
    """

    engine: str = "local"
    judge: str | None = None
    jobs: int | None = None
    address: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise UsageError(f"there is no engine {self.engine!r}", f"one of {', '.join(ENGINES)}")
        if self.engine != "ray" and (self.address or self.workers):
            raise UsageError("--address and --workers belong to --engine ray")


Opened = Iterator[tuple[Engine, Grading]]


@contextmanager
def _local(settings: Settings, choice: Choice, options: Options, progress: Progress | None) -> Opened:
    engine = batch_engine(settings, choice.judge, choice.jobs, progress)
    yield engine, WorkerGrading(lambda: LocalWorkers(engine))


@contextmanager
def _ray(settings: Settings, choice: Choice, options: Options, progress: Progress | None) -> Opened:
    """The driver builds a grader too: it says whose grades these are, and every worker must agree."""
    _endpoint(settings, choice.engine)
    with cluster(choice.address, choice.workers) as workers:
        engine = batch_engine(settings, choice.judge, choice.jobs, progress)
        make = partial(worker_engine, settings, engine.fingerprint.judge, engine.jobs)
        yield engine, WorkerGrading(lambda: RayWorkers(make, engine.fingerprint, workers, engine.jobs))


@contextmanager
def _openai_batch(settings: Settings, choice: Choice, options: Options, progress: Progress | None) -> Opened:
    if options.max_cost is not None or options.max_tokens is not None or options.deadline is not None:
        raise UsageError(
            "budgets do not hold for --engine openai-batch", "estimate with --dry-run, take part with --limit"
        )
    model, url = _endpoint(settings, choice.engine)
    ready = SharedIndex(index(settings, progress))
    with closing(Replay(model, url, options.out / "openai-batch" / "replies.sqlite")) as replay:
        judge = make_judge(settings, replay, ready.embedder, choice.judge or "structured")
        grader = shared_grader(settings, judge, ready, replay)
        api = BatchApi(url, settings.api_key, settings.timeout)
        yield Engine(batch_grade(grader, ready), grader.fingerprint), BatchGrading(replay, api)


ENGINES: dict[
    str,
    Callable[[Settings, Choice, Options, Progress | None], AbstractContextManager[tuple[Engine, Grading]]],
] = {"local": _local, "ray": _ray, "openai-batch": _openai_batch}


def open_engine(
    settings: Settings, choice: Choice, options: Options, progress: Progress | None = None
) -> AbstractContextManager[tuple[Engine, Grading]]:
    """UsageError when the engine lacks what it needs."""
    return ENGINES[choice.engine](settings, choice, options, progress)


def worker_engine(settings: Settings, judge: str, jobs: int) -> Engine:
    """The driver's engine on a machine where the driver's folders may not exist; then this machine's stand in."""
    own = load_settings()
    folders = {
        n: getattr(own, n) for n in ("home", "knowledge", "prompts") if not getattr(settings, n).exists()
    }
    return batch_engine(replace(settings, **folders), judge, jobs)


def _endpoint(settings: Settings, engine: str) -> tuple[str, str]:
    """(model, address): the embedded model has no Batch API, and one copy of it a worker is no way to scale."""
    if settings.base_url is None or not settings.llm:
        raise UsageError(
            f"--engine {engine} needs an endpoint", "set COACH_LLM, COACH_BASE_URL and COACH_API_KEY"
        )
    return settings.llm, settings.base_url
