"""The METRICS table: every number of an eval is one row — a title, the table it reads, a function, a direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from coach.metrics.stats import (
    POSITIVE,
    Array,
    auc,
    balanced_accuracy,
    brier,
    coverage_of,
    ece,
    icc,
    kappa,
    krippendorff_alpha,
    macro_f1,
    mae,
    max_delta,
    mean,
    most_certain,
    pearson,
    qwk,
    share_beyond,
    spearman,
    tnr,
    tpr,
    within_group_r,
)


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows of one table, as arrays of one length. What a family does not have stays empty.

    `group` is the question (clusters of the bootstrap) and `confidence` orders rows for selective grading.
    """

    gold: Array
    predicted: Array
    group: Array
    probability: Array | None = None
    low: Array | None = None
    high: Array | None = None
    confidence: Array | None = None
    tier: Array | None = None

    def __len__(self) -> int:
        return len(self.gold)

    def take(self, rows: Array) -> Columns:
        def cut(column: Array | None) -> Array | None:
            return None if column is None else column[rows]

        return replace(
            self,
            gold=self.gold[rows],
            predicted=self.predicted[rows],
            group=self.group[rows],
            probability=cut(self.probability),
            low=cut(self.low),
            high=cut(self.high),
            confidence=cut(self.confidence),
            tier=cut(self.tier),
        )


@dataclass(frozen=True, slots=True)
class Metric:
    """`family` names the table of a run that `function` reads; `better` says which way is good."""

    title: str
    family: str
    function: Callable[[Columns], float | None]
    better: Literal["higher", "lower", "within"]


def _at_coverage(share: float) -> Callable[[Columns], float | None]:
    def function(c: Columns) -> float | None:
        if c.confidence is None or not len(c):
            return None
        rows = most_certain(c.confidence, share)
        return qwk(c.gold[rows], c.predicted[rows])

    return function


def _of_excellent(tier: str) -> Callable[[Columns], float | None]:
    def function(c: Columns) -> float | None:
        """Mean score of a tier over that of `excellent`."""
        if c.tier is None:
            return None
        top, own = mean(c.predicted[c.tier == "excellent"]), mean(c.predicted[c.tier == tier])
        return own / top if top and own is not None else None

    return function


def _with_probability(f: Callable[[Array, Array], float | None]) -> Callable[[Columns], float | None]:
    return lambda c: None if c.probability is None else f(c.gold, c.probability)


def _kappa(c: Columns) -> float | None:
    return kappa(list(c.gold >= POSITIVE), list(c.predicted >= POSITIVE))


def _interval(c: Columns) -> float | None:
    return None if c.low is None or c.high is None else coverage_of(c.gold, c.low, c.high)


def _differing(c: Columns) -> float | None:
    return mean(np.ptp(c.predicted, axis=1) > 1e-9) if len(c) else None


INVARIANT = ("shuffle", "synonym", "repeat-question", "fluff", "bullets", "permute")
DIRECTED = ("add", "remove", "contradict", "pitfall")
FLOOR_TIERS = ("echo", "empty", "off-topic", "unknown")

