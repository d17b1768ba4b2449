"""The one place that builds the working objects from settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from coach.bank import Bank, find_question, load_bank
from coach.config import Settings
from coach.domain import Question
from coach.drafts import DRAFT_PREFIX, with_drafts
from coach.embed import Embedder, Progress, VectorCache, load_embedder, load_reranker
from coach.errors import UsageError
from coach.grade import Grader
from coach.index import (
    CURATED,
    Changes,
    Index,
    Root,
    build,
    open_index,
    open_served,
    pending,
    publish,
    read_manifest,
)
from coach.index.state import terms
from coach.judge import make_judge
from coach.llm import open_llm
from coach.matching import match_units
from coach.notecheck import Suspect
from coach.notecheck import check_notes as check_notes_
from coach.notes import sets
from coach.notes.model import Unit
from coach.notes.sets import Result, note_sets
from coach.retrieve import rewrite

if TYPE_CHECKING:
    from coach.evals.runner import Subject


def bank(settings: Settings, drafts: bool = False) -> Bank:
    """The curated questions (topic = their note), those accepted from notes (`imported`), and drafts (`draft`)."""
    reviewed = load_bank(settings.knowledge / "questions", settings.own_bank)
    return with_drafts(reviewed, settings.home) if drafts else reviewed


def question(settings: Settings, question_id: str) -> Question:
    """One question of the bank or of the drafts. UsageError with near ids when there is none."""
    if question_id.startswith(DRAFT_PREFIX):
        return bank(settings, drafts=True).get(question_id)
    return find_question(settings.knowledge / "questions", question_id, settings.own_bank)


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
    """Bring the index up to date, on the Chroma server too where there is one.

    An unchanged tree without a server returns without loading a vector store.
    """
    embedder = load_embedder(settings.embedder)
    changes = build(
        settings.index_dir,
        roots(settings, extra, drop),
        embedder,
        vector_cache(settings, embedder),
        rebuild=rebuild,
        progress=progress,
    )
    if settings.chroma_url:
        publish(settings.index_dir, settings.chroma_url)
    return changes


def index(settings: Settings, progress: Progress | None = None) -> Index:
    """The index, built or refreshed first when the notes have changed.

    One on a server is taken as it is: many read it, and only `coach index` says that these notes are for all of them.
    """
    embedder = load_embedder(settings.embedder)
    if settings.chroma_url:
        return open_served(
            settings.chroma_url, settings.index_dir, embedder, load_reranker(settings.reranker)
        )
    wanted = roots(settings)
    changes = pending(settings.index_dir, wanted, embedder.name)
    if changes is None or changes:
        build(settings.index_dir, wanted, embedder, vector_cache(settings, embedder), progress=progress)
    return open_index(settings.index_dir, embedder, load_reranker(settings.reranker))


def rewriter(settings: Settings) -> Callable[[str], str]:
    """Query → the query with the model's other names for what is meant."""
    llm = open_llm(settings)
    return lambda query: rewrite(settings, llm, query)


def grader(settings: Settings, judge: str | None = None, progress: Progress | None = None) -> Grader:
    ready = index(settings, progress)
    llm = open_llm(settings)
    return Grader(settings, make_judge(settings, llm, ready.embedder, judge), ready, llm)


def subject(settings: Settings, judge: str | None = None, progress: Progress | None = None) -> Subject:
    """The grader as evals measure it, with the model and the embedder that the floors are to use."""
    from coach.evals.runner import Subject

    ready = index(settings, progress)
    llm = open_llm(settings)
    made = Grader(settings, make_judge(settings, llm, ready.embedder, judge), ready, llm)
    return Subject(made, llm, ready.embedder)
