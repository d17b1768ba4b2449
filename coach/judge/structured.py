"""Structured judge for strong endpoints: one call for all points, JSON by schema, quotes checked by code.

A reply that cannot be read gets one repair attempt that carries the error; after that every point is `unjudged`
with the raw text kept. A verdict whose quote is not in the answer is downgraded, whatever the model says. Findings that
are likely to differ from one reading to the next are read again and voted on: `coach.judge.votes`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coach.config import Settings
from coach.domain import Pitfall, PitfallHit, Point, Quote, Status, Usage, Verdict
from coach.judge.base import Case, Judgement, OnVerdict
from coach.judge.votes import ballot, decide, doubtful, held, settled
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


def parse_reply(
    text: str,
    point_ids: list[str],
    pitfall_ids: list[str],
    known_points: list[str] | None = None,
    known_pitfalls: list[str] | None = None,
) -> _Reply:
    """ValueError with a message that a model can act on. Takes the last JSON object that has `points`.

    Every point asked for must be there; `known_…`: ids that may be there besides those asked for.
    """
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
    for what, rows, wanted, known in (
        ("points", reply.points, point_ids, known_points or point_ids),
        ("pitfalls", reply.pitfalls, pitfall_ids, known_pitfalls or pitfall_ids),
    ):
        ids = [r.id for r in rows]
        if len(set(ids)) != len(ids):
            raise ValueError(f"`{what}` names an id twice")
        if what == "points" and set(wanted) - set(ids):
            raise ValueError(f"`points` lacks: {', '.join(sorted(set(wanted) - set(ids)))}")
        if unknown := set(ids) - set(known):
            raise ValueError(f"`{what}` has unknown ids: {', '.join(sorted(unknown))}")
    return reply


@dataclass(slots=True)
class _Votes:
    """The readings so far of every point and pitfall, by id."""

    points: dict[str, list[Verdict]]
    pitfalls: dict[str, list[PitfallHit | None]]


class StructuredJudge:
    name = "structured"

    def __init__(self, settings: Settings, llm: LLM) -> None:
        self._llm = llm
        self._votes = settings.votes
        self._prompt = load_prompt(settings.prompts, "judge-structured")
        self._repair = load_prompt(settings.prompts, "repair-json")
        self.model = llm.name
        self.prompts = {p.name: p.content_hash for p in (self._prompt, self._repair)}
        self.calibration = f"votes-{self._votes}" if self._votes > 1 else "none"

    def prepare(self, question: str) -> None:
        pass

    def judge(self, case: Case, on_verdict: OnVerdict | None = None) -> Judgement:
        reply, raw, usage, error = self._ask(case)
        if reply is None:
            verdicts = [_unjudged(p, error, raw) for p in case.points]
            return Judgement(tuple(verdicts), (), usage)
        votes = _Votes({p.id: [] for p in case.points}, {p.id: [] for p in case.pitfalls})
        again = _count(votes, reply, case)
        for n in range(2, self._votes + 1):
            again = _still_open(votes, again, self._votes)
            if not again:
                break
            reply, _, more, _ = self._ask(_reading(case, again, n), known=case)
            usage += more
            if reply is not None:
                _count(votes, reply, case)
        verdicts = []
        for point in case.points:
            verdicts.append(decide(votes.points[point.id]))
            if on_verdict:
                on_verdict(verdicts[-1], len(verdicts), len(case.points))
        hits = [hit for p in case.pitfalls if (hit := held(votes.pitfalls[p.id]))]
        return Judgement(tuple(verdicts), tuple(hits), usage)

    def _ask(self, case: Case, known: Case | None = None) -> tuple[_Reply | None, str, Usage, str]:
        """`known`: a reply may also speak of what else this case holds; it is not counted."""
        schema = _schema()
        messages = self._prompt.fill(
            question=neutralise(case.question),
            answer=neutralise(case.judged.strip()),
            points="\n".join(_describe(p) for p in case.points) or "(none)",
            pitfalls="\n".join(f"- {p.id}: {p.claim}" for p in case.pitfalls) or "(none)",
            passages="\n\n".join(neutralise(p.chunk.text[:_PASSAGE_CHARS]) for p in case.passages[:4])
            or "(none)",
            schema=json.dumps(schema, ensure_ascii=False),
        )
        usage = Usage()
        raw, error = "", ""
        for _ in range(2):
            reply = self._llm.chat(messages, max_tokens=_MAX_TOKENS, schema=schema)
            usage += reply.usage
            raw = reply.text
            try:
                return _asked(parse_reply(raw, *_ids(case), *_ids(known or case)), case), raw, usage, ""
            except ValueError as e:
                error = "the reply was cut off" if reply.finish_reason == "length" else str(e)
                messages = [*messages, {"role": "assistant", "content": raw}, *self._repair.fill(error=error)]
        return None, raw, usage, error


def _ids(case: Case) -> tuple[list[str], list[str]]:
    return [p.id for p in case.points], [p.id for p in case.pitfalls]


def _asked(reply: _Reply, case: Case) -> _Reply:
    """The reply without what was not asked."""
    points, pitfalls = _ids(case)
    return _Reply(
        points=[r for r in reply.points if r.id in points],
        pitfalls=[r for r in reply.pitfalls if r.id in pitfalls],
    )


def _count(votes: _Votes, reply: _Reply, case: Case) -> set[str]:
    """Add a reading; returns the ids of the points and pitfalls that it leaves in doubt.

    An asserted misconception always is: it costs points, so one reading is not enough for it.
    """
    points, pitfalls = {p.id: p for p in case.points}, {p.id: p for p in case.pitfalls}
    unsure = set()
    for row in reply.points:
        verdict = _verdict(points[row.id], row, case)
        votes.points[row.id].append(verdict)
        unquoted = verdict.quote is None and row.status != "missing"
        if unquoted or doubtful(verdict, row.confidence):
            unsure.add(row.id)
    for row in reply.pitfalls:
        hit = _hit(pitfalls[row.id], row, case)
        votes.pitfalls[row.id].append(hit)
        if hit:
            unsure.add(row.id)
    return unsure


def _still_open(votes: _Votes, ids: set[str], of: int) -> set[str]:
    ballots: dict[str, list[object]] = {i: [ballot(v) for v in votes.points.get(i, [])] for i in ids}
    for i in ids & votes.pitfalls.keys():
        ballots[i] = [hit is not None for hit in votes.pitfalls[i]]
    return {i for i in ids if not settled(ballots[i], of)}


def _reading(case: Case, ids: set[str], n: int) -> Case:
    """Only what is in doubt: the second time in reversed order, the third time without the notes."""
    step = -1 if n == 2 else 1
    return replace(
        case,
        points=tuple(p for p in case.points if p.id in ids)[::step],
        pitfalls=tuple(p for p in case.pitfalls if p.id in ids)[::step],
        passages=case.passages if n == 2 else (),
    )


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
