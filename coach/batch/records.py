"""Grade → one line of grades.jsonl. `key` says what was graded by whom, `id` which row it belongs to."""

from __future__ import annotations

import json
from typing import Any

from coach.domain import Fingerprint, Grade, Question, Status, Verdict
from coach.grade import EMPTY
from coach.score import credit
from coach.text import sha256

Record = dict[str, Any]


def content_hash(question_key: str, answer: str) -> str:
    """What was asked and answered, whoever grades it: two runs are compared by this."""
    return sha256(f"{question_key}\0{answer}")[:32]


def fingerprint_hash(fingerprint: Fingerprint) -> str:
    return sha256(json.dumps(fingerprint.model_dump(mode="json"), sort_keys=True))[:16]


def row_key(content: str, fingerprint: str) -> str:
    return sha256(f"{content}\0{fingerprint}")[:32]


def error_key(row_id: str, reason: str) -> str:
    return "error-" + sha256(f"{row_id}\0{reason}")[:26]


def _verdict(v: Verdict) -> Record:
    out: Record = {
        "point": v.point_id,
        "status": v.status.value,
        "weight": v.weight,
        "credit": None if v.status is Status.UNJUDGED else round(credit(v), 3),
        "probability": v.probability,
    }
    if v.max_level is not None:
        out |= {"level": v.level, "max_level": v.max_level}
    if v.quote:
        out["quote"] = [v.quote.text, v.quote.start, v.quote.end]
    if v.citation:
        out["citation"] = v.citation.ref
    if v.reason:
        out["reason"] = v.reason
    if v.status is Status.UNJUDGED and v.raw:
        out["raw"] = v.raw
    return out


def grade_record(
    key: str, content: str, question: Question, grade: Grade, fingerprint: Fingerprint
) -> Record:
    """Without `id`, `candidate` and `place`, which are the row's and not the content's."""
    s = grade.score
    return {
        "key": key,
        "content": content,
        "question_id": question.id,
        "status": grade.status,
        "score": s.value if s else None,
        "interval": [s.low, s.high] if s else None,
        "verdicts": [_verdict(v) for v in grade.verdicts],
        "pitfalls": [
            {
                "pitfall": h.pitfall_id,
                "penalty": h.penalty,
                "probability": h.probability,
                "quote": h.quote.text,
            }
            for h in grade.pitfalls
        ],
        "follow_ups": [grade.follow_up.ask] if grade.follow_up else [],
        "flags": [f.model_dump() for f in grade.flags],
        "usage": grade.usage.model_dump(),
        "fingerprint": (grade.fingerprint or fingerprint).model_dump(mode="json"),
        "note": grade.note,
        "error": None,
        # A reply that could not be read says nothing about the answer: the next run asks again.
        "retry": grade.status == "unjudged" and grade.note != EMPTY,
    }


def error_record(
    key: str, question_id: str, reason: str, *, content: str = "", retry: bool = False
) -> Record:
    return {
        "key": key,
        "content": content,
        "question_id": question_id,
        "status": "error",
        "score": None,
        "interval": None,
        "verdicts": [],
        "pitfalls": [],
        "follow_ups": [],
        "flags": [],
        "usage": None,
        "fingerprint": None,
        "note": "",
        "error": reason,
        "retry": retry,
    }


def for_row(record: Record, row_id: str, place: str, candidate: str, same_as: str = "") -> Record:
    """The record as this row's; `same_as` names the row whose identical answer was graded."""
    out = {"key": record["key"], "id": row_id, "place": place, "candidate": candidate, **record}
    out |= {"id": row_id, "place": place, "candidate": candidate}
    out.pop("same_as", None)
    if same_as:
        out["same_as"] = same_as
        out["usage"] = None
    return out


def encode(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode("utf8") + b"\n"
