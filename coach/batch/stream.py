"""Rows from a pipe to a pipe: records come out as answers are graded; nothing is stored, nothing can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from coach.batch.engine import Engine, Result, grade_row
from coach.batch.fields import Raw, RowError
from coach.batch.plan import Mapper
from coach.batch.pool import Threads
from coach.batch.questions import question_key
from coach.batch.records import (
    Record,
    content_hash,
    error_key,
    error_record,
    fingerprint_hash,
    for_row,
    row_key,
)
from coach.batch.spool import Entry
from coach.domain import Question

_Task = tuple[Entry, Question | None]


def stream(
    rows: Iterable[Raw],
    mapper: Mapper,
    engine: Engine,
    interrupted: Callable[[], bool] = lambda: False,
    limit: int | None = None,
) -> Iterator[Record]:
    """One record per row, in the order of finishing. Raises the CoachError that no row could survive."""
    fingerprint = fingerprint_hash(engine.fingerprint)
    lost = 0

    def tasks() -> Iterator[_Task]:
        for n, raw in enumerate(rows, 1):
            if limit is not None and n > limit:
                return
            yield _task(n, raw, mapper, fingerprint)

    def work(task: _Task) -> Result:
        entry, question = task
        if question is None:
            return Result(error_record(entry.key, entry.question_id, entry.error))
        return grade_row(engine, entry, question)

    pool: Threads[_Task, Result] = Threads(work, engine.jobs)

    def idle() -> None:
        if interrupted():
            pool.stop()
            if engine.llm:
                engine.llm.throttle.stop()

    def ready() -> bool:
        idle()
        return not interrupted()

    try:
        for (entry, _), result in pool.run(tasks(), ready, idle):
            if result.record is not None:
                yield for_row(result.record, entry.id, entry.place, entry.candidate)
            lost = lost + 1 if result.unreachable else 0
            if result.fatal:
                raise result.fatal
            if lost >= max(5, engine.jobs):
                return
    finally:
        pool.close()


def _task(n: int, raw: Raw, mapper: Mapper, fingerprint: str) -> _Task:
    row_id, candidate, question_id = f"row-{n}", "", ""
    try:
        row = mapper.row(raw)
        row_id, candidate, question_id = row.id or row_id, row.candidate, row.question_id[:80]
        question = mapper.question(row)
    except RowError as e:
        key = error_key(row_id, str(e))
        return Entry(n, row_id, raw.place, candidate, "", question_id, "", key, "", str(e)), None
    qkey = question_key(question)
    content = content_hash(qkey, row.answer)
    key = row_key(content, fingerprint)
    return Entry(n, row_id, raw.place, candidate, qkey, question.id, content, key, row.answer, ""), question
