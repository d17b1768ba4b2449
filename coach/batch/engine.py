"""What grades one row, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from coach.batch.pacing import PacedLLM, Stopped, Waiting
from coach.batch.records import Record, error_record, grade_record
from coach.batch.spool import Entry
from coach.domain import Fingerprint, Grade, Question, Usage
from coach.errors import CoachError, LLMError, LLMRejected, UsageError

_FATAL = (401, 403, 404)


@dataclass(frozen=True, slots=True)
class Engine:
    """What grades: `grade` may be called from `jobs` threads. `llm` paces and counts; None when nothing is paced."""

    grade: Callable[[Question, str], Grade]
    fingerprint: Fingerprint
    jobs: int = 1
    llm: PacedLLM | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a worker made of one row. `fatal` ends the run, `unreachable` counts towards giving up."""

    record: Record | None
    fatal: CoachError | None = None
    unreachable: bool = False


def grade_row(engine: Engine, entry: Entry, question: Question) -> Result:
    """Never raises for what one answer or the endpoint can do; a defect of ours becomes an error row, not a crash."""
    try:
        grade = engine.grade(question, entry.answer)
    except (Stopped, Waiting):
        return Result(None)
    except LLMRejected as e:
        fatal = e if e.status in _FATAL else None
        return Result(failed(entry, e.message), fatal=fatal)
    except LLMError as e:
        return Result(failed(entry, e.message), unreachable=True)
    except UsageError as e:
        return Result(failed(entry, e.message, retry=False))
    except CoachError as e:
        return Result(None, fatal=e)
    except Exception as e:
        return Result(failed(entry, f"internal error: {type(e).__name__}: {e}"[:500]))
    return Result(grade_record(entry.key, entry.content, question, grade, engine.fingerprint))


def failed(entry: Entry, reason: str, retry: bool = True) -> Record:
    return error_record(entry.key, entry.question_id, reason, content=entry.content, retry=retry)


def cost_of(usage: Usage, price_in: float | None, price_out: float | None) -> float | None:
    """Currency units; None when no price is known."""
    if price_in is None and price_out is None:
        return None
    return (usage.prompt_tokens * (price_in or 0) + usage.completion_tokens * (price_out or 0)) / 1e6
