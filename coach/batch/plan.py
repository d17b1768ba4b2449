"""Rows of the input → entries of the spool: fields mapped, questions found, keys computed, bad rows named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from coach.batch.fields import FIELDS, Raw, Row, RowError, assign, require, row_of
from coach.batch.questions import QuestionFinder, question_key
from coach.batch.records import content_hash, row_key
from coach.batch.spool import Spool
from coach.domain import Question
from coach.errors import UsageError
from coach.grade import check_answer

_HOPELESS = 50


class Mapper:
    """Raw rows → (row, question) pairs or reasons. One `assign` per set of columns, not per row."""

    def __init__(self, finder: QuestionFinder, mapping: Mapping[str, str]) -> None:
        self._finder = finder
        self._mapping = mapping
        self._assigned: dict[tuple[str, ...], dict[str, str]] = {}
        self.understood = 0

    def columns(self, values: Mapping[str, Any]) -> dict[str, str]:
        names = tuple(values)
        if names not in self._assigned:
            if len(self._assigned) > 1000:
                self._assigned.clear()
            self._assigned[names] = assign(names, self._mapping)
        return self._assigned[names]

    def require(self, values: Mapping[str, Any], place: str) -> None:
        require(self.columns(values), values, place, self._finder.has_question)

    def row(self, raw: Raw) -> Row:
        """RowError with the reason."""
        if not raw.error:
            assigned = self.columns(raw.values)
            try:
                require(assigned, raw.values, raw.place, self._finder.has_question)
            except UsageError as e:
                raise RowError(e.message.removeprefix(f"{raw.place}: ")) from e
            self.understood += 1
            return row_of(raw, assigned)
        return row_of(raw, {})

    def question(self, row: Row) -> Question:
        """RowError with the reason."""
        try:
            check_answer(row.answer)
        except UsageError as e:
            raise RowError(e.message) from e
        return self._finder.find(row)


def fill(
    spool: Spool,
    tables: Iterable[Iterator[Raw]],
    mapper: Mapper,
    fingerprint: str,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Read everything once. UsageError when the input as a whole is no table of answers, or is empty."""
    first: Raw | None = None
    for table in tables:
        for raw in table:
            if first is None and not raw.error:
                first = raw
            _add(spool, raw, mapper, fingerprint)
            if first is not None and not mapper.understood and spool.count == _HOPELESS:
                mapper.require(first.values, first.place)
            if progress and spool.count % 500 == 0:
                progress(spool.count)
    if spool.count == 0:
        raise UsageError(
            "the input has no rows",
            f"a row has an answer and one of question_id, question ({', '.join(FIELDS)})",
        )
    if first is not None and not mapper.understood:
        mapper.require(first.values, first.place)


def _add(spool: Spool, raw: Raw, mapper: Mapper, fingerprint: str) -> None:
    ordinal = spool.count + 1
    row_id = f"row-{ordinal}"
    row: Row | None = None
    try:
        row = mapper.row(raw)
        row_id = row.id or row_id
        earlier = spool.place_of(row_id) if row.id else ""
        if earlier:
            raise RowError(f"the id {row.id!r} is already used at {earlier}")
        question = mapper.question(row)
    except RowError as e:
        _add_error(spool, raw.place, row_id, row, str(e))
        return
    qkey = question_key(question)
    content = content_hash(qkey, row.answer)
    added = spool.add(
        row_id=row_id,
        place=raw.place,
        candidate=row.candidate,
        question=(qkey, question),
        content=content,
        key=row_key(content, fingerprint),
        answer=row.answer,
    )
    if not added:  # a row without an id met a row whose id looks like ours
        _add_error(spool, raw.place, row_id, row, f"the id {row_id!r} is already used")


def _add_error(spool: Spool, place: str, row_id: str, row: Row | None, reason: str) -> None:
    # The first row keeps the id; a later one is told apart by where it stands.
    for name in (row_id, f"{row_id}#{spool.count + 1}"):
        if spool.add(
            row_id=name,
            place=place,
            candidate=row.candidate if row else "",
            question_id=row.question_id[:80] if row else "",
            error=reason,
        ):
            return
