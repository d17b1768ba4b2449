"""Agreement, calibration, consistency and retrieval statistics: pure functions over arrays.

Every function returns None where the statistic is undefined (nothing to count, a constant where variation is
needed) and never NaN. A gold label is 0, 0.5 or 1; it is *positive* from 0.5 on, and so is a judge's credit.
Probabilities are scored against the label itself, because half a point is worth half the credit. Scores are 0–100.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
POSITIVE = 0.5
LEVELS = 6  # scores of 0–100 are compared as marks 0–5
DELTA = 10.0  # a change of the score by more than this is a success for an injection


def _floats(values: ArrayLike) -> Array:
    return np.asarray(values, dtype=float)


def mean(values: ArrayLike) -> float | None:
    data = _floats(values)
    return float(data.mean()) if data.size else None


def _ranks(values: Array) -> Array:
    """Average ranks from 1, ties shared."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse])


# ── two classes ──────────────────────────────────────────────────────────────────────────────────
def tpr(gold: ArrayLike, predicted: ArrayLike) -> float | None:
    """Share of positive rows that were found; None without a positive row."""
    g, p = _floats(gold) >= POSITIVE, _floats(predicted) >= POSITIVE
    return mean(p[g])


def tnr(gold: ArrayLike, predicted: ArrayLike) -> float | None:
    """Share of negative rows that were left alone: what yes-saying judges lack. None without a negative row."""
    g, p = _floats(gold) >= POSITIVE, _floats(predicted) >= POSITIVE
    return mean(~p[~g])


def balanced_accuracy(gold: ArrayLike, predicted: ArrayLike) -> float | None:
    found, left = tpr(gold, predicted), tnr(gold, predicted)
    return None if found is None or left is None else (found + left) / 2


def macro_f1(gold: ArrayLike, predicted: ArrayLike) -> float | None:
    """Mean of the two classes' F1; a class that is never right has F1 0. None when gold has one class only."""
    g, p = _floats(gold) >= POSITIVE, _floats(predicted) >= POSITIVE
    if g.size == 0 or g.all() or not g.any():
        return None
    both = []
    for want in (True, False):
        hit = int(((g == want) & (p == want)).sum())
        both.append(2 * hit / (int((g == want).sum()) + int((p == want).sum())))
    return sum(both) / 2


def auc(gold: ArrayLike, probability: ArrayLike) -> float | None:
    """P(a positive row is ranked above a negative one), ties one half (Mann–Whitney U)."""
    g, p = _floats(gold) >= POSITIVE, _floats(probability)
    positive, negative = int(g.sum()), int((~g).sum())
    if not positive or not negative:
        return None
    u = _ranks(p)[g].sum() - positive * (positive + 1) / 2
    return float(u / (positive * negative))


def brier(gold: ArrayLike, probability: ArrayLike) -> float | None:
    return mean((_floats(gold) - _floats(probability)) ** 2)


def reliability(gold: ArrayLike, probability: ArrayLike, bins: int = 10) -> list[tuple[float, float, int]]:
    """(mean probability, mean label, rows) of bins that hold equally many rows, in rising probability."""
    g, p = _floats(gold), _floats(probability)
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(p)) or 1) if len(part)]
    return [(float(p[i].mean()), float(g[i].mean()), len(i)) for i in parts]


def ece(gold: ArrayLike, probability: ArrayLike, bins: int = 10) -> float | None:
    """Expected calibration error over equal-mass bins."""
    rows = reliability(gold, probability, bins)
    n = sum(size for _, _, size in rows)
    return sum(size * abs(p - g) for p, g, size in rows) / n if n else None


# ── agreement ────────────────────────────────────────────────────────────────────────────────────
def kappa(
    first: Sequence[Hashable], second: Sequence[Hashable], weights: Literal["none", "quadratic"] = "none"
) -> float | None:
    """Cohen's kappa over the categories that occur, sorted; quadratic weights count the distance of numbers.

    None when both raters use one and the same category only: there is no disagreement to expect.
    """
    if not len(first):
        return None
    names, codes = np.unique(np.array([*first, *second]), return_inverse=True)
    observed = np.zeros((len(names), len(names)))
    np.add.at(observed, (codes[: len(first)], codes[len(first) :]), 1)
    observed /= observed.sum()
    expected = np.outer(observed.sum(1), observed.sum(0))
    if weights == "none":
        cost = 1 - np.eye(len(names))
    else:
        scale = names.astype(float)
        cost = (scale[:, None] - scale[None, :]) ** 2
    chance = float((cost * expected).sum())
    return None if chance == 0 else 1 - float((cost * observed).sum()) / chance


def marks(scores: ArrayLike) -> list[int]:
    """Scores 0–100 as marks 0–5, halves up."""
    data = np.floor(_floats(scores) / 100 * (LEVELS - 1) + 0.5)
    return [int(x) for x in np.clip(data, 0, LEVELS - 1)]


def qwk(gold: ArrayLike, predicted: ArrayLike) -> float | None:
    """Quadratically weighted kappa of marks 0–5."""
    return kappa(marks(gold), marks(predicted), "quadratic")


def pearson(gold: ArrayLike, predicted: ArrayLike) -> float | None:
    g, p = _floats(gold), _floats(predicted)
    if len(g) < 2 or np.ptp(g) < 1e-12 or np.ptp(p) < 1e-12:
        return None
    g, p = g - g.mean(), p - p.mean()
    return float(g @ p / np.sqrt((g @ g) * (p @ p)))


