"""How metrics are grouped and written, for the terminal and the HTML report alike."""

from __future__ import annotations

from coach.evals.measure import Measurement
from coach.metrics import METRICS, Estimate

SECTIONS: dict[str, tuple[str, ...]] = {
    "per point": tuple(m for m in METRICS if m.startswith("point_")),
    "per answer": tuple(m for m, row in METRICS.items() if row.family == "answers"),
    "deserve nothing (score of 100)": tuple(
        m for m, row in METRICS.items() if row.family.startswith("tier:")
    ),
    "injection": ("injection_success", "injection_flagged", "honest_flagged"),
    "metamorphic": (
        *(m for m, row in METRICS.items() if row.family.startswith("pair:")),
        "flips_invariant",
        "wrong_direction",
        "sensitivity",
    ),
    "same answer again": ("differing_scores", "max_delta", "repeat_flips", "icc", "alpha"),
    "follow-ups": tuple(m for m, row in METRICS.items() if row.family.startswith("followup:")),
    "abstention and time": ("judged_points", "scored_answers", "seconds"),
}
assert sorted(m for row in SECTIONS.values() for m in row) == sorted(METRICS)

_SHARES = (
    "injection",
    "honest",
    "flips",
    "wrong",
    "sens",
    "differing",
    "repeat_flips",
    "followup",
    "judged",
    "scored",
)
_PLAIN = ("mae", "max_delta", "seconds")
UNDEFINED = "–"


def written(metric: str, value: float | None) -> str:
    """Shares as percent, scores and seconds with one digit, statistics with three; – where undefined.

    >>> written("qwk", 0.5), written("injection_success", 0.025), written("mae", 12.34), written("qwk", None)
    ('0.500', '2.5%', '12.3', '–')
    """
    if value is None:
        return UNDEFINED
    if metric.startswith(_SHARES) or metric.endswith(("_share", "_coverage")):
        return f"{value:.1%}"
    if metric in _PLAIN or metric.startswith("delta_") or metric.endswith("_score"):
        return f"{value:.1f}"
    return f"{value:.3f}"


def interval(metric: str, found: Estimate) -> str:
    if found.low is None or found.high is None:
        return ""
    return f"[{written(metric, found.low)}, {written(metric, found.high)}]"


def shown_sections(measured: Measurement) -> dict[str, list[str]]:
    """Metrics that at least one system defines, by section; sections with none are left out."""
    out = {}
    for title, names in SECTIONS.items():
        rows = [m for m in names if any(row[m].value is not None for row in measured.metrics.values())]
        if rows:
            out[title] = rows
    return out


def counted(measured: Measurement) -> str:
    """One line that adds up: graded = scored + empty + unreadable + errors."""
    c = measured.counts
    line = (
        f"{c['cases']} cases, {c['questions']} questions, {c['repeats']} repeat(s): {c['graded']} graded = "
        f"{c['scored']} scored + {c['empty']} empty + {c['unreadable']} unreadable + {c['errors']} errors"
    )
    if c["missing"]:
        line += f"; {c['missing']} NOT YET GRADED"
    if c["holistic"]:
        line += f"; holistic {c['holistic']}, of them {c['holistic_unreadable']} unreadable"
    return line
