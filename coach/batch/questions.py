"""Which question a row answers: by id, by text, or its own with its own rubric."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from coach import rubric as rubrics
from coach.bank import Bank
from coach.batch.fields import Row, RowError
from coach.domain import Point, Question
from coach.errors import UsageError
from coach.text import sha256

# Dice overlap of character bigrams. Paraphrases of one question score lower than this, other questions far lower.
_SAME = 0.82
_CLEAR = 0.06
_CACHE = 4096


def fold(text: str) -> str:
    """What is compared: letters and digits only, width and case folded.

    >>> fold("什么是 LoRA ？") == fold("什么是lora?")
    True
    """
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def _bigrams(text: str) -> frozenset[str]:
    return frozenset(text[i : i + 2] for i in range(len(text) - 1)) or frozenset({text})


def overlap(a: frozenset[str], b: frozenset[str]) -> float:
    return 2 * len(a & b) / (len(a) + len(b))


class QuestionFinder:
    """Finds the bank's question for a row. `rubric` is one rubric for every row, `question` its text."""

    def __init__(
        self, bank: Bank, rubric: Sequence[Point] | None = None, question: str | None = None
    ) -> None:
        self._bank = bank
        self._rubric = tuple(rubric) if rubric else None
        self._question = question
        self._folded: dict[str, list[str]] = {}
        for q in bank:
            self._folded.setdefault(fold(q.question), []).append(q.id)
        self._shapes = [(q.id, _bigrams(fold(q.question))) for q in bank]
        self._by_text = lru_cache(_CACHE)(self._match)
        self._own = lru_cache(_CACHE)(self._build)

    @property
    def has_question(self) -> bool:
        return self._question is not None

    def find(self, row: Row) -> Question:
        """RowError with the reason when no question, or more than one, fits."""
        text = self._question or row.question
        if self._rubric is not None:
            if not text and row.question_id in self._bank:
                text = self._bank.get(row.question_id).question
            if not text:
                raise RowError("the row names no question; give one column `question`, or --question")
            return self._own(row.question_id, text, None, "")
        if row.rubric not in (None, "", []) or row.reference:
            text = text or (self._bank.get(row.question_id).question if row.question_id in self._bank else "")
            if not text:
                raise RowError("a row with its own rubric or reference needs its `question` too")
            rubric = None if row.rubric in (None, "", []) else json.dumps(row.rubric, ensure_ascii=False)
            return self._own(row.question_id, text, rubric, row.reference)
        if row.question_id:
            return self._by_id(row.question_id)
        if text:
            return self._bank.get(self._by_text(text))
        raise RowError("the row names no question")

    def _by_id(self, question_id: str) -> Question:
        if question_id in self._bank:
            return self._bank.get(question_id)
        folded = question_id.strip().lower()
        if folded in self._bank:
            return self._bank.get(folded)
        # Sheets that call the question's text its 题号 are common enough to be understood.
        if not re.fullmatch(r"[\w.\-]+", question_id, re.A):
            return self._bank.get(self._by_text(question_id))
        try:
            return self._bank.get(question_id)
        except UsageError as e:
            raise RowError(f"{e.message}; {e.hint}") from None

    def _match(self, text: str) -> str:
        if text in self._bank:
            return text
        folded = fold(text)
        exact = self._folded.get(folded, [])
        if len(exact) == 1:
            return exact[0]
        if len(exact) > 1:
            raise RowError(
                f"the question is ambiguous: {', '.join(exact)} have the same text; use question_id"
            )
        shape = _bigrams(folded)
        ranked = sorted(((overlap(shape, s), i) for i, s in self._shapes), reverse=True)[:3]
        near = [i for score, i in ranked if score >= _SAME]
        if len(near) > 1 and ranked[0][0] - ranked[1][0] < _CLEAR:
            raise RowError(f"the question is ambiguous: it could be {' or '.join(near)}; use question_id")
        if near:
            return near[0]
        hint = f"; nearest: {ranked[0][1]}" if ranked and ranked[0][0] > 0.5 else ""
        raise RowError(f"no question of the bank has this text: {text[:60]!r}{hint}")

    def _build(self, question_id: str, text: str, rubric: str | None, reference: str) -> Question:
        try:
            if self._rubric is not None:
                points = self._rubric
            elif rubric is not None:
                points = points_of(json.loads(rubric))
            else:
                points = rubrics.points_from_reference(reference)
            made = rubrics.question_from(text, points, reference)
        except UsageError as e:
            raise RowError(e.message) from e
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise RowError(f"the row's rubric is broken: {where}: {first['msg']}") from e
        own = question_id if re.fullmatch(r"[a-z0-9][a-z0-9\-_.]{0,79}", question_id) else None
        # Rows with one rubric belong together in the report, so the name says which rubric it is.
        name = own or "own-" + sha256(text + rubric_text(points))[:8]
        return made.model_copy(update={"id": name})


def points_of(value: Any) -> tuple[Point, ...]:
    """A rubric as it stands in a row: a list of points or strings, JSON of one, or one point a line."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith(("[", "{")):
            try:
                value = json.loads(text)
            except ValueError as e:
                raise RowError(f"the row's rubric is not JSON: {e}") from e
        else:
            value = [line.strip(" \t-*•") for line in re.split(r"[\n；;]", text) if line.strip(" \t-*•")]
    if isinstance(value, dict) and "rubric" in value:
        value = value["rubric"]
    if not isinstance(value, list) or not value:
        raise RowError("the row's rubric is no list of points")
    points = tuple(
        Point.model_validate({"id": f"p{i}", "point": v} if isinstance(v, str) else v)
        for i, v in enumerate(value, 1)
    )
    if len({p.id for p in points}) != len(points):
        raise RowError("two points of the row's rubric have the same id")
    return points


def rubric_text(points: Sequence[Point]) -> str:
    return "\n".join(p.model_dump_json() for p in points)


@lru_cache(maxsize=_CACHE)
def question_key(question: Question) -> str:
    """Digest of all that a grade depends on in a question: its text, rubric and pitfalls."""
    pitfalls = "\n".join(p.model_dump_json() for p in question.pitfalls)
    return sha256(f"{question.question}\0{rubric_text(question.rubric)}\0{pitfalls}")[:24]
