"""The vector store behind the index: langchain's Chroma store over our own client and our own vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from coach.embed import Embedder, Progress, VectorCache

COLLECTION = "chunks"


def open_client(folder: Path) -> Any:
    import chromadb  # 0.6 s
    from chromadb.config import Settings

    return chromadb.PersistentClient(str(folder / "chroma"), settings=Settings(anonymized_telemetry=False))


def open_store(client: Any, embeddings: Any) -> Any:
    """langchain's Chroma store over our collection, with our embeddings, never Chroma's downloading default."""
    from langchain_chroma import Chroma

    return Chroma(
        collection_name=COLLECTION,
        client=client,
        embedding_function=embeddings,
        collection_configuration={"hnsw": {"space": "cosine"}},
    )


def cached_embeddings(
    embedder: Embedder, cache: VectorCache, progress: Progress | None, count: Callable[[int], None]
) -> Any:
    """langchain Embeddings over ours, answering from the vector cache first."""
    from langchain_core.embeddings import Embeddings

    class Cached(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            vectors, fresh = cache.encode(embedder, texts, progress)
            count(fresh)
            return [[float(x) for x in v] for v in vectors]

        def embed_query(self, text: str) -> list[float]:
            return [float(x) for x in embedder.encode_query([text])[0]]

    return Cached()
