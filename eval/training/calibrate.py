"""From log-odds to probabilities and verdicts, fitted on eval/answers/dev.jsonl, whose questions the adapter never saw.

A logistic regression turns the readout's log-odds into a probability, for misconceptions together with embedding and
lexical evidence; thresholds are then chosen for the score of whole answers. Free answers are what people write, so they
weigh as much as all tidy tiers together. Figures printed are out of fold by question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from data import Case
from numpy.typing import NDArray

from coach.embed import Embedder
from coach.judge.calibration import Levels
from coach.judge.evidence import Evidence, condense, gather
from coach.judge.pointwise import features

FOLDS = 7
SPARED = 0.85  # of the points not made, so many at least must earn less than half
SEED = 7
STRENGTH = 0.3  # inverse L2 penalty on standardised features
# Evidence features helped on tidy answers and hurt on others: there, a point near in wording was often one negated.
POINT_FEATURES = ("logit",)
# Of all evidence only whether the answer is nearer to the mistake than to its correction: likeness alone accused
# every tenth reference answer of the mistake whose opposite it states in nearly the same words.
PITFALL_FEATURES = ("logit", "contrast")
Array = NDArray[np.float64]


def evidence_of(embedder: Embedder, case: Case) -> list[Evidence]:
    """For every claim, then for every correction, as the judge gathers it."""
    return gather(
        embedder, case.answer, [*case.claims, *case.corrections], frozenset(case.claims[case.points :])
    )


def shown(case: Case, evidence: Sequence[Evidence]) -> str:
    return condense(case.answer, evidence)


@dataclass(frozen=True)
class Rows:
    """One row per (answer, claim): feature dicts and what is known about them."""

    features: list[dict[str, float]]
    label: Array
    weight: Array
    answer: NDArray[np.str_]
    question: NDArray[np.str_]
    tier: NDArray[np.str_]

    @property
    def share(self) -> Array:
        """How much a row counts: all free answers together as much as all others."""
        free = self.tier == "free"
        return np.where(free, (~free).sum() / max(1, free.sum()), 1.0)

    def table(self, names: Sequence[str]) -> Array:
        return np.array([[f[n] for n in names] for f in self.features])


def rows_of(
    cases: list[Case], logits: dict[str, list[float]], evidence: dict[str, list[Evidence]]
) -> tuple[Rows, Rows]:
    """(points, pitfalls) of all cases, claims without a label left out."""
    kept: tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]] = ([], [])
    for case in cases:
        found = evidence[case.id]
        for i, label in enumerate(case.label):
            if np.isnan(label):
                continue
            pitfall = i >= case.points
            right = found[len(case.claims) + i - case.points] if pitfall and case.corrections else None
            contrast = found[i].similarity - right.similarity if right else 0.0
            values = features(found[i], logits[case.id][i], case.answer, contrast)
            kept[pitfall].append((values, label, case.weight[i], case.id, case.question_id, case.tier))
    return _rows(kept[0]), _rows(kept[1])


def _rows(rows: list[tuple[Any, ...]]) -> Rows:
    values, label, weight, answer, question, tier = zip(*rows, strict=True)
    return Rows(
        list(values), np.array(label), np.array(weight), np.array(answer), np.array(question), np.array(tier)
    )


Fitted = tuple[Array, Array, Array, float]  # mean, scale, coefficients, intercept


def fit(x: Array, label: Array, share: Array) -> Fitted:
    """L2-regularised logistic regression on standardised columns; a half label is half a positive, half a negative."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = x.mean(0), np.maximum(x.std(0), 1e-6)
    xs = np.concatenate([(x - mean) / scale] * 2)
    y = np.repeat([1, 0], len(x))
    weight = np.concatenate([label, 1 - label]) * np.tile(share, 2)
    kept = weight > 0
    model = LogisticRegression(C=STRENGTH).fit(xs[kept], y[kept], sample_weight=weight[kept])
    return mean, scale, model.coef_[0], float(model.intercept_[0])


def probability(fitted: Fitted, x: Array) -> Array:
    mean, scale, coefficient, intercept = fitted
    return np.asarray(1 / (1 + np.exp(-((x - mean) / scale @ coefficient + intercept))))


