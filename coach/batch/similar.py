"""Answers to one question that are nearly the same text: a hint of copying, never a finding.

MinHash over character 5-grams with banding (Broder 1997; Leskovec, Rajaraman & Ullman, ch. 3), then the exact
Jaccard overlap of every candidate pair. Memory is bounded by the answers of one question.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SAME = 0.8
MIN_CHARS = 40
_GRAM = 5
_BANDS, _ROWS = 16, 3  # pairs at overlap 0.8 are found with probability 1 − (1 − 0.8³)¹⁶ > 0.9999
_CHARS = 4000
_PRIME = (1 << 31) - 1
_rng = np.random.default_rng(20240501)
_A = _rng.integers(1, _PRIME, _BANDS * _ROWS, dtype=np.uint64)[:, None]
_B = _rng.integers(0, _PRIME, _BANDS * _ROWS, dtype=np.uint64)[:, None]


@dataclass(frozen=True, slots=True)
class Cluster:
    """`overlap` is the lowest Jaccard overlap by which a member was joined."""

    question_id: str
    ids: tuple[str, ...]
    overlap: float


def _grams(answer: str) -> NDArray[np.uint64]:
    text = "".join(c for c in unicodedata.normalize("NFKC", answer[:_CHARS]).casefold() if c.isalnum())
    if len(text) < MIN_CHARS:
        return np.empty(0, dtype=np.uint64)
    hashes = {zlib.crc32(text[i : i + _GRAM].encode("utf8")) % _PRIME for i in range(len(text) - _GRAM + 1)}
    return np.fromiter(hashes, dtype=np.uint64, count=len(hashes))


def _overlap(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> float:
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / (len(a) + len(b) - both)


def clusters_of(question_id: str, answers: Iterable[tuple[str, str]]) -> list[Cluster]:
    """Clusters among (id, answer) of one question, largest first. Short answers are alike by nature and left out."""
    ids: list[str] = []
    grams: list[NDArray[np.uint64]] = []
    parent: list[int] = []
    lowest: dict[int, float] = {}
    buckets: dict[tuple[int, bytes], int] = {}

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for row_id, answer in answers:
        found = _grams(answer)
        if not len(found):
            continue
        me = len(ids)
        ids.append(row_id)
        grams.append(found)
        parent.append(me)
        signature = ((_A * found[None, :] + _B) % np.uint64(_PRIME)).min(axis=1).astype(np.uint32)
        seen: set[int] = set()
        for band in range(_BANDS):
            key = (band, signature[band * _ROWS : (band + 1) * _ROWS].tobytes())
            other = buckets.setdefault(key, me)
            if other == me or root(other) in seen:
                continue
            seen.add(root(other))
            overlap = _overlap(grams[other], found)
            if overlap >= SAME:
                top, low = root(other), min(overlap, lowest.get(root(other), 1.0), lowest.get(root(me), 1.0))
                parent[root(me)] = top
                lowest[top] = low
    groups: dict[int, list[str]] = {}
    for i, row_id in enumerate(ids):
        groups.setdefault(root(i), []).append(row_id)
    made = [Cluster(question_id, tuple(g), round(lowest[r], 3)) for r, g in groups.items() if len(g) > 1]
    return sorted(made, key=lambda c: (-len(c.ids), -c.overlap))


def clusters(rows: Iterable[tuple[str, str, str, str]], most: int = 200) -> Iterator[Cluster]:
    """Clusters over (question key, question id, row id, answer) sorted by question key; at most `most`."""
    from itertools import groupby

    left = most
    for (_, question_id), group in groupby(rows, key=lambda r: (r[0], r[1])):
        for cluster in clusters_of(question_id, ((r[2], r[3]) for r in group)):
            if left == 0:
                return
            left -= 1
            yield cluster
