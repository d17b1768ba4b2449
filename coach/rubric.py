"""A question that is not in the bank: its rubric from a file, from a reference answer, or from the notes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from coach.domain import Passage, Point, Question
from coach.errors import UsageError
from coach.text import sentences

MAX_POINTS = 7
_MIN_CHARS = 4  # fewer are a word, not a statement
_MIN_LATIN = 8
_MIN_LINE = 6
_BACKED = 0.85
# "1." or "（2）" before an item of a list; a decimal, a version and "f(1)" are none.
_ENUMERATOR = re.compile(
    r"(?:(?<=^)|(?<=[\s。；;：:，,]))(?:\d{1,2}[.、)）](?!\d)|[（(]\d{1,2}[)）])\s*", re.M
)
_GLUED_STOP = re.compile(r"\.(?=[\u4e00-\u9fff])")  # "…、3n.而栈是后进先出"


def question_from(text: str, points: Sequence[Point], reference: str = "") -> Question:
    return Question(
        id="ad-hoc", question=text, kind="concept", topic="ad-hoc", rubric=tuple(points), reference=reference
    )


def points_from_reference(reference: str) -> tuple[Point, ...]:
    """One point per sentence, at most MAX_POINTS: the shortest neighbours are joined when there are more.

    Numbers of a list are dropped; a word before its explanation ("错误。顺序栈…") stays with it.
    UsageError when the reference has nothing that could be checked.

    >>> [p.text for p in points_from_reference("错误。栈里的元素不一定有序。1. 先进后出。")]
    ['错误；栈里的元素不一定有序', '先进后出']
    """
    lines = _GLUED_STOP.sub(".\n", _ENUMERATOR.sub("\n", reference)).split("\n")
    pieces = [s.text.strip("。；;.!！ ") for line in lines for s in sentences(line)]
    claims: list[str] = []
    waiting: list[str] = []
    for piece in filter(None, pieces):
        waiting.append(piece)
        if len(piece) >= (_MIN_LATIN if piece.isascii() else _MIN_CHARS):
            claims.append("；".join(waiting))
            waiting.clear()
    if claims and waiting:
        claims[-1] = "；".join([claims[-1], *waiting])
    if not claims:
        raise UsageError(
            "the reference has no sentence to grade against", "give a reference of at least one full sentence"
        )
    while len(claims) > MAX_POINTS:
        at = min(range(len(claims) - 1), key=lambda i: len(claims[i]) + len(claims[i + 1]))
        claims[at : at + 2] = ["；".join(claims[at : at + 2])]
    return tuple(Point(id=f"p{i}", point=claim) for i, claim in enumerate(claims, 1))


def points_from_notes(question: str, passages: Sequence[Passage]) -> tuple[Point, ...]:
    """The best passage's own statements as a provisional rubric; UsageError when the notes do not cover the question."""
    best = passages[0] if passages else None
    if best is None or (best.dense or 0.0) < _BACKED:
        raise UsageError(
            f"笔记未覆盖: nothing in the notes answers {question!r}",
            'say what counts: --rubric FILE or --reference "…" — or index notes that cover it: coach index --notes DIR',
        )
    lines = [
        line.strip().lstrip("-*• ")
        for line in best.chunk.text.split("\n")
        if len(line.strip()) >= _MIN_LINE
        and not line.strip().startswith(("|", "$", "```", "来源", "例", "常见误区"))
    ]
    file, heading = best.chunk.file, best.chunk.heading.split(" › ")[-1]
    return tuple(
        Point(id=f"p{i}", point=line.rstrip("。"), source=f"{file}#{heading}")
        for i, line in enumerate(lines[:MAX_POINTS], 1)
    )
