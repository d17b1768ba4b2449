"""Rubric arithmetic: verdicts in, score out. Pure functions, no model, nothing that cannot be redone by hand.

    score = 100 · max(0, Σ weight·credit − Σ penalty) / Σ weight

over the *judged* points: an unjudged point leaves the denominator and is never counted as zero. The interval is that
of a sum of points that are each covered with their stated probability, and of criteria that reach each level with
theirs. A judge that is too strict with one point of an answer tends to be too strict with the others: their errors
share one normal factor (a one-factor Gaussian copula, Vasicek 2002), which widens the sum and leaves every stated
probability as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import NormalDist

from coach.domain import PitfallHit, Score, Status, Verdict

CREDIT = {Status.COVERED: 1.0, Status.PARTIAL: 0.5, Status.MISSING: 0.0, Status.CONTRADICTED: 0.0}
HALF = 0.5  # from this credit on a point counts as said: for the schedule, follow-ups and evals alike
# How alike the errors within one answer are: the values whose 80 % intervals cover 80 % (eval/README.md).
CORRELATION = {"point": 0.0, "criterion": 0.2}
_NORMAL = NormalDist()
_FACTORS = tuple(
    _NORMAL.inv_cdf((i + 0.5) / 16) for i in range(16)
)  # equally likely values of the shared factor
# Below this share of judged weight there is not enough left to call the rest a score.
MIN_JUDGED_SHARE = 0.5


def point_credit(verdict: Verdict) -> float:
    """Credit of a claim in [0, 1]: a partial one earns the quarter nearest to its probability, a half without one."""
    if verdict.status is Status.PARTIAL and verdict.probability is not None:
        return min(0.75, max(0.25, math.floor(4 * verdict.probability + 0.5) / 4))
    return CREDIT[verdict.status]


def criterion_credit(verdict: Verdict) -> float:
    """Credit of a criterion in [0, 1]: the reached level over the highest one."""
    if verdict.level is None or not verdict.max_level:
        return 0.0
    return verdict.level / verdict.max_level


KINDS: dict[str, Callable[[Verdict], float]] = {"point": point_credit, "criterion": criterion_credit}


def credit(verdict: Verdict) -> float:
    return KINDS["criterion" if verdict.max_level else "point"](verdict)


def _outcomes(verdict: Verdict) -> tuple[list[float], list[float]]:
    """What the point may earn, ascending, and the probability of each outcome."""
    weight = float(verdict.weight)
    if verdict.level_probabilities:
        top = len(verdict.level_probabilities) - 1
        return [weight * n / top for n in range(top + 1)], list(verdict.level_probabilities)
    # A verdict without a probability (a structured judge without votes, a bare level) is taken at its word.
    if verdict.probability is None or verdict.max_level:
        return [weight * credit(verdict)], [1.0]
    return [0.0, weight], [1 - verdict.probability, verdict.probability]


def _given(factor: float, chances: Sequence[float], correlation: float) -> list[float]:
    """The probabilities of ascending outcomes once the factor that the points share is known."""
    at_most, below, out = 0.0, 0.0, []
    for p in chances:
        at_most += p
        if at_most <= 0 or at_most >= 1:
            now = min(1.0, max(0.0, at_most))
        else:
            cut = _NORMAL.inv_cdf(at_most)
            now = _NORMAL.cdf((cut - correlation**0.5 * factor) / (1 - correlation) ** 0.5)
        out.append(now - below)
        below = now
    out[-1] += 1 - below  # stated probabilities are rounded
    return out


def _distribution(verdicts: Iterable[Verdict]) -> list[tuple[float, float]]:
    """Distribution of the sum as sorted (sum, probability): independent sums, averaged over the shared factor.

    Outcomes of no mass are left out: nothing is interpolated towards them.
    """
    known = [(*_outcomes(v), CORRELATION["criterion" if v.max_level else "point"]) for v in verdicts]
    mixed: dict[float, float] = {}
    factors = _FACTORS if any(correlation for *_, correlation in known) else (0.0,)
    for factor in factors:
        dist = {0.0: 1.0}
        for earned, chances, correlation in known:
            step: dict[float, float] = {}
            for more, p in zip(earned, _given(factor, chances, correlation), strict=True):
                if p > 0:
                    for total, mass in dist.items():
                        step[total + more] = step.get(total + more, 0.0) + mass * p
            dist = step
        for total, mass in dist.items():
            mixed[total] = mixed.get(total, 0.0) + mass / len(factors)
    return sorted(mixed.items())


def _quantiles(dist: list[tuple[float, float]], low: float, high: float) -> tuple[float, float]:
    """Mid-distribution quantiles (Ma, Genton & Parzen 2011): linear between support points at F(x) − p(x)/2.

    A step quantile of a few-point sum jumps by whole weights; the mid-quantile does not.
    """
    xs, mids, below = [], [], 0.0
    for x, p in dist:
        xs.append(x)
        mids.append(below + p / 2)
        below += p

    def at(q: float) -> float:
        if q <= mids[0]:
            return xs[0]
        for i in range(1, len(xs)):
            if q <= mids[i]:
                gap = mids[i] - mids[i - 1]
                return xs[i] if gap <= 0 else xs[i - 1] + (xs[i] - xs[i - 1]) * (q - mids[i - 1]) / gap
        return xs[-1]

    return at(low), at(high)


def score(verdicts: Sequence[Verdict], pitfalls: Sequence[PitfallHit] = ()) -> Score | None:
    """None when less than half of the rubric's weight could be judged, or there is nothing to judge."""
    judged = [v for v in verdicts if v.status is not Status.UNJUDGED]
    total = float(sum(v.weight for v in judged))
    everything = sum(v.weight for v in verdicts)
    if not judged or total < MIN_JUDGED_SHARE * everything:
        return None
    terms = tuple(round(v.weight * credit(v), 2) for v in judged)
    penalty = float(sum(p.penalty for p in pitfalls))

    def as_score(earned: float) -> float:
        return round(100 * max(0.0, earned - penalty) / total, 1)

    low, high = _quantiles(_distribution(judged), 0.1, 0.9)
    value = as_score(sum(terms))
    return Score(
        value=value,
        low=min(value, as_score(low)),
        high=max(value, as_score(high)),
        terms=terms,
        penalty=penalty,
        total=total,
    )


def merge(first: Sequence[Verdict], later: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Best verdict per point; a later answer can add to a question but never takes away what was shown."""
    better = {v.point_id: v for v in later}

    def pick(old: Verdict) -> Verdict:
        new = better.get(old.point_id)
        if new is None or new.status is Status.UNJUDGED:
            return old
        return new if old.status is Status.UNJUDGED or credit(new) > credit(old) else old

    return tuple(pick(v) for v in first)
