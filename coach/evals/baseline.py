"""What is kept of a run: the snapshot a comparison needs, the blessed baseline file, scores computed again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from coach.domain import Flag, Question, Status, Usage, Verdict
from coach.errors import UsageError
from coach.evals.cases import EvalCase, EvalSet, gold_score
from coach.evals.measure import Measurement
from coach.evals.store import Meta, Record, Run, write_atomic
from coach.evals.tables import GRADER, PointCall, Prediction, Predictions, Tables, systems
from coach.score import CREDIT, score
from coach.text import sha256

FORMAT = 1
_LETTER = {"covered": "c", "partial": "p", "missing": "m", "contradicted": "x", "unjudged": "u"}
_STATUS = {letter: status for status, letter in _LETTER.items()}
_CREDIT = {status.value: credit for status, credit in CREDIT.items()}
_FLAG = Flag(kind="injection", quote="(not kept in a baseline)")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a comparison needs of a run: who graded, and the grader's prediction for every case by content hash."""

    meta: Meta
    predictions: Predictions
    contents: Mapping[str, str]

    def on(self, cases: EvalSet) -> Tables:
        """These predictions as tables over `cases`; a case whose text, labels or rubric changed does not count."""
        same = {c.id for c in cases.cases if self.contents.get(c.id) == content(cases, c)}
        return Tables(cases, {key: p for key, p in self.predictions.items() if key[0] in same})


def content(cases: EvalSet, case: EvalCase) -> str:
    return sha256(case.model_dump_json() + cases.question_for(case).model_dump_json())[:10]


def snapshot(run: Run) -> Snapshot:
    cases = run.cases
    return Snapshot(
        run.meta,
        systems(run.records().values(), {})[GRADER],
        {c.id: content(cases, c) for c in cases.cases},
    )


def _packed(call: PointCall) -> list[Any]:
    """[status, probability], and the credit where the status alone does not say it."""
    p = None if call.probability is None else round(call.probability, 4)
    if call.credit == _CREDIT.get(call.status):
        return [_LETTER[call.status], p]
    return [_LETTER[call.status], p, call.credit]


def _unpacked(packed: list[Any]) -> PointCall:
    letter, p, *credit = packed
    status = _STATUS[letter]
    return PointCall(status, credit[0] if credit else _CREDIT.get(status), p)


# ── bless ────────────────────────────────────────────────────────────────────────────────────────
def bless(path: Path, run: Run, measured: Measurement) -> None:
    """Write the baseline: metrics with intervals, and every prediction in a compact row. UsageError when unfinished."""
    if measured.counts["missing"]:
        raise UsageError(
            f"{run.meta.name} lacks {measured.counts['missing']} items",
            "finish it: run the same command again",
        )
    kept = snapshot(run)
    rows = {}
    for (case_id, repeat), p in sorted(kept.predictions.items()):
        points = {i: _packed(c) for i, c in p.points.items()}
        rows[f"{case_id}@{repeat}"] = [
            kept.contents[case_id],
            p.score,
            p.low,
            p.high,
            points,
            sorted(p.hits),
            int(bool(p.flags)),
            round(p.usage.seconds, 2),
        ]
    head = {
        "format": FORMAT,
        "meta": run.meta.model_dump(mode="json"),
        "counts": measured.counts,
        "metrics": {s: {m: asdict(e) for m, e in row.items()} for s, row in measured.metrics.items()},
    }
    # One item a line: a new baseline is then a readable diff.
    lines = [
        f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False, separators=(',', ':'))}"
        for k, v in rows.items()
    ]
    body = (
        json.dumps(head, ensure_ascii=False, indent=1)[:-2]
        + ',\n "items": {\n'
        + ",\n".join(lines)
        + "\n}}\n"
    )
    write_atomic(path, body)


def read_baseline(path: Path) -> Snapshot:
    try:
        data = json.loads(path.read_text(encoding="utf8"))
        if data["format"] != FORMAT:
            raise UsageError(
                f"{path}: format {data['format']}, this version reads {FORMAT}", "bless a run again"
            )
        predictions, contents = {}, {}
        for name, row in data["items"].items():
            case_id, _, repeat = name.rpartition("@")
            digest, score, low, high, points, hits, flagged, seconds = row
            contents[case_id] = digest
            predictions[case_id, int(repeat)] = Prediction(
                score=score,
                low=low,
                high=high,
                points={i: _unpacked(call) for i, call in points.items()},
                hits=frozenset(hits),
                flags=(_FLAG,) * flagged,
                usage=Usage(seconds=seconds),
            )
        return Snapshot(Meta.model_validate(data["meta"]), predictions, contents)
    except FileNotFoundError as e:
        raise UsageError(f"no baseline at {path}", "make one with: coach eval bless RUN") from e
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, ValidationError) as e:
        raise UsageError(f"{path}: not a baseline: {e}", "make one with: coach eval bless RUN") from e


