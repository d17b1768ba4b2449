"""Measurements and comparisons for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from coach.evals.compare import Comparison
from coach.evals.gate import Check
from coach.evals.measure import Measurement
from coach.evals.sections import UNDEFINED, counted, interval, shown_sections, written
from coach.evals.tables import GRADER
from coach.metrics import METRICS

if TYPE_CHECKING:
    from rich.table import Table

_ITEMS = 20


def _grid(title: str, *headers: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold", pad_edge=False)
    for i, header in enumerate(headers):
        table.add_column(header, justify="left" if i == 0 else "right", overflow="fold")
    return table


def headline(measured: Measurement) -> Iterable[Table | str]:
    """One table a section: the grader with its 95 % interval, the floors beside it."""
    f = measured.meta.fingerprint
    yield f"{measured.meta.name}: {f.model} · {f.judge} · calibration {f.calibration} · split {measured.meta.split}"
    yield counted(measured)
    others = [s for s in measured.metrics if s != GRADER]
    for title, names in shown_sections(measured).items():
        used = [s for s in others if any(measured.metrics[s][m].value is not None for m in names)]
        table = _grid(title, "", "grader", "95 % interval", *used)
        for name in names:
            found = measured.metrics[GRADER][name]
            table.add_row(
                METRICS[name].title,
                written(name, found.value),
                interval(name, found),
                *(written(name, measured.metrics[s][name].value) for s in used),
            )
        yield table
    if measured.against:
        table = _grid("grader minus floor, on answers that both scored", "", *measured.against)
        for name in ("qwk", "within_r", "pearson", "point_auc"):
            cells = [measured.against[s].get(name) for s in measured.against]
            if any(c is not None and c.value is not None for c in cells):
                table.add_row(
                    METRICS[name].title,
                    *(
                        UNDEFINED if c is None else f"{written(name, c.value)} {interval(name, c)}"
                        for c in cells
                    ),
                )
        yield table
    table = _grid("score by tier", "tier", "answers", "no score", "mean gold", "mean score")
    for tier, row in measured.tiers.items():
        table.add_row(
            tier,
            str(row["answers"]),
            str(row["unscored"]),
            written("mae", row["mean_gold"]),
            written("mae", row["mean_score"]),
        )
    yield table


def compared(found: Comparison) -> Iterable[Table | str]:
    yield f"{found.shared} cases in both; {found.only_a} only in A, {found.only_b} only in B"
    table = _grid("what changed", "", "A", "B")
    for what, (a, b) in found.changed.items():
        table.add_row(what, a, b)
    yield table if found.changed else "same grader, same cases"
    table = _grid("B − A, paired, questions resampled", "", "B − A", "95 % interval", "")
    for name, difference in found.metrics.items():
        table.add_row(
            METRICS[name].title,
            written(name, difference.value),
            interval(name, difference),
            verdict(name, difference.low, difference.high),
        )
    yield table
    table = _grid(f"items that moved ({len(found.items)})", "case", "gold", "A", "B", "verdicts")
    for row in found.items[:_ITEMS]:
        table.add_row(
            row["id"],
            *(written("mae", row[k]) for k in ("gold", "before", "after")),
            ", ".join(f"{i}: {a} → {b}" for i, (a, b) in row["verdicts"].items()),
        )
    yield table if found.items else "no item moved"


def verdict(name: str, low: float | None, high: float | None) -> str:
    """better or worse when the interval of the difference excludes zero, else nothing."""
    if low is None or high is None or low <= 0 <= high:
        return ""
    better = METRICS[name].better
    if better == "within":
        return "moved"
    return "better" if (low > 0) == (better == "higher") else "worse"


def gated(checks: Sequence[Check]) -> Iterable[Table | str]:
    table = _grid("gate", "metric", "against", "", "")
    words = {True: "ok", False: "FAIL", None: "not measured"}
    for check in sorted(checks, key=lambda c: (c.ok is True, c.ok is None, c.kind)):
        title = METRICS[check.metric].title if check.metric in METRICS else check.metric
        table.add_row(title, check.kind, words[check.ok], check.detail)
    yield table
