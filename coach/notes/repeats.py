"""The same question or the same block twice: one stays, the other is remembered, nothing counts double."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from coach.notes.marks import fold
from coach.notes.model import Unit

if TYPE_CHECKING:
    from coach.notes.sets import Imported

# A run of identical lines must have this many lines and characters before it counts as a copied block.
_MIN_LINES, _MIN_CHARS = 4, 80


@dataclass(frozen=True, slots=True)
class Merged:
    """Lines of this source that say what stands at `kept` already."""

    first_line: int
    last_line: int
    kept: str
    what: str


def _ref(unit: Unit, source: str) -> str:
    return f"{source}:{unit.question_line or unit.first_line}"


def _answered(unit: Unit) -> bool:
    return unit.kind == "prose" or unit.answer in ("full", "partial", "outline", "truncated")


def merge_repeats(sources: list[Imported]) -> None:
    """In place: repeated questions leave `units` and become `Merged` rows; copied blocks become empty lines."""
    for s in sources:
        s.merged = []
    _questions(sources)
    _blocks(sources)


def _questions(sources: list[Imported]) -> None:
    kept: dict[str, tuple[Unit, Imported]] = {}
    gone: set[int] = set()
    for source, unit in [(s, u) for s in sources for u in s.units]:
        key = fold(unit.question) if unit.kind == "question" else fold(unit.text)
        if len(key) < 4:
            continue
        known = kept.get(key)
        if known is None:
            kept[key] = (unit, source)
            continue
        old, old_source = known
        if not _answered(unit) or (_answered(old) and fold(old.text) == fold(unit.text)):
            drop, drop_source, stay, stay_source = unit, source, old, old_source
        elif not _answered(old):
            drop, drop_source, stay, stay_source = old, old_source, unit, source
            kept[key] = (unit, source)
        else:
            continue  # two different answers to one question: both are evidence
        gone.add(id(drop))
        first = drop.question_line or drop.first_line
        drop_source.merged.append(
            Merged(
                first,
                max(first, drop.last_line),
                _ref(stay, stay_source.name),
                "question" if drop.kind == "question" else "passage",
            )
        )
    for source in sources:
        source.units = [u for u in source.units if id(u) not in gone]


def _said(unit: Unit) -> Iterator[tuple[int, str]]:
    for i, line in enumerate(unit.lines):
        key = fold(line)
        if key:
            yield i, key


def _follows(before: tuple[str, int] | None, here: tuple[str, int] | None) -> bool:
    return here is not None and (before is None or (before[0] == here[0] and 0 < here[1] - before[1] <= 8))


def _blocks(sources: list[Imported]) -> None:
    """Runs of lines that another unit has already, as when a section was pasted below a second question."""
    where: dict[str, tuple[str, int]] = {}
    for source in sources:
        for n, unit in enumerate(source.units):
            rows = list(_said(unit))
            blank: set[int] = set()
            start = 0
            while start < len(rows):
                end = start
                while end < len(rows) and _follows(
                    where.get(rows[end - 1][1]) if end > start else None, where.get(rows[end][1])
                ):
                    end += 1
                run = rows[start:end]
                if len(run) >= _MIN_LINES and sum(len(k) for _, k in run) >= _MIN_CHARS and _answered(unit):
                    file, line = where[run[0][1]]
                    source.merged.append(
                        Merged(
                            unit.first_line + run[0][0],
                            unit.first_line + run[-1][0],
                            f"{file}:{line}",
                            "block",
                        )
                    )
                    blank |= {i for i, _ in run}
                start = max(end, start + 1)
            if blank:
                lines = tuple("" if i in blank else line for i, line in enumerate(unit.lines))
                if any(lines):
                    source.units[n] = replace(unit, lines=lines)
            for i, key in rows:
                where.setdefault(key, (source.name, unit.first_line + i))
