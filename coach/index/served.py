"""An index on a Chroma server (COACH_CHROMA_URL): written by `coach index`, read by any number of machines.

The collection `coach-<build>` holds chunks (as documents), vectors and manifest of one build; the metadata of the
collection `coach-current` name the build in use, as CURRENT does on disk: written whole, then pointed to. A reader
fetches the chunks once, makes BM25 of them in COACH_HOME, and asks the server for nearest vectors only.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from coach.domain import Chunk
from coach.embed import Embedder, Reranker
from coach.errors import IndexStateError
from coach.index.build import write, write_bm25
from coach.index.reader import Index
from coach.index.state import (
    Manifest,
    current,
    index_version,
    read_chunks,
    read_manifest,
    require_embedder,
    root_of,
)
from coach.index.store import COLLECTION, open_client
from coach.text import sha256

_POINTER = "coach-current"
_PAGE = 500
_CONNECT_SECONDS = 5.0


def build_name(manifest: Manifest) -> str:
    """The same notes, cut by the same chunker and embedded by the same model, have the same name everywhere."""
    return "coach-" + sha256(f"{manifest.embedder}\0{manifest.chunker}\0{manifest.knowledge_hash}")[:12]


def connect(url: str) -> Any:
    """IndexStateError when no Chroma server answers."""
    import chromadb
    import httpx
    from chromadb.config import Settings
    from chromadb.errors import ChromaError

    where = urlsplit(url)
    secure = where.scheme == "https"
    try:
        # Chroma's own client would wait for ever for a machine that does not answer.
        httpx.get(f"{url}/api/v2/heartbeat", timeout=_CONNECT_SECONDS).raise_for_status()
        return chromadb.HttpClient(
            host=where.hostname or "",
            port=where.port or (443 if secure else 80),
            ssl=secure,
            settings=Settings(anonymized_telemetry=False),
        )
    except (httpx.HTTPError, ValueError, ChromaError) as e:
        raise IndexStateError(
            f"no Chroma server answers at {url}: {e}",
            "start one with: chroma run --path FOLDER — or unset COACH_CHROMA_URL",
        ) from e


def publish(index_dir: Path, url: str) -> str:
    """Write the build in use to the server, if it is not there yet; returns its name.

    Killed at any moment, the server's previous build stays in use; it is kept until the next but one.
    """
    manifest, folder = read_manifest(index_dir), current(index_dir)
    if manifest is None or folder is None:
        raise IndexStateError("there is no index yet", "build it with: coach index")
    client = connect(url)
    name, previous = build_name(manifest), _in_use(client)
    if name == previous:
        return name
    try:
        _write(client, name, manifest, folder)
        client.get_or_create_collection(_POINTER, embedding_function=None).modify(metadata={"build": name})
        for other in client.list_collections():
            if re.fullmatch(r"coach-[0-9a-f]{12}", other.name) and other.name not in (name, previous):
                client.delete_collection(other.name)
    except IndexStateError:
        raise
    except Exception as e:  # httpx's, Chroma's and its server's own errors have no common base
        raise IndexStateError(f"the index could not be written to {url}: {e}", "run coach index again") from e
    return name


def _write(client: Any, name: str, manifest: Manifest, folder: Path) -> None:
    chunks = read_chunks(folder)
    # Folders of the writer's machine are nobody else's business.
    about = {"manifest": replace(manifest, roots=()).dump()}
    there = client.get_or_create_collection(
        name, metadata=about, configuration={"hnsw": {"space": "cosine"}}, embedding_function=None
    )
    source = open_client(folder)
    try:
        here = source.get_collection(COLLECTION, embedding_function=None)
        for start in range(0, len(chunks), _PAGE):
            part = chunks[start : start + _PAGE]
            rows = here.get(ids=[c.id for c in part], include=["embeddings"])
            vectors = dict(zip(rows["ids"], rows["embeddings"], strict=True))
            there.upsert(
                ids=[c.id for c in part],
                embeddings=[vectors[c.id] for c in part],
                documents=[c.model_dump_json() for c in part],
                metadatas=[{"file": c.file, "root": root_of(c)} for c in part],
            )
    finally:
        source.close()
    if there.count() != len(chunks):
        raise IndexStateError(
            f"the server holds {there.count()} of {len(chunks)} chunks", "run coach index again"
        )


def open_served(url: str, index_dir: Path, embedder: Embedder, reranker: Reranker | None = None) -> Index:
    """IndexStateError when the server cannot be reached, holds no index, or one of another embedder or version."""
    client = connect(url)
    name = _in_use(client)
    if name is None:
        raise IndexStateError(f"there is no index at {url} yet", "write it with: coach index")
    manifest = served_manifest(client, name, url)
    require_embedder(manifest, embedder.name)
    if manifest.chunker != index_version():
        raise IndexStateError(
            f"the index at {url} was built by another version of the coach ({manifest.chunker}, not {index_version()})",
            "use the same version here, or write it anew with: coach index",
        )
    folder = index_dir / "served" / name
    if not (folder / "manifest.json").is_file():
        _fetch(client, name, manifest, folder)
    return Index(
        folder, manifest, embedder, reranker, lambda: client.get_collection(name, embedding_function=None)
    )


def served_manifest(client: Any, name: str, url: str) -> Manifest:
    try:
        return Manifest.parse(client.get_collection(name, embedding_function=None).metadata["manifest"])
    except Exception as e:
        raise IndexStateError(
            f"the index {name} at {url} is damaged: {e}", "write it with: coach index"
        ) from e


def _in_use(client: Any) -> str | None:
    pointer = _collection(client, _POINTER)
    name = str((pointer.metadata or {}).get("build", "")) if pointer is not None else ""
    return name if name and _collection(client, name) is not None else None


def _collection(client: Any, name: str) -> Any:
    from chromadb.errors import NotFoundError

    try:
        return client.get_collection(name, embedding_function=None)
    except NotFoundError:
        return None


def _fetch(client: Any, name: str, manifest: Manifest, folder: Path) -> None:
    """Chunks, BM25 and manifest into `folder`, which appears whole; of several processes one wins."""
    collection = client.get_collection(name, embedding_function=None)
    chunks: list[Chunk] = []
    while rows := collection.get(limit=_PAGE, offset=len(chunks), include=["documents"])["documents"]:
        chunks += [Chunk.model_validate(json.loads(text)) for text in rows]
    if len(chunks) != manifest.chunks:
        raise IndexStateError(
            f"the server holds {len(chunks)} of {manifest.chunks} chunks", "write it with: coach index"
        )
    chunks.sort(
        key=lambda c: (c.file, c.first_line, c.id)
    )  # the order of a local build: ties are broken alike
    temporary = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir(parents=True)
    try:
        write_bm25(temporary, chunks)
        write(temporary / "chunks.jsonl", "".join(c.model_dump_json() + "\n" for c in chunks))
        write(temporary / "manifest.json", manifest.dump())
        temporary.replace(folder)
    except OSError:
        if not (folder / "manifest.json").is_file():
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
