"""The one place that builds the working objects from settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from coach.bank import Bank, load_bank
from coach.batch.caching import SharedGrader, SharedIndex, batch_grade
from coach.batch.openai_batch import Replay
from coach.batch.pacing import PacedLLM, Throttle
from coach.batch.run import Engine
from coach.config import Settings
from coach.domain import Grade, Question
from coach.embed import Embedder, Progress, VectorCache, load_embedder
from coach.errors import UsageError
from coach.evals.runner import Subject
from coach.grade import Grader
from coach.index import CURATED, Changes, Index, Root, build, open_index, pending, read_manifest
from coach.index.state import terms
from coach.judge import choose_judge, make_judge
from coach.llm import LLM, open_llm
from coach.llm.openai_batches import BatchApi
from coach.llm.providers import provider
from coach.matching import match_units
from coach.notecheck import Suspect
from coach.notecheck import check_notes as check_notes_
from coach.notes import sets
from coach.notes.model import Unit
from coach.notes.sets import Result, note_sets


def bank(settings: Settings) -> Bank:
    return load_bank(settings.knowledge / "questions")


def vector_cache(settings: Settings, embedder: Embedder) -> VectorCache:
    return VectorCache(settings.home / "cache" / "vectors.sqlite", settings.knowledge / "vectors.npz")


def roots(settings: Settings, extra: Sequence[Path] = (), drop: Sequence[Path] = ()) -> list[Root]:
    """The curated notes, what earlier builds were given, and `extra`; names are made unique."""
    curated = Root(CURATED, settings.knowledge / "notes")
    manifest = read_manifest(settings.index_dir)
    known = [r for r in manifest.roots if r.name != CURATED] if manifest else []
    dropped = {p.expanduser().resolve() for p in drop}
    missing = dropped - {r.path for r in known}
    if missing:
        raise UsageError(
            f"not indexed: {', '.join(map(str, sorted(missing)))}", "coach index lists the folders in use"
        )
    known = [r for r in known if r.path not in dropped and r.path.exists()]
    for name in note_sets(settings.home):
        folder = settings.home / "notes" / name / "units"
        if not any(folder == r.path for r in known):
            known = [*(r for r in known if r.name != name), Root(name, folder)]
    for path in extra:
        folder = path.expanduser().resolve()
        if not folder.exists():
            raise UsageError(f"no such file or folder: {path}")
        if any(folder == r.path for r in (curated, *known)):
            continue
        base = folder.stem if folder.is_file() else folder.name
        name, n = base, 2
        while name == CURATED or any(name == r.name for r in known):
            name, n = f"{base}-{n}", n + 1
        known.append(Root(name, folder))
    return [curated, *known]


def import_notes(
    settings: Settings,
    name: str,
    paths: Sequence[Path],
    *,
    keep_personal: bool = False,
    parsing: Progress | None = None,
    embedding: Progress | None = None,
) -> tuple[Result, Changes]:
    """Parse `paths` into the note set `name`, match its questions to the bank, and index what changed."""
    embedder = load_embedder(settings.embedder)
    cache = vector_cache(settings, embedder)

    def annotate(units: list[Unit]) -> list[Unit]:
        return match_units(units, bank(settings), embedder, cache, embedding)

    result = sets.import_notes(
        settings.home, name, paths, keep_personal=keep_personal, annotate=annotate, progress=parsing
    )
    return result, refresh(settings, progress=embedding)


def check_notes(
    settings: Settings, name: str, *, between: bool = True, progress: Progress | None = None
) -> list[Suspect]:
    """Likely errors in a note set; kept beside it, so that citations of these statements can be marked."""
    embedder = load_embedder(settings.embedder)
    result = sets.load_set(settings.home, name)
    cache = vector_cache(settings, embedder)
    found = check_notes_(result, bank(settings), terms(), embedder, cache, between=between, progress=progress)
    rows = [asdict(s) for s in found]
    sets.write_atomic(result.folder / "suspects.json", json.dumps(rows, ensure_ascii=False, indent=1))
    return found


def refresh(
    settings: Settings,
    *,
    extra: Sequence[Path] = (),
    drop: Sequence[Path] = (),
    rebuild: bool = False,
    progress: Progress | None = None,
) -> Changes:
    """Bring the index up to date; an unchanged tree returns without loading a vector store."""
    embedder = load_embedder(settings.embedder)
    return build(
        settings.index_dir,
        roots(settings, extra, drop),
        embedder,
        vector_cache(settings, embedder),
        rebuild=rebuild,
        progress=progress,
    )


def index(settings: Settings, progress: Progress | None = None) -> Index:
    """The index, built or refreshed first when the notes have changed."""
    embedder = load_embedder(settings.embedder)
    wanted = roots(settings)
    changes = pending(settings.index_dir, wanted, embedder.name)
    if changes is None or changes:
        build(settings.index_dir, wanted, embedder, vector_cache(settings, embedder), progress=progress)
    return open_index(settings.index_dir, embedder)


def grader(settings: Settings, judge: str | None = None, progress: Progress | None = None) -> Grader:
    ready = index(settings, progress)
    llm = open_llm(settings)
    return Grader(settings, make_judge(settings, llm, ready.embedder, judge), ready, llm)


def subject(settings: Settings, judge: str | None = None, progress: Progress | None = None) -> Subject:
    """The grader as evals measure it, with the model and the embedder that the floors are to use."""
    ready = index(settings, progress)
    llm = open_llm(settings)
    made = Grader(settings, make_judge(settings, llm, ready.embedder, judge), ready, llm)
    return Subject(made, llm, ready.embedder)


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
    paced = PacedLLM(llm, Throttle(wanted), attempts=1 if alone else 6)
    _ = paced.capabilities  # a dead endpoint or a wrong key is one clear failure now, not one for every row
    made = make_judge(settings, paced, ready.embedder, judge or choose_judge(llm if alone else paced))
    grader = SharedGrader(settings, made, ready, paced)
    return Engine(batch_grade(grader, ready), grader.fingerprint, wanted, paced)


def gauge_grade(settings: Settings, engine: Engine, gauge: LLM) -> Callable[[Question, str], Grade]:
    """Grading with the same judge and index, but a gauge in place of the endpoint."""
    ready = SharedIndex(index(settings))
    judge = make_judge(settings, gauge, ready.embedder, engine.fingerprint.judge)
    return batch_grade(SharedGrader(settings, judge, ready, gauge), ready)


def replay_engine(settings: Settings, out: Path, judge: str | None = None) -> tuple[Engine, Replay, BatchApi]:
    """The objects of `--engine openai-batch`. UsageError without an endpoint: the embedded model has no Batch API."""
    if settings.base_url is None or not settings.llm:
        raise UsageError(
            "--engine openai-batch needs an endpoint", "set COACH_LLM, COACH_BASE_URL and COACH_API_KEY"
        )
    ready = SharedIndex(index(settings))
    replay = Replay(settings.llm, settings.base_url, out / "openai-batch" / "replies.sqlite")
    grader = SharedGrader(
        settings, make_judge(settings, replay, ready.embedder, judge or "structured"), ready, replay
    )
    api = BatchApi(settings.base_url, settings.api_key, settings.timeout)
    return Engine(batch_grade(grader, ready), grader.fingerprint), replay, api
