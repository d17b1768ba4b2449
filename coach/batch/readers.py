"""One reader per format: a path in, rows out as they are read. A new format is one function and one READERS row."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from coach.batch.fields import Raw
from coach.batch.lines import MAX_LINE_BYTES, read_lines
from coach.batch.sheets import read_xlsx
from coach.errors import UsageError

# Python's own limit is 128 KiB a cell; an answer that long must become a row error, not end the file.
csv.field_size_limit(2 * MAX_LINE_BYTES)
_HEADING = re.compile(r"^##\s+(.+?)\s*#*\s*$")
_FENCE = re.compile(r"^\s*(```|~~~)")


def jsonl_rows(lines: Iterable[tuple[int, str]], name: str) -> Iterator[Raw]:
    """One JSON object a line; blank lines do not count."""
    for number, line in lines:
        if not line.strip():
            continue
        place = f"{name}:{number}"
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as e:
            cut = (
                " (the line is longer than 8 MiB)"
                if len(line.encode("utf8", "replace")) >= MAX_LINE_BYTES
                else ""
            )
            yield Raw(place, {}, f"not JSON: {str(e)[:120]}{cut}")
            continue
        if not isinstance(value, dict):
            yield Raw(place, {}, f"a row is a JSON object, not {type(value).__name__}")
        else:
            yield Raw(place, value)


def csv_rows(lines: Iterable[tuple[int, str]], name: str) -> Iterator[Raw]:
    """Header first. A record that does not parse costs its first line only: what follows is read again."""
    source = iter(lines)
    again: deque[tuple[int, str]] = deque()

    def following() -> tuple[int, str] | None:
        return again.popleft() if again else next(source, None)

    header: list[str] | None = None
    dialect = ","
    while (line := following()) is not None:
        if not line[1].strip():
            continue
        record = [line]
        odd = line[1].count('"') % 2
        size = len(line[1])
        # Inside an open quote a line end belongs to the cell.
        while odd and size <= MAX_LINE_BYTES and (more := following()) is not None:
            record.append(more)
            odd ^= more[1].count('"') % 2
            size += len(more[1])
        place = f"{name}:{line[0]}"
        if header is None:
            dialect = max(",;\t", key=line[1].count)
            header = _cells(record, dialect) or []
            header = [h.strip() or f"column {i}" for i, h in enumerate(header, 1)]
            if len(set(header)) != len(header):
                twice = sorted({h for h in header if header.count(h) > 1})
                raise UsageError(f"{place}: the header names {', '.join(twice)} twice", "rename one of them")
            continue
        cells = _cells(record, dialect) if not odd else None
        if cells is not None and len(cells) <= len(header):
            cells += [""] * (len(header) - len(cells))
            yield Raw(place, dict(zip(header, cells, strict=True)))
            continue
        if cells is not None and not any(c.strip() for c in cells[len(header) :]):
            yield Raw(place, dict(zip(header, cells, strict=False)))
            continue
        again.extendleft(reversed(record[1:]))
        what = "a quote is not closed" if odd else "the quotes do not match"
        yield Raw(place, {}, what if cells is None else f"{len(cells)} cells under {len(header)} columns")


def _cells(record: list[tuple[int, str]], delimiter: str) -> list[str] | None:
    try:
        rows = list(
            csv.reader([text.replace("\0", "") for _, text in record], delimiter=delimiter, strict=True)
        )
    except csv.Error:
        return None
    return rows[0] if len(rows) == 1 else None


def markdown_rows(lines: Iterable[tuple[int, str]], name: str) -> Iterator[Raw]:
    """`## question id or text`, then the answer up to the next `##`. A file without one is the answer to its name."""
    title, start, body, fenced = "", 1, [], False
    seen = False
    for number, line in lines:
        if _FENCE.match(line):
            fenced = not fenced
        match = None if fenced else _HEADING.match(line)
        if not match:
            body.append(line)
            continue
        if seen:
            yield _section(name, start, title, body)
        title, start, body, seen = match[1], number, [], True
    if seen:
        yield _section(name, start, title, body)
    elif "".join(body).strip():
        yield _section(name, 1, Path(name).stem, body)


def _section(name: str, line: int, title: str, body: list[str]) -> Raw:
    return Raw(f"{name}:{line}", {"question": title, "answer": "".join(body).strip()})


def text_rows(lines: Iterable[tuple[int, str]], name: str) -> Iterator[Raw]:
    """A whole file is one answer; its name is the question."""
    yield _section(name, 1, Path(name).stem, [text for _, text in lines])


TEXT_READERS: dict[str, Callable[[Iterable[tuple[int, str]], str], Iterator[Raw]]] = {
    ".jsonl": jsonl_rows,
    ".ndjson": jsonl_rows,
    ".csv": csv_rows,
    ".tsv": csv_rows,
    ".md": markdown_rows,
    ".txt": text_rows,
}


def read_stream(stream: BinaryIO, name: str, suffix: str, encoding: str | None = None) -> Iterator[Raw]:
    return TEXT_READERS[suffix](read_lines(stream, name, encoding), name)


def _read_text(path: Path, name: str, encoding: str | None) -> Iterator[Raw]:
    with path.open("rb") as stream:
        yield from read_stream(stream, name, path.suffix.lower(), encoding)


def _read_sheet(path: Path, name: str, encoding: str | None) -> Iterator[Raw]:
    return read_xlsx(path, name)


READERS: dict[str, Callable[[Path, str, str | None], Iterator[Raw]]] = {
    **dict.fromkeys(TEXT_READERS, _read_text),
    ".xlsx": _read_sheet,
    ".xlsm": _read_sheet,
}


def tables(path: Path, encoding: str | None = None) -> Iterator[Iterator[Raw]]:
    """The tables of a file or folder, one iterator each; columns are matched table by table.

    In a folder, tables are partitions; a .txt file, or a .md file without `##` headings, is one answer to the
    question its name says, by the candidate whose folder it lies in. UsageError for what cannot be read.
    """
    if path.is_dir():
        files = sorted(
            p
            for p in path.rglob("*")
            if p.is_file() and p.suffix.lower() in READERS and p.name[0] not in ".~"
        )
        if not files:
            raise UsageError(f"{path}: no answer files", f"a file ends in {', '.join(READERS)}")
        for file in files:
            owner = file.parent.relative_to(path).as_posix()
            yield _owned(_checked(file, file.relative_to(path).as_posix(), encoding), file, owner)
        return
    if path.suffix.lower() not in READERS:
        raise UsageError(f"{path}: no reader for this kind of file", f"it should end in {', '.join(READERS)}")
    yield _checked(path, path.name, encoding)


def _checked(path: Path, name: str, encoding: str | None) -> Iterator[Raw]:
    try:
        yield from READERS[path.suffix.lower()](path, name, encoding)
    except OSError as e:
        raise UsageError(f"{path}: {e.strerror or e}", "check the path and its permissions") from e


def _owned(rows: Iterator[Raw], file: Path, owner: str) -> Iterator[Raw]:
    for raw in rows:
        if file.suffix.lower() in (".md", ".txt") and owner != ".":
            yield Raw(raw.place, {**raw.values, "candidate": owner}, raw.error)
        else:
            yield raw
