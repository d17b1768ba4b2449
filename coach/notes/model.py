"""What importing makes of a source."""

from __future__ import annotations

from dataclasses import dataclass

from coach.notes.sections import Kind
from coach.notes.status import Answer


@dataclass(frozen=True, slots=True)
class Unit:
    """`question_line` is 0 for prose; without an answer `first_line` is the question's own line.

    `bank` is the bank question that asks the same (`bank_cosine` says how sure), `context` its words for searching.
    """

    kind: Kind
    question: str
    parts: tuple[str, ...]
    path: tuple[str, ...]
    question_line: int
    first_line: int
    last_line: int
    lines: tuple[str, ...]
    answer: Answer
    asked: tuple[int, ...] = ()
    stars: int = 0
    images: int = 0
    references: tuple[str, ...] = ()
    bank: str = ""
    bank_cosine: float = 0.0
    context: str = ""

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def heading(self) -> str:
        names = [*self.path, *([self.question] if self.question else [])]
        return " › ".join(n.replace("›", "-") for n in names)


@dataclass(frozen=True, slots=True)
class Dropped:
    line: int
    reason: str
    excerpt: str


@dataclass(slots=True)
class Parsed:
    units: list[Unit]
    dropped: list[Dropped]
    headings: list[tuple[int, str]]
