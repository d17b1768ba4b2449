"""Human-scored answers of anyone's making: a CSV or JSONL file whose fields are named on the command line.

Nothing of such sets is shipped. A reference answer becomes one point per sentence; a rubric column holds a JSON
list of points (or of plain strings), or one point a line.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from coach.domain import Point, Question
from coach.errors import UsageError
from coach.evals.cases import EvalCase, EvalSet
from coach.rubric import points_from_reference, question_from
from coach.text import sha256


@dataclass(frozen=True, slots=True)
class Fields:
    """Column names of the file. Exactly one of `reference` and `rubric` is set."""

    question: str
    answer: str
    score: str
    reference: str | None = None
    rubric: str | None = None
    id: str | None = None


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, row) of a .csv, .tsv or .jsonl file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as e:
        raise UsageError(f"{path}: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise UsageError(f"{path}: not UTF-8 (byte {e.start})", "save the file as UTF-8") from e
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as e:
                    raise UsageError(f"{path}:{number}: not JSON: {e.msg}") from e
                if not isinstance(row, dict):
                    raise UsageError(f"{path}:{number}: expected an object")
                yield number, row
    elif path.suffix.lower() in (".csv", ".tsv"):
        reader = csv.DictReader(
            text.splitlines(keepends=True), delimiter="\t" if path.suffix.lower() == ".tsv" else ","
        )
        for row in reader:
            yield reader.line_num, dict(row)
    else:
        raise UsageError(f"{path}: unknown format", "give a .csv, .tsv or .jsonl file")


def _field(row: dict[str, Any], name: str, where: str) -> Any:
    if name not in row or row[name] is None:
        raise UsageError(f"{where}: no field {name!r}", f"fields here: {', '.join(map(str, row))}")
    return row[name]


def _points(value: Any, where: str) -> tuple[Point, ...]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = [line.strip() for line in value.splitlines() if line.strip()]
    if not isinstance(value, list) or not value:
        raise UsageError(f"{where}: the rubric must be a JSON list of points, or one point a line")
    try:
        return tuple(
            Point.model_validate({"id": f"p{i}", "point": p} if isinstance(p, str) else {"id": f"p{i}", **p})
            for i, p in enumerate(value, 1)
        )
    except (ValidationError, TypeError) as e:
        raise UsageError(f"{where}: not a rubric: {e}") from e


def load_external(path: Path, fields: Fields, max_score: float) -> EvalSet:
    """Cases with the human score scaled to 0–100. UsageError names the line of the first row that cannot be used.

    Rows with one question text and one reference are answers to one question.
    """
    if (fields.reference is None) == (fields.rubric is None):
        raise UsageError("give exactly one of --reference and --rubric")
    if max_score <= 0:
        raise UsageError("--max-score must be positive")
    questions: dict[str, Question] = {}
    cases: dict[str, EvalCase] = {}
    for number, row in _rows(path):
        where = f"{path}:{number}"
        text, answer = (
            str(_field(row, fields.question, where)).strip(),
            str(_field(row, fields.answer, where)),
        )
        raw = _field(row, fields.score, where)
        try:
            human = float(raw)
        except (TypeError, ValueError) as e:
            raise UsageError(f"{where}: the score {raw!r} is no number") from e
        if not 0 <= human <= max_score:
            raise UsageError(f"{where}: the score {human:g} is outside 0–{max_score:g}", "see --max-score")
        basis = _field(row, fields.reference or fields.rubric or "", where)
        question_id = "ext-" + sha256(json.dumps([text, basis], ensure_ascii=False))[:10]
        if question_id not in questions:
            reference = str(basis) if fields.reference else ""
            try:
                points = points_from_reference(reference) if fields.reference else _points(basis, where)
                made = question_from(text, points, reference)
            except (UsageError, ValidationError) as e:
                raise UsageError(f"{where}: {e}") from e
            questions[question_id] = made.model_copy(update={"id": question_id})
        case_id = str(row[fields.id]) if fields.id and row.get(fields.id) is not None else f"row-{number}"
        if case_id in cases:
            raise UsageError(f"{where}: id {case_id!r} is used twice")
        cases[case_id] = EvalCase(
            id=case_id,
            question_id=question_id,
            tier="external",
            answer=answer,
            gold=100 * human / max_score,
            suite="external",
        )
    if not cases:
        raise UsageError(f"{path} holds no rows")
    return EvalSet("external", tuple(cases.values()), questions)
