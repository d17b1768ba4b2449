"""How well retrieval finds the lines that answer a query, beside cutting the same sources into windows.

A passage is relevant when its lines overlap a range of the qrels. Queries are searched in the note sets their ranges
lie in: other notes may answer them as well, but nobody has judged that, so they must not count as misses.
nDCG has gain 1 for a relevant passage; its ideal is all relevant passages of the index first.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coach.embed import Embedder, Progress, VectorCache, cosine
from coach.errors import NoteError, UsageError
from coach.index import Index
from coach.notes.documents import read_source
from coach.retrieve import retrieve

DEPTHS = (1, 3, 5, 10)
WINDOW = 500
_DEEPEST = 50


@dataclass(frozen=True, slots=True)
class Range:
    file: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Query:
    text: str
    kind: str
    relevant: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """Where a method put something: file label and lines."""

    file: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Metrics:
    """`recall` by depth: share of queries with a relevant passage among the first k. `ms` are milliseconds a query."""

    n: int
    recall: dict[int, float]
    mrr: float
    ndcg: float
    ms: float
    p95_ms: float


def _range(value: Any, where: str) -> Range:
    if isinstance(value, str):
        match = re.fullmatch(r"(.+):(\d+)(?:-(\d+))?", value.strip())
        if match:
            return Range(match[1], int(match[2]), int(match[3] or match[2]))
    elif isinstance(value, dict) and "file" in value:
        file = value["file"]
        first = value.get("line_start", value.get("first_line"))
        last = value.get("line_end", value.get("last_line", first))
        if isinstance(first, int) and isinstance(last, int):
            return Range(f"{file:03d}" if isinstance(file, int) else str(file), first, last)
    raise UsageError(f"{where}: no line range: {value!r}", 'write "file.md:12-15"')


def load_qrels(path: Path) -> list[Query]:
    """JSON Lines. Each row has `query` (or `question`) and its ranges: `relevant`/`answers` as a list of
    "file:first-last", or `file`, `line_start`, `line_end` (and `same_question_passages`). Rows without ranges are
    skipped. `kind` or `lang` names the group of a row. UsageError naming file and line.
    """
    try:
        rows = path.read_text(encoding="utf8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{path}: {e}") from e
    out = []
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        where = f"{path}:{number}"
        try:
            data = json.loads(row)
        except ValueError as e:
            raise UsageError(f"{where}: no JSON: {e}") from e
        text = data.get("query") or data.get("question") if isinstance(data, dict) else None
        if not text:
            raise UsageError(f"{where}: a row needs `query`")
        ranges = [_range(v, where) for v in (data.get("relevant") or data.get("answers") or [])]
        if "file" in data:
            ranges.append(_range(data, where))
        ranges += [_range(v, where) for v in data.get("same_question_passages") or []]
        if ranges:
            out.append(Query(str(text), str(data.get("kind") or data.get("lang") or "all"), tuple(ranges)))
    if not out:
        raise UsageError(f"{path}: no query with a line range", "see coach eval retrieval --help")
    return out


def same_file(label: str, name: str) -> bool:
    """Does the index label mean the file that the qrels name: in full, by its end, or by a leading number or stem?

    >>> same_file("mine/004-big.md", "004"), same_file("mine/a/b.md", "a/b.md"), same_file("mine/x4.md", "4")
    (True, True, False)
    """
    base = label.rsplit("/", 1)[-1]
    stem = base.rsplit(".", 1)[0]
    return (
        label == name
        or label.endswith(f"/{name}")
        or stem == name
        or stem.startswith((f"{name}-", f"{name}_"))
    )


def is_relevant(found: Found, query: Query) -> bool:
    return any(
        same_file(found.file, r.file) and found.first <= r.last and r.first <= found.last
        for r in query.relevant
    )


def measure(
    queries: Sequence[Query],
    search: Callable[[str], list[Found]],
    everything: Sequence[Found],
    progress: Progress | None = None,
) -> dict[str, Metrics]:
    """Metrics by kind and, with more than one kind, for `all`. `search` returns passages best first."""
    rows: list[tuple[str, int | None, float, float]] = []
    for done, query in enumerate(queries, 1):
        start = time.perf_counter()
        found = search(query.text)
        ms = 1000 * (time.perf_counter() - start)
        hits = [is_relevant(f, query) for f in found]
        first = hits.index(True) + 1 if any(hits) else None
        gain = sum(1 / math.log2(i + 2) for i, hit in enumerate(hits[:10]) if hit)
        relevant = sum(is_relevant(f, query) for f in everything)
        ideal = sum(1 / math.log2(i + 2) for i in range(min(10, relevant)))
        rows.append((query.kind, first, gain / ideal if ideal else 0.0, ms))
        if progress:
            progress(done, len(queries))
    kinds = sorted({r[0] for r in rows})
    groups = {k: [r for r in rows if r[0] == k] for k in kinds}
    if len(kinds) > 1:
        groups["all"] = rows
    return {kind: _metrics(group) for kind, group in groups.items()}


def _metrics(rows: Sequence[tuple[str, int | None, float, float]]) -> Metrics:
    n = len(rows)
    times = sorted(r[3] for r in rows)
    return Metrics(
        n=n,
        recall={k: sum(r[1] is not None and r[1] <= k for r in rows) / n for k in DEPTHS},
        mrr=sum(1 / r[1] for r in rows if r[1]) / n,
        ndcg=sum(r[2] for r in rows) / n,
        ms=sum(times) / n,
        p95_ms=times[min(n - 1, math.ceil(0.95 * n) - 1)],
    )


def windows(label: str, rows: Sequence[tuple[int, str]], size: int = WINDOW) -> list[tuple[Found, str]]:
    """Non-overlapping windows of `size` characters with the lines they touch: what a naive splitter makes."""
    text = "\n".join(line for _, line in rows)
    starts: list[int] = []
    at = 0
    for _, line in rows:
        starts.append(at)
        at += len(line) + 1
    out = []
    row = 0
    for begin in range(0, len(text), size):
        piece = text[begin : begin + size]
        while row + 1 < len(starts) and starts[row + 1] <= begin:
            row += 1
        last = row
        while last + 1 < len(starts) and starts[last + 1] < begin + len(piece):
            last += 1
        if piece.strip():
            out.append((Found(label, rows[row][0], rows[last][0]), piece))
    return out


def sources_of(index: Index, home: Path, roots: Sequence[str]) -> list[tuple[str, Path]]:
    """(label, original file) of every source in the given roots."""
    out = []
    by_name = {r.name: r.path for r in index.manifest.roots}
    for root in roots:
        path = by_name[root]
        state = path.parent / "set.json"
        if path.parent.parent == home / "notes" and state.is_file():
            known = json.loads(state.read_text(encoding="utf8"))["sources"]
            out += [(f"{root}/{name}", Path(row[0])) for name, row in known.items()]
        else:
            out += [(f, path / f.split("/", 1)[1]) for f in index.manifest.files if f.startswith(f"{root}/")]
    return out


def roots_of(index: Index, queries: Sequence[Query]) -> list[str]:
    """The note sets that the qrels speak of; UsageError when a file of the qrels is not indexed."""
    names = {r.file for q in queries for r in q.relevant}
    labels = list(index.manifest.files)
    found = {n: [f for f in labels if same_file(f, n)] for n in names}
    missing = sorted(n for n, files in found.items() if not files)
    if missing:
        raise UsageError(f"not in the index: {', '.join(missing[:5])}", "coach notes import PATH")
    return sorted({f.split("/")[0] for files in found.values() for f in files})


def run(
    index: Index,
    home: Path,
    queries: Sequence[Query],
    cache: VectorCache,
    *,
    baseline: bool = True,
    rewrite: Callable[[str], str] | None = None,
    embedding: Progress | None = None,
    searching: Progress | None = None,
) -> dict[str, dict[str, Metrics]]:
    """Metrics by method and kind: `coach`; with `rewrite` also `rewritten`, whose time includes the rewriting; with
    `baseline` also `naive-500`: e5 over 500-character windows.
    """
    roots = roots_of(index, queries)
    index.dense("预热", 1)  # the first query loads the model: that is start-up, not search
    index.lexical_scores("预热")
    everything = [
        Found(c.file, c.first_line, c.last_line) for c in index.chunks if c.file.split("/")[0] in roots
    ]

    def coach(text: str) -> list[Found]:
        passages = [p for root in roots for p in retrieve(index, text, _DEEPEST, root)]
        best = sorted(passages, key=lambda p: -p.score)[:_DEEPEST]
        return [Found(p.chunk.file, p.chunk.first_line, p.chunk.last_line) for p in best]

    out = {"coach": measure(queries, coach, everything, searching)}
    if rewrite:
        out["rewritten"] = measure(queries, lambda text: coach(rewrite(text)), everything, searching)
    if baseline:
        out["naive-500"] = _naive(index.embedder, cache, sources_of(index, home, roots), queries, embedding)
    return out


def _naive(
    embedder: Embedder,
    cache: VectorCache,
    sources: Sequence[tuple[str, Path]],
    queries: Sequence[Query],
    progress: Progress | None,
) -> dict[str, Metrics]:
    pieces: list[tuple[Found, str]] = []
    for label, path in sources:
        try:
            pieces += windows(label, read_source(path).rows)
        except NoteError as e:
            raise NoteError(f"the baseline needs the source: {e.message}", "--no-baseline") from e
    vectors, _ = cache.encode(embedder, [text for _, text in pieces], progress)

    def search(text: str) -> list[Found]:
        order = (-cosine(embedder.encode_query([text]), vectors)[0]).argsort(kind="stable")
        return [pieces[int(i)][0] for i in order[:_DEEPEST]]

    return measure(queries, search, [f for f, _ in pieces])
