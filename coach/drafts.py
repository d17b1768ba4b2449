"""Bank questions drafted from imported notes: usable at once, labelled, and the person's to accept, edit or reject.

The LLM proposes points; code keeps a point only when its quote really stands in the note, and cites that line. Without
a usable reply the answer's own sentences become the points. Drafts live in `COACH_HOME/drafts/<set>.json`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from coach.bank import Bank
from coach.config import Settings
from coach.domain import Citation, Point, Question, Text, Value
from coach.errors import BankError, LLMError, UsageError
from coach.llm import LLM
from coach.notes.marks import fold
from coach.notes.model import Unit
from coach.notes.sets import Result
from coach.prompts import load_prompt
from coach.text import locate, neutralise, sentences, sha256

DRAFT_PREFIX = "draft-"
_MAX_POINTS = 6
_MIN_POINT, _MAX_POINT = 8, 90
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "points": {
            "type": "array",
            "maxItems": _MAX_POINTS,
            "items": {
                "type": "object",
                "properties": {
                    "point": {"type": "string"},
                    "quote": {"type": "string"},
                    "weight": {"type": "integer", "minimum": 1, "maximum": 3},
                },
                "required": ["point", "quote"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["points"],
    "additionalProperties": False,
}
Decision = Literal["draft", "accepted", "rejected"]


class DraftPoint(Value):
    """A point and the imported line it rests on."""

    text: Text
    weight: int = Field(default=1, ge=1, le=10)
    citation: Citation


class Draft(Value):
    """`made_by` is the model's name, or `sentences` when no model could be used. `points` may be empty: no answer."""

    id: str
    question: Text
    source: str
    status: Decision = "draft"
    made_by: str
    points: tuple[DraftPoint, ...] = ()

    def as_question(self) -> Question:
        """As a bank question of topic `imported` once accepted, else `draft`; UsageError when it has no points."""
        if not self.points:
            raise UsageError(
                f"{self.id} has no points yet", "coach bank review: edit it, or add an answer to the note"
            )
        return Question(
            id=self.id,
            question=self.question,
            kind="concept",
            topic="imported" if self.status == "accepted" else "draft",
            rubric=tuple(
                Point(id=f"p{i}", point=p.text, weight=p.weight) for i, p in enumerate(self.points, 1)
            ),
            reference="\n".join(p.text for p in self.points),
        )


def draft_id(question: str) -> str:
    return f"{DRAFT_PREFIX}{sha256(fold(question))[:10]}"


def unmatched(result: Result) -> list[tuple[Unit, str]]:
    """(unit, source name) of questions without a bank question near them; those with an answer come first."""
    found = [
        (u, s.name)
        for s in result.sources
        for u in s.units
        if u.kind == "question" and not u.bank and len(u.question) >= 4
    ]
    return sorted(found, key=lambda row: row[0].answer in ("none", "image_only", "outline"))


def draft(settings: Settings, llm: LLM | None, unit: Unit, file: str) -> Draft:
    """One draft. Never raises for a bad reply; raises LLMError only when the endpoint cannot be used at all."""
    made_by = "sentences"
    points: tuple[DraftPoint, ...] = ()
    answered = unit.answer in ("full", "partial", "truncated")
    if answered and llm is not None:
        prompt = load_prompt(settings.prompts, "draft-rubric")
        messages = prompt.fill(question=neutralise(unit.question), passage=neutralise(unit.text[:2400]))
        reply = llm.chat(messages, max_tokens=900, schema=_SCHEMA)
        points = _points(reply.text, unit, file)
        made_by = llm.name if points else "sentences"
    if answered and not points:
        points = _sentences(unit, file)
    return Draft(
        id=draft_id(unit.question),
        question=unit.question,
        source=f"{file}:{unit.question_line}",
        made_by=made_by,
        points=points,
    )


def _cited(quote: str, unit: Unit, file: str) -> Citation | None:
    """The lines on which `quote` stands in the answer; None when it does not."""
    span = locate(quote, unit.text) if len(fold(quote)) >= 4 else None
    if span is None:
        return None
    first = unit.first_line + unit.text.count("\n", 0, span.start)
    last = unit.first_line + unit.text.count("\n", 0, max(span.start, span.end - 1))
    return Citation(file=file, first_line=first, last_line=last, heading=unit.question, trust="imported")


