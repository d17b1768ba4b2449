"""Arithmetic written out by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coach import score as arithmetic
from coach.domain import PitfallHit, Quote, Status, Verdict
from coach.score import merge, score


def verdict(status: Status, weight: int = 1, p: float | None = None, **more: object) -> Verdict:
    return Verdict.model_validate(
        {
            "point_id": str(more.pop("id", "x")),
            "text": "t",
            "weight": weight,
            "status": status,
            "probability": p,
            **more,
        }
    )


def hit(penalty: int) -> PitfallHit:
    return PitfallHit(
        pitfall_id="p", claim="c", correction="k", penalty=penalty, quote=Quote(text="c", start=0, end=1)
    )


C, P, M, X, U = Status.COVERED, Status.PARTIAL, Status.MISSING, Status.CONTRADICTED, Status.UNJUDGED


def test_weighted_sum() -> None:
    # (2·1 + 2·0.5 + 1·0) / 5 = 3/5
    got = score([verdict(C, 2), verdict(P, 2), verdict(M, 1)])
    assert got and got.value == 60.0 and got.terms == (2, 1, 0) and got.total == 5


@pytest.mark.parametrize(
    ("probability", "earned"),
    [
        (None, 0.5),
        (0.05, 0.25),
        (0.2, 0.25),
        (0.37, 0.25),
        (0.375, 0.5),
        (0.6, 0.5),
        (0.63, 0.75),
        (0.99, 0.75),
    ],
)
def test_a_partial_point_earns_the_nearest_quarter(probability: float | None, earned: float) -> None:
    got = score([verdict(P, 2, probability), verdict(M, 2)])
    assert got and got.terms == (2 * earned, 0) and got.value == 50 * earned


def test_penalty_is_subtracted_and_the_floor_is_zero() -> None:
    assert score([verdict(C, 2), verdict(M, 2)], [hit(1)]).value == 25.0  # type: ignore[union-attr]  # (2 − 1) / 4
    assert score([verdict(M, 2)], [hit(1)]).value == 0.0  # type: ignore[union-attr]


def test_unjudged_leaves_the_denominator() -> None:
    got = score([verdict(C, 2), verdict(U, 1), verdict(M, 2)])
    assert got and got.value == 50.0 and got.total == 4


def test_no_score_when_less_than_half_could_be_judged() -> None:
    assert score([verdict(C, 1), verdict(U, 2)]) is None
    assert score([]) is None


def test_contradicted_earns_nothing() -> None:
    assert score([verdict(X, 3), verdict(C, 1)]).value == 25.0  # type: ignore[union-attr]


def test_criterion_credit_is_level_over_top() -> None:
    # 2·(2/3) + 1·(3/3) = 2.33 of 3
    got = score([verdict(P, 2, level=2, max_level=3), verdict(C, 1, level=3, max_level=3)])
    assert got and got.value == pytest.approx(77.7, abs=0.1)


def test_interval_of_a_criterion_comes_from_its_levels() -> None:
    bare = score([verdict(P, 2, 0.5, level=1, max_level=2)])
    assert bare and (bare.low, bare.value, bare.high) == (50, 50, 50)
    sure = score([verdict(P, 2, 0.5, level=1, max_level=2, level_probabilities=(0.0, 1.0, 0.0))])
    assert sure == bare
    # Mid-quantiles of {0: .25, 1: .5, 2: .25}: F − p/2 is .125, .5, .875, so 10 % lies below the first support point.
    unsure = score([verdict(P, 2, 0.5, level=1, max_level=2, level_probabilities=(0.25, 0.5, 0.25))])
    assert unsure and (unsure.low, unsure.value, unsure.high) == (0, 50, 100)


def test_errors_of_one_answer_go_together_and_keep_what_each_criterion_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    either = verdict(P, 1, 0.5, level=1, max_level=1, level_probabilities=(0.5, 0.5))
    monkeypatch.setitem(arithmetic.CORRELATION, "criterion", 0.3)
    none, one, both = (p for _, p in arithmetic._distribution([either, either]))
    # Two standard normals of correlation r are both positive with probability 1/4 + asin(r)/2π (Sheppard 1899).
    assert both == pytest.approx(none)
    assert both == pytest.approx(0.25 + math.asin(0.3) / (2 * math.pi), abs=0.005)
    assert one / 2 + both == pytest.approx(0.5)
    together = score([either] * 4)
    monkeypatch.setitem(arithmetic.CORRELATION, "criterion", 0.0)
    alone = score([either] * 4)
    assert together and alone and together.half_width > alone.half_width


def test_interval_of_certain_verdicts_has_no_width() -> None:
    got = score([verdict(C, 2, 1.0), verdict(M, 2, 0.0)])
    assert got and (got.low, got.value, got.high) == (50, 50, 50)


def test_interval_grows_with_doubt() -> None:
    sure = score([verdict(C, 1, 0.99)] * 4)
    unsure = score([verdict(C, 1, 0.7)] * 4)
    assert sure and unsure and sure.half_width < unsure.half_width


@given(
    st.lists(
        st.tuples(st.sampled_from([C, P, M, X, U]), st.integers(1, 3), st.floats(0, 1)),
        min_size=1,
        max_size=7,
    ),
    st.integers(0, 3),
)
def test_score_is_always_readdable_and_inside_its_interval(
    rows: list[tuple[Status, int, float]], penalty: int
) -> None:
    got = score([verdict(s, w, p) for s, w, p in rows], [hit(penalty)] if penalty else [])
    if got is None:
        return
    assert got.value == pytest.approx(100 * max(0, sum(got.terms) - got.penalty) / got.total, abs=0.051)
    assert 0 <= got.low <= got.value <= got.high <= 100


def test_merge_keeps_the_best_verdict_of_each_point() -> None:
    first = [verdict(M, id="a"), verdict(C, id="b"), verdict(U, id="c"), verdict(P, id="d")]
    later = [verdict(P, id="a"), verdict(M, id="b"), verdict(M, id="c"), verdict(U, id="d")]
    assert [v.status for v in merge(first, later)] == [P, C, M, P]
