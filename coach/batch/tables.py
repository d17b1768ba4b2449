"""grades.csv and grades.xlsx: one row per answer, one column per point, nothing that runs when opened."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from coach.batch.records import Record
from coach.batch.sheets import safe_cell, write_xlsx
from coach.batch.stats import Stats, review_reasons
from coach.batch.store import replace_atomically

_HEAD = ("id", "candidate", "question_id", "status", "score", "low", "high")
_TAIL = ("pitfalls", "follow_up", "review", "error", "place")


def point_columns(stats: Stats) -> list[str]:
    """With one question a column is named by its point; with several, columns are numbered and cells name the point."""
    if len(stats.questions) == 1:
        (only,) = stats.questions.values()
        return list(only.points)
    return [f"point_{i}" for i in range(1, stats.most_points + 1)]


def header(points: Sequence[str]) -> list[str]:
    return [*_HEAD, *points, *_TAIL]


def table_row(record: Record, points: Sequence[str], single: bool) -> list[Any]:
    low, high = record["interval"] or (None, None)
    if single:
        found = {v["point"]: _credit(v) for v in record["verdicts"]}
        cells = [found.get(p) for p in points]
    else:
        texts = [f"{v['point']}: {v['status']}" for v in record["verdicts"]]
        cells = [texts[i] if i < len(texts) else None for i in range(len(points))]
    return [
        record["id"],
        record["candidate"],
        record["question_id"],
        record["status"],
        record["score"],
        low,
        high,
        *cells,
        "; ".join(h["pitfall"] for h in record["pitfalls"]),
        "; ".join(record["follow_ups"]),
        "; ".join(review_reasons(record)),
        record["error"] or record["note"],
        record["place"],
    ]


def _credit(verdict: Record) -> Any:
    return "unjudged" if verdict["credit"] is None else verdict["credit"]


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """UTF-8 with a byte-order mark, for that is how spreadsheet programs know that it is UTF-8."""

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8-sig", newline="", errors="replace") as f:
            out = csv.writer(f)
            out.writerow([safe_cell(c) for c in columns])
            out.writerows([safe_cell(c) for c in row] for row in rows)

    replace_atomically(path, write)


def write_workbook(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    replace_atomically(path, lambda temporary: write_xlsx(temporary, columns, rows))


def table(records: Iterable[Record], stats: Stats) -> Iterator[list[Any]]:
    points = point_columns(stats)
    single = len(stats.questions) == 1
    for record in records:
        yield table_row(record, points, single)
