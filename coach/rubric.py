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
# An illustration opens like this; what follows belongs to it as long as it speaks of the same numbers.
_EXAMPLE = re.compile(r"(?:例[：:如]|比如|譬如|举个?例|举一个例|for (?:example|instance)\b|e\.g\.)", re.I)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
# A last statement that draws the conclusion is what was asked for.
_CONCLUSION = re.compile(
    r"(?:^|[，,；;])\s*(?:因此|所以|综上|总之|故(?![障意事])|therefore\b|thus\b|hence\b|in conclusion\b)",
    re.I,
)
_CONCLUSION_WEIGHT = 2
_GLUED_STOP = re.compile(r"\.(?=[\u4e00-\u9fff])")  # "…、3n.而栈是后进先出"


def question_from(text: str, points: Sequence[Point], reference: str = "") -> Question:
    return Question(
        id="ad-hoc", question=text, kind="concept", topic="ad-hoc", rubric=tuple(points), reference=reference
    )


def points_from_reference(reference: str) -> tuple[Point, ...]:
    """One point per sentence, at most MAX_POINTS: the shortest neighbours are joined when there are more.

    Numbers of a list are dropped; a word before its explanation ("错误。顺序栈…") stays with it. A worked example is no
    point, for another example is as good. A conclusion that ends the reference counts double.
    UsageError when the reference has nothing that could be checked.

    >>> [p.text for p in points_from_reference("错误。栈里的元素不一定有序。1. 先进后出。例如进 1、2，出 2、1。")]
    ['错误；栈里的元素不一定有序', '先进后出']
    """
    lines = _GLUED_STOP.sub(".\n", _ENUMERATOR.sub("\n", reference)).split("\n")
    said = [s.text.strip("。；;.!！ ") for line in lines for s in sentences(line)]
    pieces = _without_examples(said)
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
    weights = [1] * len(claims)
    if len(claims) > 1 and _CONCLUSION.search(claims[-1]):
        weights[-1] = _CONCLUSION_WEIGHT
    return tuple(
        Point(id=f"p{i}", point=claim, weight=weight)
        for i, (claim, weight) in enumerate(zip(claims, weights, strict=True), 1)
    )


def _without_examples(said: Sequence[str]) -> list[str]:
    """The sentences that are no illustration; all of them when nothing else is there.

    A sentence that ends with a colon goes where the next one goes.
    """
    kept: list[str] = []
    leads: list[str] = []  # their colon leads on to a sentence not seen yet
    numbers: set[str] = set()  # of the example that is being told
    for sentence in filter(None, said):
        if _EXAMPLE.match(sentence):
            numbers = set(_NUMBER.findall(sentence))
            leads.clear()
        elif numbers and sentence.endswith(("：", ":")):
            leads.append(sentence)
        elif numbers & (own := set(_NUMBER.findall(sentence))):
            numbers |= own
            leads.clear()
        else:
            kept += [*leads, sentence]
            leads.clear()
            numbers = set()
    return [*kept, *leads] or list(filter(None, said))


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
