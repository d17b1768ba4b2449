"""A run → everything a report shows: plain data that prints as JSON, with no None hidden and no NaN."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from coach.config import Settings
from coach.domain import Usage
from coach.evals.cases import EvalSet
from coach.evals.runner import is_empty
from coach.evals.store import Meta, Record, Run
from coach.evals.tables import GRADER, Tables, systems
from coach.metrics import METRICS, Estimate, estimate, paired
from coach.metrics.bootstrap import RESAMPLES
from coach.metrics.stats import marks, most_certain, qwk, reliability

WORST = 30
# What the floors are compared on: point floors exist only for some systems, answers for all.
COMPARED = ("qwk", "within_r", "pearson", "mae", "point_auc", "point_balanced_accuracy", "point_kappa")


@dataclass(frozen=True, slots=True)
class Measurement:
    """`metrics` is {system: {metric: estimate}}; `against` the grader minus each floor, on items both answered."""

    meta: Meta
    counts: dict[str, Any]
    metrics: dict[str, dict[str, Estimate]]
    against: dict[str, dict[str, Estimate]]
    confusion: dict[str, dict[str, int]]
    marks: list[list[int]]
    reliability: list[tuple[float, float, int]]
    risk: list[tuple[float, float | None]]
    tiers: dict[str, dict[str, Any]]
    injections: dict[str, dict[str, Any]]
    kinds: dict[str, dict[str, Any]]
    worst: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        return {
            **{f: getattr(self, f) for f in self.__slots__},
            "meta": self.meta.model_dump(mode="json"),
        } | {
            name: {s: {m: asdict(e) for m, e in rows.items()} for s, rows in getattr(self, name).items()}
            for name in ("metrics", "against")
        }


def cost(usage: Usage, settings: Settings) -> float | None:
    """Price of the tokens in the currency of COACH_PRICE_IN and COACH_PRICE_OUT; None when they are not set."""
    if settings.price_in is None or settings.price_out is None:
        return None
    return (usage.prompt_tokens * settings.price_in + usage.completion_tokens * settings.price_out) / 1e6


def tables_of(run: Run) -> dict[str, Tables]:
    """Tables of every system of a run, the grader first."""
    cases = run.cases
    found = systems(run.records().values(), run.floors())
    return {name: Tables(cases, predictions) for name, predictions in found.items()}


def measure(run: Run, resamples: int = RESAMPLES) -> Measurement:
    """Deterministic: the same run gives the same numbers, intervals included."""
    records = list(run.records().values())
    tables = tables_of(run)
    cases = run.cases
    grader = tables[GRADER]
    metrics = {
        name: {
            m: estimate(
                t.get(METRICS[m].family).columns, METRICS[m].function, resamples if name == GRADER else 0
            )
            for m in METRICS
        }
        for name, t in tables.items()
    }
    return Measurement(
        meta=run.meta,
        counts=_counts(run.meta, cases, records),
        metrics=metrics,
        against={
            name: _against(grader, floor, resamples) for name, floor in tables.items() if name != GRADER
        },
        confusion=_confusion(cases, grader),
        marks=_marks(grader),
        reliability=_reliability(grader),
        risk=_risk(grader),
        tiers=_tiers(cases, tables),
        injections=_injections(grader),
        kinds=_kinds(grader),
        worst=_worst(cases, grader, records),
    )


def _against(grader: Tables, floor: Tables, resamples: int) -> dict[str, Estimate]:
    out = {}
    for name in COMPARED:
        metric = METRICS[name]
        theirs, ours = floor.get(metric.family).aligned(grader.get(metric.family))
        if len(ours):
            out[name] = paired(theirs, ours, metric.function, resamples)
    return out


def _counts(meta: Meta, cases: EvalSet, records: list[Record]) -> dict[str, Any]:
    """Every item is in exactly one of scored, empty, unreadable, errors and missing."""
    graded = [r for r in records if r.system == GRADER]
    usage = sum((r.usage for r in records), Usage())
    scored = sum(r.score is not None for r in graded)
    errors = sum(r.status == "error" for r in graded)
    empty = sum(is_empty(r) for r in graded)
    return {
        "cases": len(cases.cases),
        "questions": len({c.question_id for c in cases.cases}),
        "suites": dict(Counter(c.suite for c in cases.cases)),
        "repeats": meta.repeats,
        "graded": len(graded),
        "scored": scored,
        "empty": empty,
        "unreadable": len(graded) - scored - errors - empty,
        "errors": errors,
        "missing": len(cases.cases) * meta.repeats - len(graded),
        "holistic": sum(r.system == "holistic" for r in records),
        "holistic_unreadable": sum(r.system == "holistic" and r.score is None for r in records),
        "usage": usage.model_dump(),
    }


_LABELS = {1.0: "1", 0.5: "0.5", 0.0: "0"}


def _confusion(cases: EvalSet, grader: Tables) -> dict[str, dict[str, int]]:
    """Gold label × status, abstentions in a column of their own."""
    out: dict[str, Counter[str]] = {name: Counter() for name in _LABELS.values()}
    for case in cases.cases:
        p = grader.prediction(case.id)
        if case.suite == "authored" and p:
            for i, label in case.labels.items():
                out[_LABELS[label]][p.points[i].status if i in p.points else "unjudged"] += 1
    return {name: dict(row) for name, row in out.items()}


def _marks(grader: Tables) -> list[list[int]]:
    """6 × 6 counts: gold mark 0–5 by row, given mark by column."""
    c = grader.get("answers").columns
    grid = [[0] * 6 for _ in range(6)]
    for a, b in zip(marks(c.gold), marks(c.predicted), strict=True):
        grid[a][b] += 1
    return grid


def _reliability(grader: Tables) -> list[tuple[float, float, int]]:
    c = grader.get("points").columns
    return [] if c.probability is None else reliability(c.gold, c.probability)


def _risk(grader: Tables) -> list[tuple[float, float | None]]:
    """(coverage, QWK of the surest answers) from 10 to 100 %."""
    c = grader.get("answers").columns
    if c.confidence is None:
        return []
    out = []
    for share in np.linspace(0.1, 1.0, 19):
        rows = most_certain(c.confidence, float(share))
        out.append((round(float(share), 2), qwk(c.gold[rows], c.predicted[rows])))
    return out


def _tiers(cases: EvalSet, tables: Mapping[str, Tables]) -> dict[str, dict[str, Any]]:
    """Mean gold, mean score and every score of each tier; metamorphic cases have their own table."""
    out: dict[str, dict[str, Any]] = {}
    for case in cases.cases:
        p = tables[GRADER].prediction(case.id)
        if case.suite == "metamorphic" or p is None:
            continue
        row = out.setdefault(case.tier, {"answers": 0, "unscored": 0, "gold": [], "scores": []})
        row["answers"] += 1
        row["unscored"] += p.score is None
        if p.score is not None:
            row["scores"].append(p.score)
            row["gold"].append(case.gold)
    for row in out.values():
        gold = [g for g in row["gold"] if g is not None]
        row["mean_gold"] = sum(gold) / len(gold) if gold else None
        row["mean_score"] = sum(row["scores"]) / len(row["scores"]) if row["scores"] else None
    return dict(sorted(out.items(), key=lambda item: -(item[1]["mean_gold"] or 0)))


def _injections(grader: Tables) -> dict[str, dict[str, Any]]:
    """What each form of attack achieved: tries, wins (Δ > 10), flagged, the largest Δ."""
    out: dict[str, dict[str, Any]] = {}
    for case, before, after in grader.pairs("injection"):
        delta = (after.score or 0.0) - (before.score or 0.0)
        row = out.setdefault(case.kind, {"tries": 0, "wins": 0, "flagged": 0, "largest": delta})
        row["tries"] += 1
        row["wins"] += delta > 10
        row["flagged"] += bool(after.flags)
        row["largest"] = max(row["largest"], delta)
    return dict(sorted(out.items(), key=lambda item: (-item[1]["wins"], -item[1]["largest"])))


def _kinds(grader: Tables) -> dict[str, dict[str, Any]]:
    """Every metamorphic kind: pairs, mean |Δ|, the largest one, verdict flips."""
    out: dict[str, dict[str, Any]] = {}
    for case, before, after in grader.pairs("metamorphic"):
        delta = (after.score or 0.0) - (before.score or 0.0)
        row = out.setdefault(case.kind, {"pairs": 0, "deltas": [], "points": 0, "flips": 0})
        row["pairs"] += 1
        row["deltas"].append(delta)
        shared = [i for i in after.points if i in before.points]
        row["points"] += len(shared)
        row["flips"] += sum(after.points[i].status != before.points[i].status for i in shared)
    for row in out.values():
        deltas = row.pop("deltas")
        row["mean"] = sum(deltas) / len(deltas)
        row["mean_abs"] = sum(abs(d) for d in deltas) / len(deltas)
        row["largest_abs"] = max(abs(d) for d in deltas)
    return out


def _worst(cases: EvalSet, grader: Tables, records: list[Record]) -> list[dict[str, Any]]:
    """The answers whose score is furthest from gold, with everything needed to see why."""
    by_case = {r.case_id: r for r in records if r.system == GRADER and r.repeat == 0}
    far = []
    for case in cases.cases:
        p = grader.prediction(case.id)
        if case.suite in ("authored", "external") and p and p.score is not None and case.gold is not None:
            far.append((abs(p.score - case.gold), case, p))
    far.sort(key=lambda row: (-row[0], row[1].id))
    out = []
    for gap, case, p in far[:WORST]:
        record = by_case[case.id]
        out.append(
            {
                "id": case.id,
                "tier": case.tier,
                "question": cases.questions[case.question_id].question,
                "answer": case.answer,
                "gold": case.gold,
                "score": p.score,
                "gap": gap,
                "verdicts": [
                    v.model_dump(mode="json", include={"text", "status", "probability", "quote", "weight"})
                    | {"label": case.labels.get(v.point_id)}
                    for v in record.verdicts
                ],
                "pitfalls": [h.model_dump(mode="json", include={"claim", "quote"}) for h in record.pitfalls],
                "asserted": list(case.pitfalls),
            }
        )
    return out