def out_of_fold(x: Array, rows: Rows) -> Array:
    from sklearn.model_selection import GroupKFold

    p = np.zeros(len(x))
    for train, test in GroupKFold(FOLDS, shuffle=True, random_state=SEED).split(x, rows.label, rows.question):
        p[test] = probability(fit(x[train], rows.label[train], rows.share[train]), x[test])
    return p


def credits(p: Array, covered: float, partial: float) -> Array:
    """`coach.score.point_credit` of verdicts by these thresholds."""
    quarters = np.clip(np.floor(4 * p + 0.5) / 4, 0.25, 0.75)
    return np.where(p >= covered, 1.0, np.where(p >= partial, quarters, 0.0))


def scores(rows: Rows, p: Array, covered: float, partial: float) -> tuple[Array, Array, NDArray[np.str_]]:
    """(predicted, gold) score per answer in [0, 1], pitfalls left aside, and the answers' tiers."""
    credit = credits(p, covered, partial)
    _, first, of = np.unique(rows.answer, return_index=True, return_inverse=True)
    total = np.bincount(of, weights=rows.weight)
    pred = np.bincount(of, weights=rows.weight * credit) / total
    gold = np.bincount(of, weights=rows.weight * rows.label) / total
    return pred, gold, rows.tier[first]


def thresholds(rows: Rows, p: Array) -> tuple[float, float]:
    """(covered, partial) that make the score of an answer closest to gold: mean absolute error, that of free answers twice.

    Half the credit for points that were not made would lower that error too; `SPARED` bounds how many get it.
    """
    not_made = p[rows.label < 0.5]
    grid = [
        (c, q)
        for c in np.arange(0.4, 0.76, 0.02)
        for q in np.arange(0.2, 0.56, 0.02)
        if q <= c and (credits(not_made, c, q) < 0.5).mean() >= SPARED
    ]

    def error(pair: tuple[float, float]) -> float:
        pred, gold, tier = scores(rows, p, *pair)
        wrong, free = np.abs(pred - gold), tier == "free"
        return float(2 * wrong[free].mean() + wrong[~free].mean())

    return min(grid, key=error)


def head(names: Sequence[str], fitted: Fitted) -> dict[str, Any]:
    mean, scale, coefficient, intercept = fitted
    return {
        "features": list(names),
        "mean": [round(float(v), 5) for v in mean],
        "scale": [round(float(v), 5) for v in scale],
        "coefficient": [round(float(v), 5) for v in coefficient],
        "intercept": round(intercept, 5),
    }


def auc(label: Array, value: Array) -> float:
    from sklearn.metrics import roc_auc_score

    sure = label != 0.5
    return float(roc_auc_score(label[sure] == 1, value[sure]))


def report(rows: Rows, p: Array, covered: float, partial: float, say: Callable[[str], None] = print) -> None:
    sure = rows.label != 0.5
    said, truth = p[sure] >= covered, rows.label[sure] == 1
    tpr, tnr = said[truth].mean(), (~said[~truth]).mean()
    pred, gold, tier = scores(rows, p, covered, partial)
    say(
        f"points: AUC {auc(rows.label, p):.3f}, balanced accuracy {(tpr + tnr) / 2:.3f}, TPR {tpr:.3f}, TNR {tnr:.3f}"
    )
    say(
        f"answers: r {np.corrcoef(pred, gold)[0, 1]:.3f}, mean absolute error {np.abs(pred - gold).mean():.3f}"
    )
    free = rows.tier[sure] == "free"
    for name, group in (("free", free), ("tidy", ~free)):
        say(f"  {name}: TPR {said[truth & group].mean():.3f}, TNR {1 - said[~truth & group].mean():.3f}")
    for name in np.unique(tier):
        say(f"  {name:16} graded {pred[tier == name].mean():.2f}, gold {gold[tier == name].mean():.2f}")


