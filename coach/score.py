"""Rubric arithmetic: verdicts in, score out. Pure functions, no model, nothing that cannot be redone by hand.

    score = 100 · max(0, Σ weight·credit − Σ penalty) / Σ weight

over the *judged* points: an unjudged point leaves the denominator and is never counted as zero. The interval is
exact for independent points that are each covered with their stated probability (a Poisson-binomial sum).
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


def _distribution(parts: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Exact distribution of Σ weight·Bernoulli(p) as sorted (sum, probability)."""
    dist = {0.0: 1.0}
    for weight, p in parts:
        if p in (0.0, 1.0):  # certain: no second branch, so no point of zero mass to interpolate towards
            dist = {total + weight * p: mass for total, mass in dist.items()}
            continue
        step: dict[float, float] = {}
        for total, mass in dist.items():
            step[total] = step.get(total, 0.0) + mass * (1 - p)
            step[total + weight] = step.get(total + weight, 0.0) + mass * p
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

    parts = []
    for verdict in judged:
        # A verdict without a probability (a criterion, a structured judge without votes) is taken at its word.
        p = (
            verdict.probability
            if verdict.probability is not None and not verdict.max_level
            else credit(verdict)
        )
        parts.append((float(verdict.weight), min(max(p, 0.0), 1.0)))
    low, high = _quantiles(_distribution(parts), 0.1, 0.9)
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
