"""Every statistic against an expectation derived by hand (in the comments), and against a library where one exists."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coach.metrics import METRICS, Columns, estimate, paired
from coach.metrics import stats as s

G = [1, 1, 0.5, 0, 0, 0]
P = [1, 0, 0.5, 0, 1, 0]


def test_two_classes_by_hand() -> None:
    # positive gold: rows 0 1 2, found 0 2 → 2/3; negative: 3 4 5, left alone 3 5 → 2/3
    assert s.tpr(G, P) == pytest.approx(2 / 3)
    assert s.tnr(G, P) == pytest.approx(2 / 3)
    assert s.balanced_accuracy(G, P) == pytest.approx(2 / 3)
    # both classes: TP 2, gold 3 + predicted 3 → F1 = 4/6
    assert s.macro_f1(G, P) == pytest.approx(2 / 3)
    assert s.tpr([0, 0], [1, 0]) is None and s.tnr([1], [1]) is None
    assert s.balanced_accuracy([1, 1], [1, 0]) is None and s.macro_f1([1, 1], [1, 0]) is None


def test_auc_by_hand() -> None:
    # pairs (positive, negative): .9>.8 .9>.1 .4<.8 .4>.1 → 3 of 4
    assert s.auc([1, 0, 1, 0], [0.9, 0.8, 0.4, 0.1]) == pytest.approx(0.75)
    assert s.auc([1, 0], [0.5, 0.5]) == pytest.approx(0.5)  # a tie is one half
    assert s.auc([1, 1], [0.1, 0.9]) is None


def test_calibration_by_hand() -> None:
    # (.1² + .5² + .2²)/3 = (.01 + .25 + .04)/3
    assert s.brier([1, 0.5, 0], [0.9, 1.0, 0.2]) == pytest.approx(0.1)
    # two bins of two: p̄ .15 against ȳ 0, p̄ .85 against ȳ .5 → ½·.15 + ½·.35
    assert s.ece([0, 0, 1, 0], [0.1, 0.2, 0.8, 0.9], bins=2) == pytest.approx(0.25)
    assert s.ece([], []) is None and s.brier([], []) is None
    assert s.reliability([1], [0.7]) == [(0.7, 1.0, 1)]


def test_kappa_by_hand() -> None:
    # Cohen 1960 in small: 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no → p_o .7, p_e .5·.6 + .5·.4 = .5 → .4
    a = ["y"] * 25 + ["n"] * 25
    b = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert s.kappa(a, b) == pytest.approx(0.4)
    assert s.kappa(["y"], ["y"]) is None and s.kappa([], []) is None
    # Quadratic: marks (0,0) (0,1) (2,2): observed cost 1/3;
    # gold 0:⅔ 2:⅓, predicted 0,1,2: ⅓ each → ⅔·⅓·(0+1+4) + ⅓·⅓·(4+1+0) = 10/9 + 5/9 = 15/9 → 1 − (1/3)/(5/3) = .8
    assert s.kappa([0, 0, 2], [0, 1, 2], "quadratic") == pytest.approx(0.8)


def test_marks_round_halves_up() -> None:
    assert s.marks([0, 9.9, 10, 30, 50, 99, 100]) == [0, 0, 1, 2, 3, 5, 5]
    assert s.qwk([0, 40, 100], [0, 40, 100]) == pytest.approx(1.0)
    assert s.qwk([0, 40, 100], [50, 50, 50]) == pytest.approx(0.0)  # a constant agrees by chance only


def test_correlation_by_hand() -> None:
    # x −1 0 1, y −1 1 0 (centred) → cov 1, norms √2·√2 → .5
    assert s.pearson([1, 2, 3], [0, 2, 1]) == pytest.approx(0.5)
    assert s.pearson([1, 2, 3], [5, 5, 5]) is None and s.pearson([1], [1]) is None
    assert s.spearman([1, 2, 3], [1, 10, 100]) == pytest.approx(1.0)
    assert s.spearman([1, 2, 2, 3], [1, 2, 2, 3]) == pytest.approx(1.0)
    assert s.mae([0, 50], [10, 30]) == pytest.approx(15)


def test_within_a_question_by_hand() -> None:
    # a: r = 1; b: r = −1; c: constant gold, left out; d: constant prediction counts 0; e: too few → (1 − 1 + 0)/3
    gold = [1, 2, 3, 1, 2, 3, 5, 5, 5, 1, 2, 3, 1, 9]
    predicted = [1, 2, 3, 3, 2, 1, 1, 2, 3, 7, 7, 7, 1, 9]
    group = list("aaabbbcccdddee")
    assert s.within_group_r(gold, predicted, group) == pytest.approx(0.0)
    assert s.within_group_r([1, 1], [1, 1], ["a", "a"]) is None
    # Pooled r can be high while nothing is told apart inside a question.
    assert s.within_group_r([0, 1, 0, 9, 8, 9], [0, 0, 0, 9, 9, 9], list("aaabbb")) == 0.0


def test_pairs_and_intervals_by_hand() -> None:
    assert s.share_beyond([0, 50, 50], [11, 60, 20]) == pytest.approx(1 / 3)  # exactly 10 is no success
    assert s.coverage_of([5, 5, 5], [0, 6, 5], [4, 9, 5]) == pytest.approx(1 / 3)


def test_repeats_by_hand() -> None:
    assert s.flip_rate([["a", "a"], ["a", "b"], ["c"]]) == pytest.approx(0.5)
    assert s.flip_rate([["a"]]) is None
    assert s.max_delta([[3, 3], [1, 5, 2], [100]]) == 4
    assert s.max_delta([]) is None


def test_icc_of_shrout_and_fleiss() -> None:
    # Table 2 and 4 of Shrout & Fleiss 1979: ICC(2,1) = .29
    ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert s.icc(ratings) == pytest.approx(0.2898, abs=5e-4)
    assert s.icc([[1, 1], [5, 5]]) == pytest.approx(1.0)
    assert s.icc([[1, 1], [1, 1]]) is None and s.icc([[1, 2]]) is None


def test_alpha_by_hand() -> None:
    # units (0,0) (0,2): observed = (0 + 8)/1/4 = 2 with Σ ordered (a−b)² = 2·4 = 8 for unit 2;
    # expected over 0 0 0 2: ordered pairs 2·3·4 = 24 → 24/12 = 2 → alpha 0
    assert s.krippendorff_alpha([[0, 0], [0, 2]]) == pytest.approx(0.0)
    assert s.krippendorff_alpha([[1, 1], [3, 3], [None, 2]]) == pytest.approx(1.0)
    assert s.krippendorff_alpha([[1, None], [2]]) is None and s.krippendorff_alpha([[1, 1]]) is None
    # Krippendorff 2011, worked example C, interval data with gaps: alpha = .849
    rows = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    assert s.krippendorff_alpha(list(zip(*rows, strict=True))) == pytest.approx(0.849, abs=1e-3)


def test_retrieval_by_hand() -> None:
    assert s.recall_at({"a", "b"}, ["x", "a", "b"], 2) == 0.5
    assert s.recall_at(set(), ["a"], 1) is None
    assert s.reciprocal_rank({"a"}, ["x", "a"]) == 0.5 and s.reciprocal_rank({"a"}, []) == 0.0
    # gains 3 and 1 found at ranks 2 and 1: 1/1 + 3/log2(3) against 3/1 + 1/log2(3)
    want = (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))
    assert s.ndcg_at({"a": 3, "b": 1}, ["b", "a"], 5) == pytest.approx(want)
    assert s.ndcg_at({}, ["a"], 3) is None


def test_selection_keeps_the_surest() -> None:
    assert sorted(s.most_certain([0.1, 0.9, 0.5, 0.7], 0.5)) == [1, 3]


rows = st.lists(
    st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1, allow_subnormal=False)),
    min_size=2,
    max_size=40,
)


@given(rows)
@settings(max_examples=60, deadline=None)
def test_the_same_numbers_as_scikit_learn_and_scipy(data: list[tuple[float, float]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    stats = pytest.importorskip("scipy.stats")
    gold, p = np.array([g for g, _ in data]), np.round([x for _, x in data], 3)
    positive, said = gold >= 0.5, p >= 0.5
    if 0 < positive.sum() < len(gold):
        assert s.auc(gold, p) == pytest.approx(metrics.roc_auc_score(positive, p))
        assert s.balanced_accuracy(gold, p) == pytest.approx(metrics.balanced_accuracy_score(positive, said))
        assert s.macro_f1(gold, p) == pytest.approx(
            metrics.f1_score(positive, said, average="macro", zero_division=0)
        )
        mine, theirs = s.kappa(list(positive), list(said)), metrics.cohen_kappa_score(positive, said)
        assert mine == pytest.approx(theirs)
    marks = s.marks(100 * gold), s.marks(100 * p)
    if (mine := s.qwk(100 * gold, 100 * p)) is not None:
        theirs = metrics.cohen_kappa_score(*marks, weights="quadratic", labels=list(range(6)))
        assert mine == pytest.approx(theirs)
    if np.ptp(gold) > 0 and np.ptp(p) > 0:
        assert s.spearman(gold, p) == pytest.approx(stats.spearmanr(gold, p).statistic)
        assert s.pearson(gold, p) == pytest.approx(stats.pearsonr(gold, p).statistic)


def table(gold: list[float], predicted: list[float], group: list[str]) -> Columns:
    return Columns(np.array(gold), np.array(predicted), np.array(group))


def test_the_bootstrap_draws_questions_not_rows() -> None:
    # Two questions, wholly right and wholly wrong: the mean error of a resample is 0, ½ or 1 times 10 and nothing else.
    t = table([0] * 20, [0] * 10 + [10] * 10, ["a"] * 10 + ["b"] * 10)
    seen = set()
    found = estimate(t, lambda c: seen.add(s.mae(c.gold, c.predicted)) or s.mae(c.gold, c.predicted))  # type: ignore[func-returns-value]
    assert seen == {0.0, 5.0, 10.0}
    assert (found.value, found.low, found.high, found.rows, found.groups) == (5.0, 0.0, 10.0, 20, 2)


def test_a_question_drawn_twice_counts_twice() -> None:
    # r = 1 in one question and −1 in the other: the mean over a resample's two draws is 1, 0 or −1.
    t = table([1, 2, 3, 1, 2, 3], [1, 2, 3, 3, 2, 1], ["a"] * 3 + ["b"] * 3)
    seen: dict[float | None, int] = {}

    def r(c: Columns) -> float | None:
        value = s.within_group_r(c.gold, c.predicted, list(c.group))
        assert len(set(c.group)) == 2
        seen[value] = seen.get(value, 0) + 1
        return value

    estimate(t, r, 400)
    assert sorted(round(v) for v in seen if v is not None) == [-1, 0, 1]


def test_an_interval_needs_two_questions_and_a_value_needs_rows() -> None:
    assert estimate(table([1, 2], [1, 3], ["a", "a"]), lambda c: s.mae(c.gold, c.predicted)).low is None
    assert estimate(table([], [], []), lambda c: s.mae(c.gold, c.predicted)).value is None


def test_pairing_cancels_what_the_questions_share() -> None:
    rng = np.random.default_rng(0)
    hard = np.repeat(rng.normal(0, 30, 20), 5)
    group = [f"q{i // 5}" for i in range(100)]
    first = Columns(np.zeros(100), hard, np.array(group))
    second = Columns(np.zeros(100), hard + 2, np.array(group))
    found = paired(first, second, lambda c: s.mean(c.predicted))
    assert (
        found.value == pytest.approx(2) and found.low == pytest.approx(2) and found.high == pytest.approx(2)
    )
    with pytest.raises(ValueError, match="same items"):
        paired(first, second.take(np.arange(50)), lambda c: s.mean(c.predicted))


# For every metric: one table on which it is best, and one with an injected fault on which it must be worse.
N = 12
GOLD = np.array([0.0, 0.5, 1.0, 0.0, 1.0, 1.0] * 2)
GROUP = np.array(["a"] * 6 + ["b"] * 6)
TIER = np.array(["excellent", "confident-error", "keyword-list"] * 4)


def _columns(gold: np.ndarray, predicted: np.ndarray, probability: np.ndarray, wide: float) -> Columns:
    return Columns(
        gold,
        predicted,
        GROUP,
        probability=probability,
        low=gold - 5 + wide,
        high=gold + 5 + wide,
        confidence=np.arange(N, dtype=float),
        tier=TIER,
    )


def _good_and_bad(name: str) -> tuple[Columns, Columns]:
    family = METRICS[name].family
    flipped = np.where(np.arange(N) % 4 == 0, 1 - GOLD, GOLD)
    if family == "points":
        return _columns(GOLD, GOLD, GOLD, 0), _columns(GOLD, flipped, flipped * 0.9, 0)
    if family == "answers":
        scores = 100 * GOLD
        tiers = np.where(TIER == "excellent", 90.0, 0.0)
        raised = np.where(TIER == "excellent", 90.0, 80.0)
        if name.endswith("_share"):
            return _columns(scores, tiers, GOLD, 0), _columns(scores, raised, GOLD, 0)
        return _columns(scores, scores, GOLD, 0), _columns(scores, 100 * flipped, GOLD, 50)
    zeros, ones = np.zeros(N), np.ones(N)
    if family.startswith("pair:") or family == "injection":
        return _columns(zeros, zeros, GOLD, 0), _columns(zeros, zeros + 30, GOLD, 0)
    if family == "ratings":
        same = np.stack([100 * GOLD, 100 * GOLD], axis=1)
        other = np.stack([100 * GOLD, 100 * flipped], axis=1)
        return _columns(zeros, same, GOLD, 0), _columns(zeros, other, GOLD, 0)
    if family == "flips":
        return _columns(ones, ones, GOLD, 0), _columns(ones, flipped, GOLD, 0)
    if family == "direction":
        return _columns(zeros, ones, GOLD, 0), _columns(zeros, -ones, GOLD, 0)
    low, high = _columns(zeros, zeros, GOLD, 0), _columns(zeros, ones, GOLD, 0)
    return (low, high) if METRICS[name].better == "lower" else (high, low)


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_sees_an_injected_fault(name: str) -> None:
    metric = METRICS[name]
    good, bad = (metric.function(t) for t in _good_and_bad(name))
    assert good is not None and bad is not None
    assert bad > good if metric.better == "lower" else bad < good
    empty = table([], [], [])
    assert metric.function(empty) is None  # never NaN
