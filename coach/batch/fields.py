"""What a row of answers may say, under whatever names its columns have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from coach.errors import UsageError

FIELDS = ("id", "question_id", "question", "answer", "candidate", "rubric", "reference")
# Column names people give these fields, folded by `_fold`; the field's own name always counts.
ALIASES = {
    "编号": "id",
    "序号": "id",
    "行号": "id",
    "题号": "question_id",
    "题目编号": "question_id",
    "题目id": "question_id",
    "题目": "question",
    "问题": "question",
    "题干": "question",
    "回答": "answer",
    "答案": "answer",
    "作答": "answer",
    "学生答案": "answer",
    "候选人": "candidate",
    "姓名": "candidate",
    "学生": "candidate",
    "学号": "candidate",
    "name": "candidate",
    "student": "candidate",
    "response": "answer",
    "评分标准": "rubric",
    "评分点": "rubric",
    "得分点": "rubric",
    "参考答案": "reference",
    "标准答案": "reference",
    "reference_answer": "reference",
}


class RowError(Exception):
    """One row cannot be graded as it stands; the message is its reason. The run goes on."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A row as read: `place` is `file:line` (or `file#sheet!row`), `error` says why it could not be read."""

    place: str
    values: Mapping[str, Any]
    error: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row in our own words. `rubric` is a list of points or text, as it stood in the file."""

    place: str
    id: str
    answer: str
    question_id: str
    question: str
    candidate: str
    rubric: Any
    reference: str


def parse_map(text: str | None) -> dict[str, str]:
    """`answer=回答,question_id=题号` → {column: field}. UsageError for a field that does not exist."""
    out: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in (text or "").split(","))):
        field, equals, column = (s.strip() for s in part.partition("="))
        if not equals or field not in FIELDS or not column:
            raise UsageError(
                f"--map {part!r} is not FIELD=COLUMN", f"the fields are {', '.join(FIELDS)}; e.g. answer=回答"
            )
        out[column] = field
    return out


def _fold(name: str) -> str:
    return "".join(name.split()).casefold().replace("-", "_")


def assign(columns: Iterable[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """{column: field} for the columns that mean something. UsageError when two columns claim one field."""
    taken: dict[str, str] = {}
    columns = list(columns)
    for column in columns:
        if column in mapping:
            taken[mapping[column]] = column
    for column in columns:
        folded = _fold(column)
        field = folded if folded in FIELDS else ALIASES.get(folded)
        if field is None or column in mapping or field in mapping.values():
            continue
        if field in taken:
            raise UsageError(
                f"the columns {taken[field]!r} and {column!r} could both be the {field}",
                f"say which: --map {field}={column}",
            )
        taken[field] = column
    return {column: field for field, column in taken.items()}


def require(assigned: Mapping[str, str], columns: Iterable[str], place: str, has_question: bool) -> None:
    """UsageError when a table cannot hold answers: no answer column, or nothing that names the question."""
    have = set(assigned.values())
    missing = [] if "answer" in have else ["answer"]
    if not has_question and not have & {"question_id", "question"}:
        missing.append("question_id or question")
    if missing:
        seen = ", ".join(map(repr, list(columns)[:12])) or "none"
        raise UsageError(
            f"{place}: no column for {' and '.join(missing)}; the columns are {seen}",
            "name them: --map answer=回答,question_id=题号",
        )


def text_of(value: Any) -> str:
    """A cell as text: None is empty, 3.0 is 3."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) else str(value)


def row_of(raw: Raw, assigned: Mapping[str, str]) -> Row:
    """RowError when the row is not readable or lacks its answer cell."""
    if raw.error:
        raise RowError(raw.error)
    values = {field: raw.values.get(column) for column, field in assigned.items()}
    answer = values.get("answer")
    if answer is None and "answer" not in values:
        raise RowError("there is no `answer`")
    if isinstance(answer, dict | list | bool):
        raise RowError(f"`answer` is {type(answer).__name__}, not text")
    for field in ("id", "question_id", "question", "candidate", "reference"):
        if isinstance(values.get(field), dict | list):
            raise RowError(f"`{field}` is {type(values[field]).__name__}, not text")
    for field, value in values.items():
        # A lone surrogate cannot be encoded: it would only fail later, in the middle of a write.
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            raise RowError(f"`{field}` has bytes that are no text in this file's encoding")
    return Row(
        place=raw.place,
        id=text_of(values.get("id")).strip(),
        answer=text_of(answer),
        question_id=text_of(values.get("question_id")).strip(),
        question=text_of(values.get("question")).strip(),
        candidate=text_of(values.get("candidate")).strip(),
        rubric=values.get("rubric"),
        reference=text_of(values.get("reference")).strip(),
    )
