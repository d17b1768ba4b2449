"""Charts as inline SVG: no script, no font, nothing fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

_W, _H, _LEFT, _BOTTOM, _TOP = 420, 300, 46, 42, 12


def _frame(
    title: str,
    x_label: str,
    y_label: str,
    body: Sequence[str],
    y_ticks: Sequence[tuple[float, str]],
    x_ticks: Sequence[tuple[float, str]],
    width: int = _W,
) -> str:
    """`body` and ticks are in pixels already; ticks are (position, label)."""
    grid = [
        f'<line class="grid" x1="{_LEFT}" x2="{width - 8}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(t)}</text>'
        for y, t in y_ticks
    ]
    under = [
        f'<text x="{x:.1f}" y="{_H - _BOTTOM + 16}" text-anchor="middle">{escape(t)}</text>'
        for x, t in x_ticks
    ]
    axis = (
        f'<text x="{(width + _LEFT) / 2:.0f}" y="{_H - 6}" text-anchor="middle" class="label">{escape(x_label)}</text>'
        f'<text transform="translate(12 {(_H - _BOTTOM + _TOP) / 2:.0f}) rotate(-90)" text-anchor="middle" '
        f'class="label">{escape(y_label)}</text>'
    )
    return (
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {width} {_H}" width="{width}" height="{_H}">'
        f"{''.join(grid)}{''.join(under)}{axis}{''.join(body)}</svg>"
    )


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda v: start + (v - low) / (high - low) * (end - start)


_X: Callable[[float], float] = _scale(0, 1, _LEFT + 6, _W - 22)
_Y: Callable[[float], float] = _scale(0, 1, _H - _BOTTOM, _TOP)
_UNIT = (0.0, 0.25, 0.5, 0.75, 1.0)


def reliability(rows: Sequence[tuple[float, float, int]]) -> str:
    """Mean label against mean probability; the area of a dot is the number of points behind it."""
    most = max((n for _, _, n in rows), default=1)
    line = " ".join(f"{_X(p):.1f},{_Y(g):.1f}" for p, g, _ in rows)
    body = [
        f'<line class="ideal" x1="{_X(0):.1f}" y1="{_Y(0):.1f}" x2="{_X(1):.1f}" y2="{_Y(1):.1f}"/>',
        f'<polyline class="curve" points="{line}"/>',
        *(
            f'<circle class="dot" cx="{_X(p):.1f}" cy="{_Y(g):.1f}" r="{3 + 4 * (n / most) ** 0.5:.1f}">'
            f"<title>probability {p:.3f}, label {g:.3f}, {n} points</title></circle>"
            for p, g, n in rows
        ),
    ]
    return _frame(
        "reliability",
        "mean probability of a bin",
        "mean gold label",
        body,
        [(_Y(v), f"{v:g}") for v in _UNIT],
        [(_X(v), f"{v:g}") for v in _UNIT],
    )


def risk_coverage(rows: Sequence[tuple[float, float | None]]) -> str:
    """QWK of the surest share of answers; the right end is every answer."""
    known = [(c, q) for c, q in rows if q is not None]
    line = " ".join(f"{_X(c):.1f},{_Y(max(q, 0)):.1f}" for c, q in known)
    body = [f'<polyline class="curve" points="{line}"/>'] + [
        f'<circle class="dot" cx="{_X(c):.1f}" cy="{_Y(max(q, 0)):.1f}" r="3">'
        f"<title>surest {c:.0%}: QWK {q:.3f}</title></circle>"
        for c, q in known
    ]
    return _frame(
        "risk and coverage",
        "share of answers kept, surest first",
        "QWK",
        body,
        [(_Y(v), f"{v:g}") for v in _UNIT],
        [(_X(v), f"{v:.0%}") for v in _UNIT],
    )


def strip(tiers: Mapping[str, Mapping[str, Any]]) -> str:
    """Every score of every tier as a dot; a bar for the mean score, a diamond for mean gold."""
    names = list(tiers)
    width = max(_W, _LEFT + 20 + 74 * len(names))
    y = _scale(0, 100, _H - _BOTTOM, _TOP)
    body, ticks = [], []
    for i, name in enumerate(names):
        row, middle = tiers[name], _LEFT + 40 + 74 * i
        ticks.append((float(middle), name if len(name) < 13 else name[:11] + "…"))
        for j, score in enumerate(row["scores"]):
            spread = ((j * 37) % 41 - 20) * 0.9  # fixed spread: the same run draws the same picture
            body.append(f'<circle class="faint" cx="{middle + spread:.1f}" cy="{y(score):.1f}" r="2.6"/>')
        if row["mean_score"] is not None:
            at = y(row["mean_score"])
            body.append(
                f'<line class="mean" x1="{middle - 22}" x2="{middle + 22}" y1="{at:.1f}" y2="{at:.1f}"/>'
            )
        if row["mean_gold"] is not None:
            at = y(row["mean_gold"])
            body.append(
                f'<path class="gold" d="M{middle} {at - 6:.1f} l6 6 l-6 6 l-6 -6 z">'
                f"<title>{escape(name)}: mean gold {row['mean_gold']:.1f}</title></path>"
            )
    return _frame(
        "score by tier", "", "score", body, [(y(v), str(v)) for v in (0, 25, 50, 75, 100)], ticks, width
    )