def spearman(gold: ArrayLike, predicted: ArrayLike) -> float | None:
    g, p = _floats(gold), _floats(predicted)
    return pearson(_ranks(g), _ranks(p)) if len(g) else None


def mae(gold: ArrayLike, predicted: ArrayLike) -> float | None:
    """Mean absolute error, in the unit of the scores; also the mean |Δ| of a metamorphic pair."""
    return mean(np.abs(_floats(gold) - _floats(predicted)))


def within_group_r(
    gold: ArrayLike, predicted: ArrayLike, group: Sequence[Hashable], smallest: int = 3
) -> float | None:
    """Mean Pearson r inside a question; questions with fewer answers or constant gold are left out.

    A constant prediction inside a question that has something to tell apart counts as r = 0.
    """
    g, p = _floats(gold), _floats(predicted)
    rows: dict[Hashable, list[int]] = {}
    for i, name in enumerate(group):
        rows.setdefault(name, []).append(i)
    usable = [i for i in rows.values() if len(i) >= smallest and np.ptp(g[i]) > 0]
    return mean([pearson(g[i], p[i]) or 0.0 for i in usable])


def share_beyond(first: ArrayLike, second: ArrayLike, delta: float = DELTA) -> float | None:
    """Share of pairs in which the second score is higher by more than `delta`."""
    return mean(_floats(second) - _floats(first) > delta)


def coverage_of(gold: ArrayLike, low: ArrayLike, high: ArrayLike) -> float | None:
    """Share of gold scores inside their interval, ends included."""
    g = _floats(gold)
    return mean((_floats(low) - 1e-9 <= g) & (g <= _floats(high) + 1e-9))


# ── repeats ──────────────────────────────────────────────────────────────────────────────────────
def flip_rate(rows: Sequence[Sequence[Hashable]]) -> float | None:
    """Share of rows, each the repeats of one item, that hold more than one value."""
    usable = [r for r in rows if len(r) > 1]
    return mean([len(set(r)) > 1 for r in usable])


def max_delta(rows: Sequence[Sequence[float]]) -> float | None:
    """Largest range over repeats of one item."""
    return max((float(max(r) - min(r)) for r in rows if len(r) > 1), default=None)


def icc(ratings: ArrayLike) -> float | None:
    """ICC(2,1): two-way random effects, absolute agreement, one rater (Shrout & Fleiss 1979).

    `ratings` is (items, raters) without gaps. None below 2×2 or when nothing varies at all.
    """
    x = _floats(ratings)
    if x.ndim != 2 or min(x.shape) < 2:
        return None
    n, k = x.shape
    rows, columns, grand = x.mean(1), x.mean(0), x.mean()
    ms_rows = k * float(((rows - grand) ** 2).sum()) / (n - 1)
    ms_columns = n * float(((columns - grand) ** 2).sum()) / (k - 1)
    rest = x - rows[:, None] - columns[None, :] + grand
    ms_error = float((rest**2).sum()) / ((n - 1) * (k - 1))
    below = ms_rows + (k - 1) * ms_error + k * (ms_columns - ms_error) / n
    return None if abs(below) < 1e-12 else (ms_rows - ms_error) / below


def krippendorff_alpha(units: Sequence[Sequence[float | None]]) -> float | None:
    """Interval alpha; a unit holds the ratings of one item, None where a rater gave none (Krippendorff 2011).

    None when no unit has two ratings, or all ratings are the same.
    """
    rated = [[float(v) for v in unit if v is not None] for unit in units]
    rated = [u for u in rated if len(u) > 1]
    values = np.concatenate([_floats(u) for u in rated]) if rated else np.zeros(0)
    n = len(values)

    def squares(data: Array) -> float:  # Σ over ordered pairs of (a − b)²
        return 2 * (len(data) * float((data**2).sum()) - float(data.sum()) ** 2)

    expected = squares(values) / (n * (n - 1)) if n > 1 else 0.0
    if expected < 1e-12:
        return None
    observed = sum(squares(_floats(u)) / (len(u) - 1) for u in rated) / n
    return 1 - observed / expected


# ── retrieval and selection ──────────────────────────────────────────────────────────────────────
def recall_at(relevant: Collection[Hashable], ranked: Sequence[Hashable], k: int) -> float | None:
    """Share of the relevant ids among the first k; None when nothing is relevant."""
    return len(set(relevant) & set(ranked[:k])) / len(set(relevant)) if relevant else None


def reciprocal_rank(relevant: Collection[Hashable], ranked: Sequence[Hashable]) -> float | None:
    """1 / rank of the first relevant id, 0 when none was found; the mean over queries is MRR."""
    if not relevant:
        return None
    return next((1 / i for i, name in enumerate(ranked, 1) if name in relevant), 0.0)


def ndcg_at(gain: dict[Hashable, float], ranked: Sequence[Hashable], k: int) -> float | None:
    """Normalised discounted cumulative gain with log2(rank + 1); None when no gain is positive."""
    best = sum(g / np.log2(i + 1) for i, g in enumerate(sorted(gain.values(), reverse=True)[:k], 1))
    got = sum(gain.get(name, 0.0) / np.log2(i + 1) for i, name in enumerate(ranked[:k], 1))
    return float(got / best) if best > 0 else None


def most_certain(confidence: ArrayLike, coverage: float) -> Array:
    """Row numbers of the `coverage` share with the highest confidence, ties by row; at least one row."""
    order = np.argsort(-_floats(confidence), kind="stable")
    return order[: max(1, round(coverage * len(order)))]
