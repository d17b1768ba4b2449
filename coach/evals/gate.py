"""The gate that a change has to pass: budgets, floors to beat, and nothing that may be worse than the baseline."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from coach.errors import UsageError
from coach.evals.baseline import Snapshot
from coach.evals.compare import differences
from coach.evals.measure import Measurement, tables_of
from coach.evals.store import Run
from coach.evals.tables import GRADER
from coach.metrics import METRICS, Estimate
from coach.metrics.bootstrap import RESAMPLES


@dataclass(frozen=True, slots=True)
class Check:
    """One thing a run was held to. `ok` None: not measured by this run."""

    metric: str
    kind: Literal["budget", "baseline", "floor"]
    ok: bool | None
    detail: str


_KEYS = {"min", "max", "reach", "tolerance", "beats"}


def read_budgets(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """{split: {metric: budget}}; UsageError for an unknown metric or key, so that a typo is not a budget kept."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf8"))
    except FileNotFoundError as e:
        raise UsageError(f"no budgets at {path}") from e
    except tomllib.TOMLDecodeError as e:
        raise UsageError(f"{path}: {e}") from e
    for split, rows in data.items():
        for metric, budget in rows.items():
            if metric not in METRICS:
                raise UsageError(
                    f"{path}: [{split}.{metric}]: no such metric", f"there are: {', '.join(METRICS)}"
                )
            if extra := set(budget) - _KEYS:
                raise UsageError(f"{path}: [{split}.{metric}]: unknown {', '.join(sorted(extra))}")
    return data


def gate(
    run: Run,
    measured: Measurement,
    budgets: Mapping[str, Mapping[str, Mapping[str, Any]]],
    baseline: Snapshot | None,
    resamples: int = RESAMPLES,
) -> list[Check]:
    """Everything the run is held to: budgets, floors to beat, and no metric that may be worse than the baseline.

    A split without budgets of its own is held to those of `test`.
    """
    rows = budgets.get(run.meta.split) or budgets.get("test", {})
    checks = []
    for name, budget in rows.items():
        found = measured.metrics[GRADER][name]
        if "min" in budget or "max" in budget:
            checks.append(_budget(name, found, budget))
        checks += [_beats(name, floor, measured) for floor in budget.get("beats", [])]
    if baseline is not None:
        checks += _against_baseline(run, baseline, rows, resamples)
    return checks


def _budget(name: str, found: Estimate, budget: Mapping[str, Any]) -> Check:
    low, high = budget.get("min"), budget.get("max")
    limit = " and ".join(
        part
        for part in (f"≥ {low:g}" if low is not None else "", f"≤ {high:g}" if high is not None else "")
        if part
    )
    if found.value is None:
        return Check(name, "budget", None, f"not measured (budget {limit})")
    value = round(found.value, 6)
    ok = (low is None or value >= low) and (high is None or value <= high)
    return Check(name, "budget", ok, f"{value:.3g}, budget {limit}")


def _beats(name: str, floor: str, measured: Measurement) -> Check:
    difference = measured.against.get(floor, {}).get(name)
    if difference is None or difference.low is None or difference.high is None:
        return Check(name, "floor", None, f"not measured against {floor}")
    better = difference.low > 0 if METRICS[name].better == "higher" else difference.high < 0
    return Check(
        name,
        "floor",
        better,
        f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] over {floor}",
    )


def _against_baseline(
    run: Run, baseline: Snapshot, budgets: Mapping[str, Mapping[str, Any]], resamples: int
) -> list[Check]:
    """Worse is when the bound of the paired difference on the bad side lies beyond the metric's tolerance."""
    now = tables_of(run)[GRADER]
    checks = []
    for name, found in differences(baseline.on(run.cases), now, resamples).items():
        metric = METRICS[name]
        # Time depends on the machine and is held by its budget; `within` has no better side.
        if metric.better == "within" or name == "seconds" or found.low is None or found.high is None:
            continue
        tolerance = float(budgets.get(name, {}).get("tolerance", _TOLERANCE.get(name, 0.03)))
        bound = found.low if metric.better == "higher" else -found.high
        checks.append(
            Check(
                name,
                "baseline",
                bound >= -tolerance - 1e-9,
                f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}], tolerance {tolerance:g}",
            )
        )
    if not checks:
        return [Check("all", "baseline", None, "the baseline shares no case with this run")]
    return checks


# Metrics in score units; the others are shares and correlations.
_TOLERANCE = {
    name: 2.0
    for name in METRICS
    if name in ("mae", "max_delta") or name.startswith("delta_") or name.endswith("_score")
}