def _reweighted(old: Question, now: Question | None) -> Question:
    """The question as it was graded, with the bank's weights and penalties of today."""
    if now is None:
        return old
    weights = {p.id: p.weight for p in now.rubric}
    penalties = {p.id: p.penalty for p in now.pitfalls}
    return old.model_copy(
        update={
            "rubric": tuple(p.model_copy(update={"weight": weights.get(p.id, p.weight)}) for p in old.rubric),
            "pitfalls": tuple(
                p.model_copy(update={"penalty": penalties.get(p.id, p.penalty)}) for p in old.pitfalls
            ),
        }
    )


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which probability on a point counts as covered, and as partial."""

    covered: float
    partial: float

    def __post_init__(self) -> None:
        if not 0 < self.partial <= self.covered <= 1:
            raise UsageError(
                f"0 < partial ≤ covered ≤ 1 is needed, not {self.partial:g} and {self.covered:g}"
            )


def _credited(verdict: Verdict) -> bool:
    return verdict.level is None and verdict.status in (Status.COVERED, Status.PARTIAL)


def _decided(verdict: Verdict, thresholds: Thresholds, backed: float) -> Verdict:
    """The verdict by other thresholds. Criteria have none; what was contradicted or unreadable stays so.

    A point that is missing in spite of a probability of `backed` or more had no evidence in the answer, and has none
    now. One that is credited only now has no quote: where it stands in the answer was not stored.
    """
    p = verdict.probability
    fixed = verdict.level is not None or verdict.status in (Status.CONTRADICTED, Status.UNJUDGED)
    if fixed or p is None or (verdict.status is Status.MISSING and p >= backed):
        return verdict
    status = (
        Status.COVERED if p >= thresholds.covered
        else Status.PARTIAL if p >= thresholds.partial
        else Status.MISSING
    )  # fmt: skip
    return verdict.model_copy(
        update={"status": status, "quote": None if status is Status.MISSING else verdict.quote}
    )


def _rescored(record: Record, question: Question, thresholds: Thresholds | None, backed: float) -> Record:
    if record.system != GRADER or not record.verdicts:
        return record
    weights = {p.id: p.weight for p in question.rubric}
    penalties = {p.id: p.penalty for p in question.pitfalls}
    verdicts = tuple(v.model_copy(update={"weight": weights[v.point_id]}) for v in record.verdicts)
    if thresholds:
        verdicts = tuple(_decided(v, thresholds, backed) for v in verdicts)
    hits = tuple(h.model_copy(update={"penalty": penalties[h.pitfall_id]}) for h in record.pitfalls)
    return record.model_copy(update={"verdicts": verdicts, "pitfalls": hits, "score": score(verdicts, hits)})


def rescore(
    run: Run, folder: Path, bank: Mapping[str, Question], thresholds: Thresholds | None = None
) -> Run:
    """The run with scores and gold computed again from stored verdicts and labels: today's arithmetic, today's weights.

    `thresholds`: points are decided again from their stored probabilities. No model is called. A question that is no
    longer in the bank keeps its weights. Floors keep their predictions.
    """
    old = run.cases
    questions = {i: _reweighted(q, bank.get(i)) for i, q in old.questions.items()}
    cases = EvalSet(
        old.split,
        tuple(
            c.model_copy(update={"gold": gold_score(questions[c.question_id], c.labels, c.pitfalls)})
            if c.labels
            else c
            for c in old.cases
        ),
        questions,
    )
    origin = run.meta.name
    if thresholds:
        origin += f" (covered from {thresholds.covered:g}, partial from {thresholds.partial:g})"
    meta = run.meta.model_copy(update={"name": folder.name, "derived_from": origin, "cases": cases.digest})
    out = Run.create(folder, meta, cases)
    (folder / "items.jsonl").unlink(missing_ok=True)
    of = {c.id: questions[c.question_id] for c in cases.cases}
    records = run.records().values()
    backed = min(
        (v.probability for r in records for v in r.verdicts if _credited(v) and v.probability is not None),
        default=1.0,
    )
    for record in records:
        out.append(_rescored(record, of[record.case_id], thresholds, backed))
    out.write_floors(run.floors())
    return out
