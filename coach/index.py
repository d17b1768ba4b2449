"""The index: chunks of all note roots in a Chroma collection plus a BM25 index, replaced atomically.

`COACH_HOME/index/CURRENT` names the generation folder in use. A build writes a new folder (starting from a copy of
the old one, so only what changed is embedded) and moves the pointer last: killed at any moment, the previous
generation stays usable. One lock keeps two builders apart; readers need none.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from coach.domain import Chunk
from coach.embed import Embedder, Progress, VectorCache
from coach.errors import IndexStateError, NoteError
from coach.notes.chunks import CHUNKER_VERSION, chunk_note, embedding_text
from coach.notes.readers import note_files, read_text
from coach.text import sha256, tokens

CURATED = "notes"
_COLLECTION = "chunks"
_LOCK_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Root:
    """A folder (or file) of notes. `name` is the first part of every citation into it."""

    name: str
    path: Path

    def label(self, file: Path) -> str:
        return f"{self.name}/{file.relative_to(self.path).as_posix() if file != self.path else file.name}"


@dataclass(frozen=True, slots=True)
class FileState:
    size: int
    mtime_ns: int
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    embedder: str
    chunker: str
    roots: tuple[Root, ...]
    files: dict[str, FileState]
    chunks: int

    @property
    def knowledge_hash(self) -> str:
        return sha256("\n".join(f"{f} {s.digest}" for f, s in sorted(self.files.items())))[:12]

    def dump(self) -> str:
        return json.dumps(
            {
                "embedder": self.embedder,
                "chunker": self.chunker,
                "roots": [[r.name, str(r.path)] for r in self.roots],
                "files": {f: [s.size, s.mtime_ns, s.digest] for f, s in self.files.items()},
                "chunks": self.chunks,
            },
            ensure_ascii=False,
        )

    @classmethod
    def parse(cls, text: str) -> Manifest:
        data = json.loads(text)
        return cls(
            embedder=data["embedder"],
            chunker=data["chunker"],
            roots=tuple(Root(n, Path(p)) for n, p in data["roots"]),
            files={f: FileState(*s) for f, s in data["files"].items()},
            chunks=data["chunks"],
        )


@dataclass(slots=True)
class Changes:
    """What a refresh did (or would do), by file label. `problems` are files that could not be read."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    embedded: int = 0
    chunks: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


# ── state on disk ────────────────────────────────────────────────────────────────────────────────
def current(index_dir: Path) -> Path | None:
    """Folder of the generation in use, or None when nothing was built yet."""
    try:
        folder = index_dir / (index_dir / "CURRENT").read_text().strip()
    except OSError:
        return None
    return folder if (folder / "manifest.json").is_file() else None


def read_manifest(index_dir: Path) -> Manifest | None:
    folder = current(index_dir)
    if folder is None:
        return None
    try:
        return Manifest.parse((folder / "manifest.json").read_text(encoding="utf8"))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise IndexStateError(f"the index in {folder} is damaged: {e}", "coach index --rebuild") from e


