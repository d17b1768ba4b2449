"""Which lines of the notes back a claim."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from coach.domain import Citation, Passage
from coach.index import Index
from coach.text import term_recall

# Below this cosine to its best passage a point counts as not backed by the notes. A guess, not fitted: e5 cosines
# of unrelated Chinese texts are already high.
_BACKED = 0.84
_CANDIDATES = 3


class Citer:
    """Looks claims up in an index."""

    def __init__(self, index: Index) -> None:
        self._index = index
        # A question's passages come back with its every claim and answer, and embedding one takes a tenth of a second.
        self._vector = lru_cache(maxsize=256)(lambda text: index.embedder.encode_document([text])[0])

    def cite(self, claim: str, source: str | None, passages: Sequence[Passage]) -> Citation | None:
        """Lines that back the claim: in the rubric's own section, else in the best retrieved passage, else none."""
        chunks = self._index.section(source) if source else []
        if not chunks:
            vector = self._index.embedder.encode_query([claim])[0]
            backed = [(float(vector @ self._vector(p.chunk.text)), p.chunk) for p in passages[:_CANDIDATES]]
            chunks = [c for cosine, c in sorted(backed, key=lambda b: -b[0]) if cosine >= _BACKED][:1]
        if not chunks:
            return None
        chunk = max(chunks, key=lambda c: term_recall(claim, c.text))
        first, last = _lines_for(claim, chunk.text)
        return Citation(
            file=chunk.file,
            first_line=chunk.first_line + first,
            last_line=min(chunk.first_line + last, chunk.last_line),
            heading=chunk.heading.split(" › ")[-1],
            trust=self._index.trust(chunk),
        )


def _lines_for(claim: str, text: str) -> tuple[int, int]:
    """Offsets of the first and last line that speak to the claim; the whole passage when none stands out."""
    lines = text.split("\n")
    recall = [term_recall(claim, line) for line in lines]
    best = max(range(len(lines)), key=lambda i: recall[i])
    if recall[best] < 0.34:
        return 0, len(lines) - 1
    first = last = best
    if first > 0 and recall[first - 1] >= 0.7 * recall[best]:
        first -= 1
    if last + 1 < len(lines) and recall[last + 1] >= 0.7 * recall[best]:
        last += 1
    return first, last
