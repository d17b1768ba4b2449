"""Two runs side by side: what changed, by how much each metric moved, and which items moved most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coach.errors import UsageError
from coach.evals.baseline import Snapshot, snapshot
from coach.evals.cases import EvalCase
from coach.evals.store import Meta, Run
from coach.evals.tables import Tables
from coach.metrics import METRICS, Estimate, paired
from coach.metrics.bootstrap import RESAMPLES


@dataclass(frozen=True, slots=True)
class Comparison:
    """`changed` is {what: (before, after)}; `metrics` are B − A on items that both judged; `items` moved most first."""

    changed: dict[str, tuple[str, str]]
    shared: int
    only_a: int
    only_b: int
    metrics: dict[str, Estimate]
    items: list[dict[str, Any]]


def _flat(meta: Meta) -> dict[str, str]:
    out = {k: str(v) for k, v in meta.fingerprint.model_dump().items() if k != "prompts"}
    out |= {f"prompt {name}": digest for name, digest in meta.fingerprint.prompts.items()}
    return out | {"code": meta.code, "cases": meta.cases, "repeats": str(meta.repeats)}


def differences(before: Tables, after: Tables, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """after − before of every metric that both define, on shared rows."""
    out = {}
    for name, metric in METRICS.items():
        a, b = before.get(metric.family).aligned(after.get(metric.family))
        same_width = a.predicted.ndim == b.predicted.ndim and a.predicted.shape[1:] == b.predicted.shape[1:]
        if len(a) and same_width:
            found = paired(a, b, metric.function, resamples)
            if found.value is not None:
                out[name] = found
    return out


def compare(first: Snapshot, second: Run, resamples: int = RESAMPLES) -> Comparison:
    """B − A, where A may be a run's snapshot or a baseline. UsageError when no case is the same in both."""
    other = snapshot(second)
    cases = second.cases
    before, after = first.on(cases), other.on(cases)
    a, b = _flat(first.meta), _flat(second.meta)
    shared = [
        c for c in cases.cases if before.prediction(c.id) is not None and after.prediction(c.id) is not None
    ]
    if not shared:
        raise UsageError("the two runs have no case in common", "compare runs of the same split")
    return Comparison(
        changed={k: (a.get(k, "–"), b.get(k, "–")) for k in {**a, **b} if a.get(k) != b.get(k)},
        shared=len(shared),
        only_a=len({i for i, _ in first.predictions} - {c.id for c in shared}),
        only_b=len({i for i, _ in other.predictions} - {c.id for c in shared}),
        metrics=differences(before, after, resamples),
        items=_moved(shared, before, after),
    )


def _moved(cases: list[EvalCase], before: Tables, after: Tables) -> list[dict[str, Any]]:
    rows = []
    for case in cases:
        a, b = before.prediction(case.id), after.prediction(case.id)
        assert a and b
        verdicts = {
            i: (a.points[i].status, b.points[i].status)
            for i in a.points.keys() & b.points.keys()
            if a.points[i].status != b.points[i].status
        }
        if a.score != b.score or verdicts:
            delta = None if a.score is None or b.score is None else b.score - a.score
            rows.append(
                {
                    "id": case.id,
                    "gold": case.gold,
                    "before": a.score,
                    "after": b.score,
                    "delta": delta,
                    "verdicts": dict(sorted(verdicts.items())),
                }
            )
    # A score that appeared or vanished is the largest change there is.
    return sorted(rows, key=lambda r: (r["delta"] is not None, -abs(r["delta"] or 0), r["id"]))
