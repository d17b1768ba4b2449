"""Statistics of agreement: pure functions (`stats`), clustered bootstrap (`bootstrap`) and the METRICS table."""

from __future__ import annotations

from coach.metrics.bootstrap import Estimate, estimate, paired
from coach.metrics.table import DIRECTED, FLOOR_TIERS, INVARIANT, METRICS, Columns, Metric

__all__ = [
    "DIRECTED",
    "FLOOR_TIERS",
    "INVARIANT",
    "METRICS",
    "Columns",
    "Estimate",
    "Metric",
    "estimate",
    "paired",
]
