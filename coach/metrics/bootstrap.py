"""Confidence intervals by resampling questions: answers to one question share its rubric and are not independent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from coach.metrics.stats import Array
from coach.metrics.table import Columns

RESAMPLES = 1000
LEVEL = 0.95
# A statistic that is undefined in more resamples than this has no interval worth printing.
_UNDEFINED = 0.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A statistic with its 95 % percentile interval, and the rows and questions behind it; None is undefined."""

    value: float | None
    low: float | None
    high: float | None
    rows: int
    groups: int


Draw = tuple[Array, Array]


def _draws(group: Array, resamples: int, seed: int) -> tuple[list[Draw], int]:
    """([(row numbers, cluster of each row)], number of groups); whole groups are drawn with replacement.

    A question drawn twice is two clusters: a mean over questions must count it twice.
    """
    names, inverse = np.unique(group, return_inverse=True)
    rows = [np.flatnonzero(inverse == i) for i in range(len(names))]
    rng = np.random.default_rng(seed)
    picks = rng.integers(0, len(names), size=(resamples, len(names))) if len(names) else np.zeros((0, 0), int)
    sizes = np.array([len(r) for r in rows])
    clusters = np.arange(len(names))
    draws = [(np.concatenate([rows[i] for i in pick]), np.repeat(clusters, sizes[pick])) for pick in picks]
    return draws, len(names)


def _resampled(table: Columns, draw: Draw) -> Columns:
    return replace(table.take(draw[0]), group=draw[1])


def _interval(values: list[float | None]) -> tuple[float | None, float | None]:
    known = [v for v in values if v is not None]
    if len(known) < max(2, (1 - _UNDEFINED) * len(values)):
        return None, None
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def estimate(
    table: Columns, function: Callable[[Columns], float | None], resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """The statistic and its interval. One question alone gives no interval."""
    value = function(table) if len(table) else None
    if value is None or resamples == 0:
        return Estimate(value, None, None, len(table), len(set(table.group)))
    draws, groups = _draws(table.group, resamples, seed)
    if groups < 2:
        return Estimate(value, None, None, len(table), groups)
    low, high = _interval([function(_resampled(table, draw)) for draw in draws])
    return Estimate(value, low, high, len(table), groups)


def paired(
    first: Columns,
    second: Columns,
    function: Callable[[Columns], float | None],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """`function(second) − function(first)` on tables whose rows are the same items in the same order.

    Both sides see the same resampled questions, so what makes a question hard cancels out.
    ValueError when the rows do not pair up.
    """
    if len(first) != len(second) or list(first.group) != list(second.group):
        raise ValueError("paired tables must hold the same items in the same order")
    a, b = (function(first), function(second)) if len(first) else (None, None)
    if a is None or b is None:
        return Estimate(None, None, None, len(first), len(set(first.group)))
    draws, groups = _draws(first.group, resamples, seed)
    if groups < 2:
        return Estimate(b - a, None, None, len(first), groups)
    differences: list[float | None] = []
    for draw in draws:
        x, y = function(_resampled(first, draw)), function(_resampled(second, draw))
        differences.append(None if x is None or y is None else y - x)
    low, high = _interval(differences)
    return Estimate(b - a, low, high, len(first), groups)