def _survey(
    roots: Sequence[Root], known: dict[str, FileState]
) -> tuple[dict[str, tuple[Path, FileState]], list[str]]:
    """State of every note file. Like git: a file whose size and time did not change is not hashed again."""
    found: dict[str, tuple[Path, FileState]] = {}
    problems: list[str] = []
    for root in roots:
        for path in note_files(root.path):
            label = root.label(path)
            try:
                stat = path.stat()
                old = known.get(label)
                if old and (old.size, old.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
                    found[label] = (path, old)
                else:
                    found[label] = (
                        path,
                        FileState(stat.st_size, stat.st_mtime_ns, sha256(path.read_bytes())),
                    )
            except OSError as e:
                problems.append(f"{path}: {e.strerror or e}")
    return found, problems


def _compare(found: dict[str, tuple[Path, FileState]], known: dict[str, FileState]) -> Changes:
    return Changes(
        added=sorted(found.keys() - known.keys()),
        changed=sorted(f for f in found.keys() & known.keys() if found[f][1].digest != known[f].digest),
        removed=sorted(known.keys() - found.keys()),
    )


def _compatible(manifest: Manifest, embedder_name: str) -> None:
    if manifest.embedder != embedder_name:
        raise IndexStateError(
            f"the index was built with {manifest.embedder}, not {embedder_name}; vectors of two models cannot be mixed",
            "build it anew with: coach index --rebuild — or unset COACH_EMBEDDER",
        )


def pending(index_dir: Path, roots: Sequence[Root], embedder_name: str) -> Changes | None:
    """What a refresh would change; None when there is no index yet or its chunker is older. Cheap: stats only."""
    manifest = read_manifest(index_dir)
    if manifest is None or manifest.chunker != CHUNKER_VERSION:
        return None
    _compatible(manifest, embedder_name)
    return _compare(_survey(roots, manifest.files)[0], manifest.files)


# ── build ────────────────────────────────────────────────────────────────────────────────────────
def _client(folder: Path) -> Any:
    import chromadb  # 0.6 s
    from chromadb.config import Settings

    return chromadb.PersistentClient(str(folder / "chroma"), settings=Settings(anonymized_telemetry=False))


def _store(client: Any, embeddings: Any = None) -> Any:
    """langchain's Chroma store over our collection; our embeddings or none, never Chroma's downloading default."""
    from langchain_chroma import Chroma

    return Chroma(
        collection_name=_COLLECTION,
        client=client,
        embedding_function=embeddings,
        collection_configuration={"hnsw": {"space": "cosine"}},
    )


def _embeddings(embedder: Embedder, cache: VectorCache, progress: Progress | None, changes: Changes) -> Any:
    """langchain Embeddings over ours, answering from the vector cache first."""
    from langchain_core.embeddings import Embeddings

    class Cached(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            vectors, fresh = cache.encode(embedder, texts, progress)
            changes.embedded += fresh
            return [[float(x) for x in v] for v in vectors]

        def embed_query(self, text: str) -> list[float]:
            return [float(x) for x in embedder.encode_query([text])[0]]

    return Cached()


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())


def _write_bm25(folder: Path, chunks: Sequence[Chunk]) -> None:
    import bm25s

    retriever = bm25s.BM25()
    retriever.index([tokens(f"{c.heading} {c.text}") or ["∅"] for c in chunks], show_progress=False)
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
        if manifest.chunker != CHUNKER_VERSION:
            previous = manifest = None
        else:
            _compatible(manifest, embedder.name)
    known = manifest.files if manifest else {}
    found, problems = _survey(roots, known)
    changes = _compare(found, known)
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
            _write(temporary, fresh.dump())
            temporary.replace(previous / "manifest.json")
        return changes

    stale = {*changes.changed, *changes.removed}
    kept = [c for c in read_chunks(previous) if c.file not in stale] if previous else []
    fresh_chunks: list[Chunk] = []
    for label in [*changes.added, *changes.changed]:
        path, _ = found[label]
        try:
            fresh_chunks.extend(chunk_note(label, read_text(path)))
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

    folder = index_dir / f"gen-{uuid.uuid4().hex[:12]}"
    try:
        if previous:
            shutil.copytree(previous / "chroma", folder / "chroma")
        else:
            folder.mkdir()
        _fill(folder, previous, kept, fresh_chunks, _embeddings(embedder, cache, progress, changes))
        _write_bm25(folder, chunks)
        _write(folder / "chunks.jsonl", "".join(c.model_dump_json() + "\n" for c in chunks))
        states = {f: s for f, (_, s) in found.items()}
        _write(
            folder / "manifest.json",
            Manifest(embedder.name, CHUNKER_VERSION, tuple(roots), states, len(chunks)).dump(),
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    pointer = index_dir / f"CURRENT.{os.getpid()}.tmp"
    _write(pointer, folder.name)
    pointer.replace(index_dir / "CURRENT")
    _sweep(index_dir, {folder.name, previous.name if previous else ""})
    changes.chunks = len(chunks)
    return changes


def _fill(
    folder: Path, previous: Path | None, kept: list[Chunk], fresh: list[Chunk], embeddings: Any
) -> None:
    client = _client(folder)
    try:
        store = _store(client, embeddings)
        ids = {c.id for c in fresh}
        kept_ids = {c.id for c in kept}
        gone = (
            [c.id for c in read_chunks(previous) if c.id not in kept_ids and c.id not in ids]
            if previous
            else []
        )
        for start in range(0, len(gone), 1000):
            store.delete(ids=gone[start : start + 1000])
        for start in range(0, len(fresh), 256):
            part = fresh[start : start + 256]
            store.add_texts(
                [embedding_text(c) for c in part],
                metadatas=[{"file": c.file} for c in part],
                ids=[c.id for c in part],
            )
    finally:
        client.close()


def _sweep(index_dir: Path, keep: set[str]) -> None:
    """Drop generations nobody needs: the one before the current stays, a reader may have it open."""
    for folder in index_dir.glob("gen-*"):
        if folder.name not in keep:
            shutil.rmtree(folder, ignore_errors=True)


# ── open ─────────────────────────────────────────────────────────────────────────────────────────
def read_chunks(folder: Path | None) -> list[Chunk]:
    if folder is None:
        return []
    with (folder / "chunks.jsonl").open(encoding="utf8") as f:
        return [Chunk.model_validate_json(line) for line in f]


class Index:
    """One generation, opened for reading. Rows of `chunks` are the documents of the BM25 index."""

    def __init__(self, folder: Path, manifest: Manifest, embedder: Embedder) -> None:
        self.folder = folder
        self.manifest = manifest
        self.embedder = embedder

    @cached_property
    def chunks(self) -> list[Chunk]:
        return read_chunks(self.folder)

    @cached_property
    def by_id(self) -> dict[str, Chunk]:
        return {c.id: c for c in self.chunks}

    @cached_property
    def _vectors(self) -> Any:
        return _store(_client(self.folder))

    @cached_property
    def _bm25(self) -> Any:
        import bm25s

        return bm25s.BM25.load(str(self.folder / "bm25"))

    def dense(self, query: str, k: int) -> list[tuple[Chunk, float]]:
        """The k nearest chunks with their cosine, best first."""
        vector = [float(x) for x in self.embedder.encode_query([query])[0]]
        try:
            rows = self._vectors.similarity_search_by_vector_with_relevance_scores(
                vector, k=min(k, len(self.chunks))
            )
        except Exception as e:
            raise IndexStateError(f"the index cannot be read: {e}", "coach index --rebuild") from e
        return [(self.by_id[doc.id], 1.0 - float(distance)) for doc, distance in rows if doc.id in self.by_id]

    def lexical(self, query: str, k: int) -> list[tuple[Chunk, float]]:
        """The k chunks with the highest BM25 score above zero, best first."""
        words = [w for w in tokens(query) if w in self._bm25.vocab_dict]
        if not words:
            return []
        rows, scores = self._bm25.retrieve([words], k=min(k, len(self.chunks)), show_progress=False)
        return [(self.chunks[int(r)], float(s)) for r, s in zip(rows[0], scores[0], strict=True) if s > 0]

    def section(self, source: str) -> list[Chunk]:
        """Chunks of the section that `notes/<file>.md#<heading>` names; [] when it does not exist."""
        file, _, heading = source.partition("#")
        return [c for c in self.chunks if c.file == file and c.heading.split(" › ")[-1] == heading.strip()]

    def is_curated(self, chunk: Chunk) -> bool:
        return chunk.file.startswith(f"{CURATED}/")


def open_index(index_dir: Path, embedder: Embedder) -> Index:
    """IndexStateError when there is none, it is damaged, or another embedder made it."""
    manifest = read_manifest(index_dir)
    folder = current(index_dir)
    if manifest is None or folder is None:
        raise IndexStateError("there is no index yet", "build it with: coach index")
    _compatible(manifest, embedder.name)
    return Index(folder, manifest, embedder)
