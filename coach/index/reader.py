"""One generation of the index, opened for searching."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from coach.domain import Chunk
from coach.embed import Embedder, Reranker
from coach.errors import IndexStateError
from coach.index.state import (
    CURATED,
    Manifest,
    current,
    read_chunks,
    read_manifest,
    require_embedder,
    root_of,
    terms,
)
from coach.index.store import COLLECTION, open_client
from coach.terms import Terms

# At this cosine of a statement to a misconception seven findings in ten were real errors; below, too few to accuse.
_SURE = 0.93


class Index:
    """One generation, opened for reading. Rows of `chunks` are the documents of the BM25 index.

    `served` opens the collection of vectors where it is on a server instead of in `folder`.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        embedder: Embedder,
        reranker: Reranker | None = None,
        served: Callable[[], Any] | None = None,
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.embedder = embedder
        self.reranker = reranker
        self.served = served

    @property
    def searcher(self) -> str:
        """What finds passages, for fingerprints."""
        return f"{self.embedder.name}+{self.reranker.name}" if self.reranker else self.embedder.name

    @cached_property
    def chunks(self) -> list[Chunk]:
        return read_chunks(self.folder)

    @cached_property
    def by_id(self) -> dict[str, Chunk]:
        return {c.id: c for c in self.chunks}

    @cached_property
    def _vectors(self) -> Any:
        if self.served:
            return self.served()
        return open_client(self.folder).get_collection(COLLECTION, embedding_function=None)

    @cached_property
    def _bm25(self) -> Any:
        import bm25s

        return bm25s.BM25.load(str(self.folder / "bm25"))

    @cached_property
    def terms(self) -> Terms:
        return terms()

    @cached_property
    def _root_of_row(self) -> Any:
        import numpy as np

        return np.array([root_of(c) for c in self.chunks])

    @cached_property
    def roots(self) -> dict[str, int]:
        """Number of chunks by root name."""
        return dict(Counter(root_of(c) for c in self.chunks))

    def dense(self, query: str, k: int, within: str | None = None) -> list[tuple[Chunk, float]]:
        """The k nearest chunks (of the root `within`) with their cosine, best first."""
        vector = self.embedder.encode_query([query])[0]
        k = min(k, self.roots.get(within, 0) if within else len(self.chunks))
        if k <= 0:
            return []
        try:
            # Text and metadata of the pool are at hand: fetching them again would cost more than finding it.
            rows = self._vectors.query(
                query_embeddings=[vector],
                n_results=k,
                where={"root": within} if within else None,
                include=["distances"],
            )
        except Exception as e:
            fix = "is the Chroma server up? coach doctor" if self.served else "coach index --rebuild"
            raise IndexStateError(f"the index cannot be read: {e}", fix) from e
        found = zip(rows["ids"][0], rows["distances"][0], strict=True)
        return [(self.by_id[i], 1.0 - float(distance)) for i, distance in found if i in self.by_id]

    def lexical(self, query: str, k: int, within: str | None = None) -> list[tuple[Chunk, float]]:
        """The k chunks (of the root `within`) with the highest BM25 score above zero, best first."""
        import numpy as np

        scores = self.lexical_scores(query)
        if scores is None:
            return []
        if within:
            scores = np.where(self._root_of_row == within, scores, 0.0)
        best = np.argsort(-scores, kind="stable")[:k]
        return [(self.chunks[int(i)], float(scores[i])) for i in best if scores[i] > 0]

    def lexical_scores(self, query: str) -> Any:
        """BM25 score of every chunk, in the order of `chunks`; None when the query shares no word with any."""
        words = [w for w in self.terms.tokens(query) if w in self._bm25.vocab_dict]
        return self._bm25.get_scores(words) if words else None

    @cached_property
    def _suspects(self) -> dict[str, list[str]]:
        """Statements that `coach notes check` found likely wrong, by root."""
        found: dict[str, list[str]] = {}
        for root in self.manifest.roots:
            try:
                rows = json.loads((root.path.parent / "suspects.json").read_text(encoding="utf8"))
                found[root.name] = [str(r["claim"]) for r in rows if r["cosine"] >= _SURE]
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return found

    def trust(self, chunk: Chunk) -> Literal["curated", "imported", "contradicted"]:
        """`contradicted`: an imported passage with a statement that the last `coach notes check` found likely wrong."""
        if self.is_curated(chunk):
            return "curated"
        suspects = self._suspects.get(root_of(chunk), [])
        return "contradicted" if any(claim in chunk.text for claim in suspects) else "imported"

    def section(self, source: str) -> list[Chunk]:
        """Chunks of the section that `notes/<file>.md#<heading>` names; [] when it does not exist."""
        file, _, heading = source.partition("#")
        return [c for c in self.chunks if c.file == file and c.heading.split(" › ")[-1] == heading.strip()]

    def is_curated(self, chunk: Chunk) -> bool:
        return chunk.file.startswith(f"{CURATED}/")


def open_index(index_dir: Path, embedder: Embedder, reranker: Reranker | None = None) -> Index:
    """IndexStateError when there is none, it is damaged, or another embedder made it."""
    manifest = read_manifest(index_dir)
    folder = current(index_dir)
    if manifest is None or folder is None:
        raise IndexStateError("there is no index yet", "build it with: coach index")
    require_embedder(manifest, embedder.name)
    return Index(folder, manifest, embedder, reranker)
