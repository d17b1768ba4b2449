"""A question that is not in the bank: its rubric from a file, from a reference answer, or from the notes."""

from __future__ import annotations

from collections.abc import Sequence

from coach.domain import Passage, Point, Question
from coach.errors import UsageError
from coach.text import sentences

MAX_POINTS = 7
_MIN_CHARS = 6
_BACKED = 0.85


def question_from(text: str, points: Sequence[Point], reference: str = "") -> Question:
    return Question(
        id="ad-hoc", question=text, kind="concept", topic="ad-hoc", rubric=tuple(points), reference=reference
    )


def points_from_reference(reference: str) -> tuple[Point, ...]:
    """One point per sentence, at most MAX_POINTS: neighbours are joined when there are more.

    UsageError when the reference has nothing that could be checked.
    """
    claims = [
        s.text.rstrip("。；;.!！ \n") for s in sentences(reference) if len(s.text.strip()) >= _MIN_CHARS
    ]
    if not claims:
        raise UsageError(
            "the reference has no sentence to grade against", "give a reference of at least one full sentence"
        )
    size = -(-len(claims) // MAX_POINTS)
    groups = [claims[i : i + size] for i in range(0, len(claims), size)]
    return tuple(Point(id=f"p{i}", point="；".join(g)) for i, g in enumerate(groups, 1))


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
        if len(line.strip()) >= _MIN_CHARS
        and not line.strip().startswith(("|", "$", "```", "来源", "例", "常见误区"))
    ]
    file, heading = best.chunk.file, best.chunk.heading.split(" › ")[-1]
    return tuple(
        Point(id=f"p{i}", point=line.rstrip("。"), source=f"{file}#{heading}")
        for i, line in enumerate(lines[:MAX_POINTS], 1)
    )