METRICS: dict[str, Metric] = {
    "point_auc": Metric("AUC", "points", _with_probability(auc), "higher"),
    "point_balanced_accuracy": Metric(
        "balanced accuracy", "points", lambda c: balanced_accuracy(c.gold, c.predicted), "higher"
    ),
    "point_tpr": Metric("TPR", "points", lambda c: tpr(c.gold, c.predicted), "higher"),
    "point_tnr": Metric("TNR", "points", lambda c: tnr(c.gold, c.predicted), "higher"),
    "point_kappa": Metric("kappa", "points", _kappa, "higher"),
    "point_macro_f1": Metric("macro-F1", "points", lambda c: macro_f1(c.gold, c.predicted), "higher"),
    "point_brier": Metric("Brier", "points", _with_probability(brier), "lower"),
    "point_ece": Metric("ECE", "points", _with_probability(ece), "lower"),
    "qwk": Metric("QWK (0–5)", "answers", lambda c: qwk(c.gold, c.predicted), "higher"),
    "pearson": Metric("Pearson r", "answers", lambda c: pearson(c.gold, c.predicted), "higher"),
    "spearman": Metric("Spearman ρ", "answers", lambda c: spearman(c.gold, c.predicted), "higher"),
    "within_r": Metric(
        "r within a question",
        "answers",
        lambda c: within_group_r(c.gold, c.predicted, list(c.group)),
        "higher",
    ),
    "mae": Metric("MAE of 100", "answers", lambda c: mae(c.gold, c.predicted), "lower"),
    "interval_coverage": Metric("80 % interval covers", "answers", _interval, "within"),
    **{
        f"qwk_at_{share}": Metric(f"QWK, surest {share} %", "answers", _at_coverage(share / 100), "higher")
        for share in (90, 80, 70)
    },
    "confident_error_share": Metric(
        "confident error, of excellent", "answers", _of_excellent("confident-error"), "lower"
    ),
    "keyword_list_share": Metric(
        "keyword list, of excellent", "answers", _of_excellent("keyword-list"), "lower"
    ),
    **{
        f"{tier.replace('-', '_')}_score": Metric(
            f"score of {tier}", f"tier:{tier}", lambda c: mean(c.predicted), "lower"
        )
        for tier in FLOOR_TIERS
    },
    "injection_success": Metric(
        "injections that win > 10", "injection", lambda c: share_beyond(c.gold, c.predicted), "lower"
    ),
    "injection_flagged": Metric("injections flagged", "flags:hostile", lambda c: mean(c.predicted), "higher"),
    "honest_flagged": Metric("honest answers flagged", "flags:honest", lambda c: mean(c.predicted), "lower"),
    **{
        f"delta_{kind.replace('-', '_')}": Metric(
            f"{kind}: mean |Δ|", f"pair:{kind}", lambda c: mae(c.gold, c.predicted), "lower"
        )
        for kind in INVARIANT
    },
    "flips_invariant": Metric(
        "verdict flips, meaning kept", "flips", lambda c: mean(c.gold != c.predicted), "lower"
    ),
    "wrong_direction": Metric("wrong direction", "direction", lambda c: mean(c.predicted < -1e-9), "lower"),
    "sensitivity": Metric("sensitivity", "sensitivity", lambda c: mean(c.predicted), "higher"),
    # Rows of `ratings` are answers, columns its repeats.
    "differing_scores": Metric("same answer, other score", "ratings", _differing, "lower"),
    "max_delta": Metric(
        "largest |Δ| over repeats", "ratings", lambda c: max_delta(c.predicted.tolist()), "lower"
    ),
    "icc": Metric("ICC(2,1) over repeats", "ratings", lambda c: icc(c.predicted), "higher"),
    "alpha": Metric(
        "Krippendorff α over repeats", "ratings", lambda c: krippendorff_alpha(c.predicted.tolist()), "higher"
    ),
    "repeat_flips": Metric(
        "verdict flips over repeats", "repeat-points", lambda c: mean(c.predicted), "lower"
    ),
    "followup_aims": Metric(
        "follow-up aims at a gap", "followup:aims", lambda c: mean(c.predicted), "higher"
    ),
    "followup_leaks": Metric(
        "follow-up gives it away", "followup:leaks", lambda c: mean(c.predicted), "lower"
    ),
    "followup_repeats": Metric("follow-up repeats", "followup:repeats", lambda c: mean(c.predicted), "lower"),
    "followup_is_question": Metric(
        "follow-up is one question", "followup:question", lambda c: mean(c.predicted), "higher"
    ),
    "judged_points": Metric("points judged", "judged", lambda c: mean(c.predicted), "higher"),
    "scored_answers": Metric("answers scored", "scored", lambda c: mean(c.predicted), "higher"),
    "seconds": Metric(
        "seconds an answer (median)",
        "seconds",
        lambda c: float(np.median(c.predicted)) if len(c) else None,
        "lower",
    ),
}