def fit_levels(logit: Array, share: Array) -> tuple[float, Array]:
    """(slope, cuts) of an ordered logit over thirds, by maximum likelihood; cuts ascend by construction."""
    from scipy.optimize import minimize

    level = np.rint(3 * share).astype(int)

    def unpack(x: Array) -> tuple[float, Array]:
        return float(np.exp(x[0])), np.cumsum([x[1], np.exp(x[2]), np.exp(x[3])])

    def loss(x: Array) -> float:
        slope, cuts = unpack(x)
        chances = Levels(slope, tuple(cuts))
        rows = [chances.probabilities(z, 3)[n] for z, n in zip(logit, level, strict=True)]
        return float(-np.log(np.maximum(rows, 1e-9)).mean() + 0.01 * (slope - 1) ** 2)

    return unpack(minimize(loss, np.zeros(4), method="Nelder-Mead", options={"maxiter": 800}).x)


def levels(
    cases: list[Case], logits: dict[str, list[float]], say: Callable[[str], None] = print
) -> dict[str, Any]:
    """The ordered logit of criteria, fitted on all cases; what is said about it is out of fold by question.

    A criterion is a claim whose label belongs to a level; facts among the claims (labels 0, 0.5, 1) are left out by
    their place: the judge reads them first.
    """
    from sklearn.metrics import cohen_kappa_score
    from sklearn.model_selection import GroupKFold

    flat = [
        (logits[c.id][i], c.label[i], c.weight[i], c.id, c.question_id)
        for c in cases
        for i in range(c.facts, c.points)
    ]
    z, share, weight = (np.array([row[k] for row in flat]) for k in range(3))
    of, question = np.array([row[3] for row in flat]), np.array([row[4] for row in flat])
    mean = np.zeros(len(z))
    for train, test in GroupKFold(FOLDS, shuffle=True, random_state=SEED).split(z, share, question):
        slope, cuts = fit_levels(z[train], share[train])
        chances = Levels(slope, tuple(cuts))
        mean[test] = [np.dot(chances.probabilities(v, 3), range(4)) for v in z[test]]
    got, gold = np.rint(mean).astype(int), np.rint(3 * share).astype(int)
    _, answer = np.unique(of, return_inverse=True)
    total = np.bincount(answer, weights=weight)
    score, truth = (100 * np.bincount(answer, weights=weight * v / 3) / total for v in (got, gold))
    say(
        f"levels of {len(z)} criteria, {len(cases)} answers: same {np.mean(got == gold):.2f}, within one "
        f"{np.mean(abs(got - gold) <= 1):.2f}, QWK {cohen_kappa_score(gold, got, weights='quadratic'):.3f}; answers: r "
        f"{np.corrcoef(score, truth)[0, 1]:.3f}, mean error {np.abs(score - truth).mean():.1f}, bias {np.mean(score - truth):+.1f}"
    )
    slope, cuts = fit_levels(z, share)
    return {"slope": round(slope, 4), "cuts": [round(float(c), 4) for c in cuts]}


def calibration(points: Rows, pitfalls: Rows, ordered: dict[str, Any], fitted_on: str) -> dict[str, Any]:
    """What `coach.judge.calibration` loads; prints the out-of-fold figures it rests on."""
    x, t = points.table(POINT_FEATURES), pitfalls.table(PITFALL_FEATURES)
    p, q = out_of_fold(x, points), out_of_fold(t, pitfalls)
    covered, partial = thresholds(points, p)
    report(points, p, covered, partial)
    # A false accusation costs more trust than a missed trap: at most one honest claim in 200 may be flagged.
    asserted = float(np.quantile(q[pitfalls.label == 0], 0.995))
    caught = (q[pitfalls.label == 1] >= asserted).mean()
    print(
        f"pitfalls: AUC {auc(pitfalls.label, q):.3f}, asserted from {asserted:.2f} up, of which caught {caught:.2f}"
    )
    return {
        "fitted_on": fitted_on,
        "point": head(POINT_FEATURES, fit(x, points.label, points.share)),
        "pitfall": head(PITFALL_FEATURES, fit(t, pitfalls.label, pitfalls.share)),
        "levels": ordered,
        "thresholds": {
            "covered": round(covered, 3),
            "partial": round(partial, 3),
            "asserted": round(asserted, 3),
        },
    }
