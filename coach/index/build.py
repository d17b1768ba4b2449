"""Building and refreshing: copy the generation in use, change what changed, move the pointer last."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coach.domain import Chunk
from coach.embed import Embedder, Progress, VectorCache
from coach.errors import IndexStateError, NoteError
from coach.index.state import (
    Changes,
    Manifest,
    Root,
    compare,
    current,
    index_version,
    read_chunks,
    read_manifest,
    require_embedder,
    root_of,
    survey,
    terms,
)
from coach.index.store import cached_embeddings, open_client, open_store
from coach.notes.chunks import chunk_file, embedding_text

_LOCK_SECONDS = 300


def write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())


def write_bm25(folder: Path, chunks: Sequence[Chunk]) -> None:
    import bm25s

    retriever = bm25s.BM25()
    words = terms()
    documents = [words.tokens(f"{c.heading} {c.text} {c.context}") or ["∅"] for c in chunks]
    retriever.index(documents, show_progress=False)
    retriever.save(str(folder / "bm25"))


def build(
    index_dir: Path,
    roots: Sequence[Root],
    embedder: Embedder,
    cache: VectorCache,
    *,
    rebuild: bool = False,
    progress: Progress | None = None,
) -> Changes:
    """Bring the index up to date with `roots` and say what changed. IndexStateError when another build holds the lock."""
    from filelock import FileLock, Timeout

    index_dir.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(index_dir / ".lock", timeout=_LOCK_SECONDS):
            return _build_locked(index_dir, roots, embedder, cache, rebuild, progress)
    except Timeout as e:
        raise IndexStateError("another process is building the index", "wait for it, then try again") from e


def _build_locked(
    index_dir: Path,
    roots: Sequence[Root],
    embedder: Embedder,
    cache: VectorCache,
    rebuild: bool,
    progress: Progress | None,
) -> Changes:
    previous = None if rebuild else current(index_dir)
    manifest = read_manifest(index_dir) if previous else None
    if manifest is not None and not rebuild:
        if manifest.chunker != index_version():
            previous = manifest = None
        else:
            require_embedder(manifest, embedder.name)
    known = manifest.files if manifest else {}
    found, problems = survey(roots, known)
    changes = compare(found, known)
    changes.problems = problems
    if manifest is not None and not changes:
        changes.chunks = manifest.chunks
        states = {f: s for f, (_, s) in found.items()}
        if (
            states != known or tuple(roots) != manifest.roots
        ):  # touched files: remember the new times, embed nothing
            fresh = Manifest(manifest.embedder, manifest.chunker, tuple(roots), states, manifest.chunks)
            assert previous is not None
            temporary = previous / f"manifest.{os.getpid()}.tmp"
            write(temporary, fresh.dump())
            temporary.replace(previous / "manifest.json")
        return changes

    stale = {*changes.changed, *changes.removed}
    kept = [c for c in read_chunks(previous) if c.file not in stale] if previous else []
    fresh_chunks: list[Chunk] = []
    for label in [*changes.added, *changes.changed]:
        path, _ = found[label]
        try:
            fresh_chunks.extend(chunk_file(label, path))
        except NoteError as e:
            problems.append(str(e))
            del found[label]
    changes.added = [f for f in changes.added if f in found]
    changes.changed = [f for f in changes.changed if f in found]
    chunks = sorted([*kept, *fresh_chunks], key=lambda c: (c.file, c.first_line, c.id))
    if not chunks:
        raise IndexStateError(
            "there is nothing to index: no readable note has any text", "; ".join(problems[:3])
        )

    def counted(fresh: int) -> None:
        changes.embedded += fresh

    folder = index_dir / f"gen-{uuid.uuid4().hex[:12]}"
    try:
        if previous:
            shutil.copytree(previous / "chroma", folder / "chroma")
        else:
            folder.mkdir()
        _fill(folder, previous, kept, fresh_chunks, cached_embeddings(embedder, cache, progress, counted))
        write_bm25(folder, chunks)
        write(folder / "chunks.jsonl", "".join(c.model_dump_json() + "\n" for c in chunks))
        states = {f: s for f, (_, s) in found.items()}
        write(
            folder / "manifest.json",
            Manifest(embedder.name, index_version(), tuple(roots), states, len(chunks)).dump(),
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    pointer = index_dir / f"CURRENT.{os.getpid()}.tmp"
    write(pointer, folder.name)
    pointer.replace(index_dir / "CURRENT")
    _sweep(index_dir, {folder.name, previous.name if previous else ""})
    changes.chunks = len(chunks)
    return changes


def _fill(
    folder: Path, previous: Path | None, kept: list[Chunk], fresh: list[Chunk], embeddings: Any
) -> None:
    client = open_client(folder)
    try:
        store = open_store(client, embeddings)
        wanted = {c.id for c in (*kept, *fresh)}
        gone = [c.id for c in read_chunks(previous) if c.id not in wanted]
        for start in range(0, len(gone), 1000):
            store.delete(ids=gone[start : start + 1000])
        for start in range(0, len(fresh), 256):
            part = fresh[start : start + 256]
            store.add_texts(
                [embedding_text(c) for c in part],
                metadatas=[{"file": c.file, "root": root_of(c)} for c in part],
                ids=[c.id for c in part],
            )
    finally:
        client.close()


def _sweep(index_dir: Path, keep: set[str]) -> None:
    """Drop generations nobody needs: the one before the current stays, a reader may have it open."""
    for folder in index_dir.glob("gen-*"):
        if folder.name not in keep:
            shutil.rmtree(folder, ignore_errors=True)
