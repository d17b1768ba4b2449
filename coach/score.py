"""Rubric arithmetic: verdicts in, score out. Pure functions, no model, nothing that cannot be redone by hand.

    score = 100 · max(0, Σ weight·credit − Σ penalty) / Σ weight

over the *judged* points: an unjudged point leaves the denominator and is never counted as zero. The interval is
exact for independent points that are each covered with their stated probability and criteria that reach each level
with theirs (a Poisson-binomial sum).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from coach.domain import PitfallHit, Score, Status, Verdict

CREDIT = {Status.COVERED: 1.0, Status.PARTIAL: 0.5, Status.MISSING: 0.0, Status.CONTRADICTED: 0.0}
# Below this share of judged weight there is not enough left to call the rest a score.
MIN_JUDGED_SHARE = 0.5


def point_credit(verdict: Verdict) -> float:
    """Credit of a claim in [0, 1]."""
    return CREDIT[verdict.status]


def criterion_credit(verdict: Verdict) -> float:
    """Credit of a criterion in [0, 1]: the reached level over the highest one."""
    if verdict.level is None or not verdict.max_level:
        return 0.0
    return verdict.level / verdict.max_level


KINDS: dict[str, Callable[[Verdict], float]] = {"point": point_credit, "criterion": criterion_credit}


def credit(verdict: Verdict) -> float:
    return KINDS["criterion" if verdict.max_level else "point"](verdict)


def _outcomes(verdict: Verdict) -> dict[float, float]:
    """{what the point may earn: probability}. Outcomes of no mass are left out: nothing is interpolated towards them."""
    weight = float(verdict.weight)
    if verdict.level_probabilities:
        top = len(verdict.level_probabilities) - 1
        return {weight * n / top: p for n, p in enumerate(verdict.level_probabilities) if p > 0}
    # A verdict without a probability (a structured judge without votes, a bare level) is taken at its word.
    p = credit(verdict) if verdict.probability is None or verdict.max_level else verdict.probability
    if verdict.probability is None or verdict.max_level or p in (0.0, 1.0):
        return {weight * p: 1.0}
    return {0.0: 1 - p, weight: p}


def _distribution(verdicts: Iterable[Verdict]) -> list[tuple[float, float]]:
    """Exact distribution of the sum of independent outcomes as sorted (sum, probability)."""
    dist = {0.0: 1.0}
    for verdict in verdicts:
        step: dict[float, float] = {}
        for total, mass in dist.items():
            for earned, p in _outcomes(verdict).items():
                step[total + earned] = step.get(total + earned, 0.0) + mass * p
        dist = step
    return sorted(dist.items())


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
