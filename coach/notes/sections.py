"""Lines → sections, and what the items of a section are: questions, or the steps of an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from coach.notes import marks
from coach.notes.scan import Line

Kind = Literal["question", "prose"]
_INLINE = re.compile(r"^\s*(?:\d{1,3}[.、]|[-*+])\s*\*\*(.+?)\*\*\s*[:：]\s*(\S.*)$")
_BOLD_ITEM = re.compile(r"^\s*\d{1,3}[.、]\s*(?:<u>|\*\*)")
_ASKED_THEN_SAID = re.compile(r"^(.{3,60}?[？?])\s*(?:答|A|回答)?\s*[:：]?\s*(\S.{14,})$")


@dataclass(slots=True)
class Draft:
    """A unit under construction. `asked` holds the lines of the question, `body` those of the answer or prose."""

    kind: Kind
    path: tuple[str, ...]
    question: str = ""
    asked: list[Line] = field(default_factory=list)
    body: list[Line] = field(default_factory=list)
    inline: bool = False
    narrated: bool = False
    restarted: bool = False
    stars: int = 0

    @property
    def said(self) -> list[Line]:
        return [x for x in self.body if not x.blank]


@dataclass(slots=True)
class Section:
    path: tuple[str, ...]
    heading: Line | None
    lines: list[Line]


def sections(lines: Sequence[Line]) -> list[Section]:
    out = [Section((), None, [])]
    path: list[tuple[int, str]] = []
    for x in lines:
        if x.marker in ("heading", "label") and not x.drop:
            name = x.text.strip("：: ")
            path = [(n, t) for n, t in path if n < x.level]
            if name:
                path.append((x.level, name))
            out.append(Section(tuple(t for _, t in path), x, []))
        else:
            out[-1].lines.append(x)
    return out


def is_item(x: Line) -> bool:
    return x.marker == "number" and x.indent <= 1 and not x.drop and not x.code


def bodies(section: Section) -> int:
    """How many numbered items have lines of their own below them."""
    items = [i for i, x in enumerate(section.lines) if is_item(x)]
    ends = [*items[1:], len(section.lines)]
    return sum(
        any(not y.blank and y.drop != "bare list mark" for y in section.lines[i + 1 : e])
        for i, e in zip(items, ends, strict=True)
    )


def asks_by_number(section: Section) -> bool:
    """Are the numbered items of this section questions, or the steps of something?"""
    items = [x for x in section.lines if is_item(x)]
    real = [x for x in items if not marks.is_empty(x.text)]
    if not items:
        return False
    name = section.path[-1] if section.path else ""
    marked = sum(bool(_BOLD_ITEM.match(x.raw)) or marks.asks(head_of(x)[0]) for x in real)
    if marks.ends_as_question(name) or (marks.asks(name) and not marks.ASKS.search(name)):
        return sum(marks.ends_as_question(x.text) for x in real) > len(real) / 2
    if marks.TELLS.search(name) and not marks.ASKS.search(name):
        return marked > 0.6 * len(real)
    if marks.ASKS.search(" ".join(section.path)):
        return True
    short = sum(len(head_of(x)[0]) <= 40 for x in real)
    return marked >= 0.4 * len(real) or (bodies(section) >= 0.5 * len(items) and short >= 0.8 * len(real))


def head_of(x: Line) -> tuple[str, str]:
    """(question, answer on the same line) of an item."""
    inline = _INLINE.match(x.raw)
    if inline:
        return marks.clean(inline[1]), marks.clean(marks.URL.sub(" ", inline[2]))
    said = _ASKED_THEN_SAID.match(x.text)
    if said and not marks.asks(said[2]):
        return said[1], said[2]
    return x.text, ""


def with_text(x: Line, text: str) -> Line:
    return Line(x.number, x.raw, text, "", 0, x.indent, False, "", x.images, 0, x.references)
