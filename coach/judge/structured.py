"""Structured judge for strong endpoints: one call for all points, JSON by schema, quotes checked by code.

A reply that cannot be read gets one repair attempt that carries the error; after that every point is `unjudged`
with the raw text kept. A verdict whose quote is not in the answer is downgraded, whatever the model says.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coach.config import Settings
from coach.domain import Pitfall, PitfallHit, Point, Quote, Status, Usage, Verdict
from coach.judge.base import Case, Judgement, OnVerdict
from coach.llm import LLM
from coach.prompts import load_prompt
from coach.text import locate, neutralise

_MAX_TOKENS = 3000
_PASSAGE_CHARS = 600


class _Row(BaseModel):
    """Verdict first, then its evidence: what is decided is not talked into by its own explanation."""

    model_config = ConfigDict(extra="forbid")

    id: str
    status: Literal["covered", "partial", "missing", "contradicted"]
    level: int | None = None
    quote: str = ""
    reason: str = ""
    confidence: float = Field(default=0.9, ge=0, le=1)


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid")

    points: list[_Row]
    pitfalls: list[_Row] = []


def _schema() -> dict[str, Any]:
    """JSON schema in the strict form: every property required, references resolved."""
    row = {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "status": {"type": "string", "enum": ["covered", "partial", "missing", "contradicted"]},
            "level": {"type": ["integer", "null"]},
            "quote": {"type": "string"},
            "reason": {"type": "string"},
            "confidence": {"type": "number"},
        },
        "required": ["id", "status", "level", "quote", "reason", "confidence"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            "points": {"type": "array", "items": row},
            "pitfalls": {"type": "array", "items": row},
        },
        "required": ["points", "pitfalls"],
        "additionalProperties": False,
    }


def parse_reply(text: str, point_ids: list[str], pitfall_ids: list[str]) -> _Reply:
    """ValueError with a message that a model can act on. Takes the last JSON object that has `points`."""
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.S)
    decoder = json.JSONDecoder()
    found: dict[str, Any] | None = None
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError:
            at = text.find("{", at + 1)
            continue
        if isinstance(value, dict) and "points" in value:
            found = value
        at = text.find("{", end)
    if found is None:
        raise ValueError("no complete JSON object with the key `points`")
    try:
        reply = _Reply.model_validate(found)
    except ValidationError as e:
        first = e.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from e
    for what, rows, wanted in (
        ("points", reply.points, point_ids),
        ("pitfalls", reply.pitfalls, pitfall_ids),
    ):
        ids = [r.id for r in rows]
        if len(set(ids)) != len(ids):
            raise ValueError(f"`{what}` names an id twice")
        if what == "points" and set(wanted) - set(ids):
            raise ValueError(f"`points` lacks: {', '.join(sorted(set(wanted) - set(ids)))}")
        if set(ids) - set(wanted):
            raise ValueError(f"`{what}` has unknown ids: {', '.join(sorted(set(ids) - set(wanted)))}")
    return reply


class StructuredJudge:
    name = "structured"
    calibration = "none"

    def __init__(self, settings: Settings, llm: LLM) -> None:
        self._llm = llm
        self._prompt = load_prompt(settings.prompts, "judge-structured")
        self._repair = load_prompt(settings.prompts, "repair-json")
        self.model = llm.name
        self.prompts = {p.name: p.content_hash for p in (self._prompt, self._repair)}

    def prepare(self, question: str) -> None:
        pass

    def judge(self, case: Case, on_verdict: OnVerdict | None = None) -> Judgement:
        reply, raw, usage, error = self._ask(case)
        if reply is None:
            verdicts = [_unjudged(p, error, raw) for p in case.points]
            return Judgement(tuple(verdicts), (), usage)
        rows = {r.id: r for r in reply.points}
        verdicts = []
        for point in case.points:
            verdicts.append(_verdict(point, rows[point.id], case))
            if on_verdict:
                on_verdict(verdicts[-1], len(verdicts), len(case.points))
        pitfalls = {p.id: p for p in case.pitfalls}
        hits = [hit for row in reply.pitfalls if (hit := _hit(pitfalls[row.id], row, case))]
        return Judgement(tuple(verdicts), tuple(hits), usage)

    def _ask(self, case: Case) -> tuple[_Reply | None, str, Usage, str]:
        schema = _schema()
        messages = self._prompt.fill(
            question=neutralise(case.question),
            answer=neutralise(case.judged.strip()),
            points="\n".join(_describe(p) for p in case.points),
            pitfalls="\n".join(f"- {p.id}: {p.claim}" for p in case.pitfalls) or "(none)",
            passages="\n\n".join(neutralise(p.chunk.text[:_PASSAGE_CHARS]) for p in case.passages[:4])
            or "(none)",
            schema=json.dumps(schema, ensure_ascii=False),
        )
        point_ids = [p.id for p in case.points]
        pitfall_ids = [p.id for p in case.pitfalls]
        usage = Usage()
        raw, error = "", ""
        for _ in range(2):
            reply = self._llm.chat(messages, max_tokens=_MAX_TOKENS, schema=schema)
            usage += reply.usage
            raw = reply.text
            try:
                return parse_reply(raw, point_ids, pitfall_ids), raw, usage, ""
            except ValueError as e:
                error = "the reply was cut off" if reply.finish_reason == "length" else str(e)
                messages = [*messages, {"role": "assistant", "content": raw}, *self._repair.fill(error=error)]
        return None, raw, usage, error


def _describe(point: Point) -> str:
    if point.levels is None:
        return f"- {point.id}: {point.text}"
    levels = "; ".join(f"{n} = {text}" for n, text in sorted(point.levels.items()))
    return f"- {point.id} (levels): {point.text} — {levels}"


def _unjudged(point: Point, error: str, raw: str) -> Verdict:
    return Verdict(
        point_id=point.id,
        text=point.text,
        weight=point.weight,
        status=Status.UNJUDGED,
        max_level=max(point.levels) if point.levels else None,
        reason=f"评分模型的回复无法读取：{error}",
        raw=raw[:4000],
    )


def _quote(text: str, case: Case) -> Quote | None:
    span = locate(text, case.judged) if text.strip() else None
    return Quote(text=case.answer[span.start : span.end], start=span.start, end=span.end) if span else None


_DOWNGRADE = {
    Status.COVERED: Status.PARTIAL,
    Status.PARTIAL: Status.MISSING,
    Status.CONTRADICTED: Status.MISSING,
}


def _verdict(point: Point, row: _Row, case: Case) -> Verdict:
    status = Status(row.status)
    quote = _quote(row.quote, case)
    reason = row.reason
    if quote is None and status is not Status.MISSING:
        status = _DOWNGRADE[status]
        reason = f"引文不在回答中，已降级。{reason}"
    level = top = None
    if point.levels:
        top = max(point.levels)
        level = min(
            max(row.level if row.level is not None else {"covered": top, "partial": 1}.get(row.status, 0), 0),
            top,
        )
        if quote is None:
            level = max(0, level - 1)
        status = Status.COVERED if level == top else Status.MISSING if level == 0 else Status.PARTIAL
    sure = row.confidence
    probability = {Status.COVERED: sure, Status.PARTIAL: 0.5}.get(status, 1 - sure)
    return Verdict(
        point_id=point.id,
        text=point.text,
        weight=point.weight,
        status=status,
        probability=round(probability, 4),
        level=level,
        max_level=top,
        quote=quote,
        reason=reason[:200],
    )


def _hit(pitfall: Pitfall, row: _Row, case: Case) -> PitfallHit | None:
    """Asserting a pitfall needs its own evidence: without a quote that is really there, nothing is held against it."""
    quote = _quote(row.quote, case)
    if row.status != "covered" or quote is None:
        return None
    return PitfallHit(
        pitfall_id=pitfall.id,
        claim=pitfall.claim,
        correction=pitfall.correction,
        penalty=pitfall.penalty,
        probability=row.confidence,
        quote=quote,
    )