def _points(raw: str, unit: Unit, file: str) -> tuple[DraftPoint, ...]:
    match = re.search(r"\{.*\}", raw, re.S)
    try:
        rows = json.loads(match.group())["points"] if match else []
    except (ValueError, KeyError, TypeError):
        return ()
    out: list[DraftPoint] = []
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict):
            continue
        text, citation = str(row.get("point") or "").strip(), _cited(str(row.get("quote") or ""), unit, file)
        if citation is None or not _MIN_POINT <= len(text) <= _MAX_POINT or any(p.text == text for p in out):
            continue
        weight = row.get("weight")
        out.append(
            DraftPoint(
                text=text,
                weight=weight if isinstance(weight, int) and 1 <= weight <= 3 else 1,
                citation=citation,
            )
        )
    return tuple(out[:_MAX_POINTS])


def _sentences(unit: Unit, file: str) -> tuple[DraftPoint, ...]:
    found = []
    for i, line in enumerate(unit.lines):
        for s in sentences(line):
            if (
                _MIN_POINT <= len(s.text) <= _MAX_POINT
                and re.search(r"[\u4e00-\u9fff]{4}", s.text)
                and not s.text.endswith(("？", "?", "：", ":"))
            ):
                n = unit.first_line + i
                found.append(
                    DraftPoint(
                        text=s.text,
                        citation=Citation(
                            file=file, first_line=n, last_line=n, heading=unit.question, trust="imported"
                        ),
                    )
                )
    return tuple(sorted(found, key=lambda p: -len(p.text))[:_MAX_POINTS])


# ── the file of drafts ───────────────────────────────────────────────────────────────────────────
def drafts_file(home: Path, name: str) -> Path:
    return home / "drafts" / f"{name}.json"


def load_drafts(path: Path) -> dict[str, Draft]:
    """By id, in order; {} when there is no file. BankError when it is damaged."""
    if not path.is_file():
        return {}
    try:
        return {
            d.id: d
            for d in (Draft.model_validate(row) for row in json.loads(path.read_text(encoding="utf8")))
        }
    except (ValueError, ValidationError, TypeError) as e:
        raise BankError(f"{path}: damaged drafts: {e}", "delete the file and draft again") from e


def with_drafts(bank: Bank, home: Path) -> Bank:
    """The bank and every draft of any note set that can be graded and was neither accepted nor rejected."""
    questions, places = {q.id: q for q in bank}, dict(bank.places)
    for path in sorted((home / "drafts").glob("*.json")):
        for made in load_drafts(path).values():
            if made.status == "draft" and made.points and made.id not in questions:
                questions[made.id], places[made.id] = made.as_question(), path.name
    return Bank(questions, places)


def save_drafts(path: Path, drafts: Iterable[Draft]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(
        json.dumps([d.model_dump(mode="json") for d in drafts], ensure_ascii=False, indent=1), encoding="utf8"
    )
    temporary.replace(path)


def draft_all(
    settings: Settings,
    llm: LLM | None,
    result: Result,
    *,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, Draft], int]:
    """(all drafts of the set, how many are new). Saved after each: what was drafted before is never drafted again.

    When the endpoint fails the drafts made so far are kept and the LLMError goes on to the caller.
    """
    path = drafts_file(settings.home, result.name)
    known = load_drafts(path)
    todo = [(u, n) for u, n in unmatched(result) if draft_id(u.question) not in known][:limit]
    made = 0
    for unit, name in todo:
        try:
            new = draft(settings, llm, unit, f"{result.name}/{name}")
        except LLMError:
            save_drafts(path, known.values())
            raise
        if new.id not in known:
            made += 1
        known[new.id] = new
        save_drafts(path, known.values())
        if progress:
            progress(made, len(todo))
    return known, made


def write_bank(home: Path, name: str, drafts: Iterable[Draft]) -> tuple[Path, int]:
    """(file, number of questions): accepted drafts as a bank file. Imported points have no curated source to cite."""
    import yaml

    path = home / "bank" / f"{name}.yaml"
    accepted = [d for d in drafts if d.status == "accepted"]
    rows = [d.as_question().model_dump(mode="json", exclude_defaults=True) for d in accepted]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not rows:
        path.unlink(missing_ok=True)
        return path, 0
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(
        yaml.safe_dump(rows, allow_unicode=True, sort_keys=False, width=110), encoding="utf8"
    )
    temporary.replace(path)
    return path, len(rows)
