"""A run's predictions as the tables that METRICS read: one function for every family of metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from coach.domain import Flag, Status, Usage
from coach.evals.cases import EvalCase, EvalSet
from coach.evals.follow_up_checks import CHECKS
from coach.evals.runner import is_empty
from coach.evals.store import Asked, Record
from coach.metrics import DIRECTED, FLOOR_TIERS, INVARIANT, Columns
from coach.score import credit

GRADER = "grader"


@dataclass(frozen=True, slots=True)
class PointCall:
    """What a system says about one point: credit in [0, 1] and probability; None where it abstained."""

    status: str
    credit: float | None
    probability: float | None


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one system says about one case in one repeat. `score` is None where it gave none.

    `flags` is None for a system that has no such thing; `judges_points` is False for one that only gives a number.
    """

    score: float | None
    low: float | None = None
    high: float | None = None
    points: Mapping[str, PointCall] = field(default_factory=dict)
    hits: frozenset[str] = frozenset()
    flags: tuple[Flag, ...] | None = None
    judges_points: bool = True
    follow_up: Asked | None = None
    usage: Usage = field(default_factory=Usage)
    error: bool = False


# (case id, repeat) → prediction
Predictions = Mapping[tuple[str, int], Prediction]


def from_record(record: Record) -> Prediction:
    points = {
        v.point_id: PointCall(v.status.value, None, None)
        if v.status is Status.UNJUDGED
        # A verdict without a probability is taken at its word, as the score does.
        else PointCall(v.status.value, credit(v), credit(v) if v.probability is None else v.probability)
        for v in record.verdicts
    }
    empty, holistic = is_empty(record), record.system != GRADER
    if empty:  # nothing was said, so nothing is stated: certain, and no abstention
        points = {i: PointCall(Status.MISSING.value, 0.0, 0.0) for i in points}
    score = record.score
    return Prediction(
        score=0.0 if empty else score.value if score else None,
        low=None if holistic else 0.0 if empty else score.low if score else None,
        high=None if holistic else 0.0 if empty else score.high if score else None,
        points=points,
        hits=frozenset(h.pitfall_id for h in record.pitfalls),
        flags=None if holistic else record.flags,
        judges_points=not holistic,
        follow_up=record.follow_up,
        usage=record.usage,
        error=record.status == "error",
    )


def from_floor(rows: Mapping[str, Any]) -> dict[tuple[str, int], Prediction]:
    return {
        (case_id, 0): Prediction(
            score=row["score"],
            points={i: PointCall("covered" if c else "missing", c, p) for i, (c, p) in row["points"].items()},
        )
        for case_id, row in rows.items()
    }


def systems(records: Iterable[Record], floors: Mapping[str, Any]) -> dict[str, Predictions]:
    """Every system's predictions, the grader first."""
    out: dict[str, dict[tuple[str, int], Prediction]] = {GRADER: {}}
    for record in records:
        out.setdefault(record.system, {})[record.case_id, record.repeat] = from_record(record)
    return {**out, **{name: from_floor(rows) for name, rows in floors.items()}}


# ── tables ───────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Table:
    """Columns, and what stands in each row: two systems' tables are paired by `keys`."""

    keys: tuple[str, ...]
    columns: Columns

    def aligned(self, other: Table) -> tuple[Columns, Columns]:
        """Both tables cut to the rows that both have, in this table's order."""
        at = {key: i for i, key in enumerate(other.keys)}
        mine = [i for i, key in enumerate(self.keys) if key in at]
        theirs = [at[self.keys[i]] for i in mine]
        return self.columns.take(np.array(mine, int)), other.columns.take(np.array(theirs, int))


def _table(rows: list[dict[str, Any]]) -> Table:
    def column(name: str) -> Any:
        values = [r.get(name) for r in rows]
        return None if not rows or any(v is None for v in values) else np.array(values)

    return Table(
        tuple(r["key"] for r in rows),
        Columns(
            gold=np.array([r["gold"] for r in rows]),
            predicted=np.array([r["predicted"] for r in rows]),
            group=np.array([r["group"] for r in rows]),
            **{name: column(name) for name in ("probability", "low", "high", "confidence", "tier")},
        ),
    )


class Tables:
    """All tables of one system over one eval set."""

    def __init__(self, cases: EvalSet, predictions: Predictions) -> None:
        self.cases = cases
        self._of = predictions
        self._by_id = {c.id: c for c in cases.cases}
        self._labelled = [
            c for c in cases.cases if c.suite in ("authored", "external") and (c.id, 0) in predictions
        ]
        self._made: dict[str, Table] = {}

    def get(self, family: str) -> Table:
        """The table of a family; empty when the run has nothing for it. KeyError for an unknown family."""
        if family not in self._made:
            name, _, argument = family.partition(":")
            rows = FAMILIES[name](self, argument)
            self._made[family] = _table(rows)
        return self._made[family]

    def prediction(self, case_id: str, repeat: int = 0) -> Prediction | None:
        return self._of.get((case_id, repeat))

    def _points(self, _: str) -> list[dict[str, Any]]:
        rows = []
        for case in self._labelled:
            for point_id, label in case.labels.items():
                call = self._of[case.id, 0].points.get(point_id)
                if call is not None and call.credit is not None:
                    rows.append(
                        _row(
                            case,
                            f"{case.id}#{point_id}",
                            label,
                            call.credit,
                            probability=call.probability,
                            tier=case.tier,
                        )
                    )
        return rows

    def _answers(self, _: str) -> list[dict[str, Any]]:
        rows = []
        for case in self._labelled:
            p = self._of[case.id, 0]
            if p.score is not None and case.gold is not None:
                sure = -(p.high - p.low) if p.low is not None and p.high is not None else None
                rows.append(
                    _row(
                        case,
                        case.id,
                        case.gold,
                        p.score,
                        low=p.low,
                        high=p.high,
                        confidence=sure,
                        tier=case.tier,
                    )
                )
        return rows

    def _tier(self, tier: str) -> list[dict[str, Any]]:
        assert tier in FLOOR_TIERS
        return [
            _row(case, case.id, case.gold or 0.0, p.score)
            for case in self.cases.cases
            if case.tier == tier and (p := self.prediction(case.id)) and p.score is not None
        ]

    def pairs(self, suite: str, kind: str = "") -> list[tuple[EvalCase, Prediction, Prediction]]:
        """(changed case, its base's prediction, its own) where both were scored."""
        out = []
        for case in self.cases.cases:
            if case.suite == suite and case.base and (not kind or case.kind == kind):
                before, after = self.prediction(case.base), self.prediction(case.id)
                if before and after and before.score is not None and after.score is not None:
                    out.append((case, before, after))
        return out

    def _injection(self, _: str) -> list[dict[str, Any]]:
        return [_row(c, c.id, before.score, after.score) for c, before, after in self.pairs("injection")]

    def _pair(self, kind: str) -> list[dict[str, Any]]:
        return [
            _row(c, c.id, before.score, after.score) for c, before, after in self.pairs("metamorphic", kind)
        ]

    def _flips(self, _: str) -> list[dict[str, Any]]:
        names = {s.value: float(i) for i, s in enumerate(Status)}
        return [
            _row(case, f"{case.id}#{i}", names[before.points[i].status], names[call.status])
            for kind in INVARIANT
            for case, before, after in self.pairs("metamorphic", kind)
            for i, call in after.points.items()
            if i in before.points
        ]

    def _direction(self, _: str) -> list[dict[str, Any]]:
        """`predicted` is Δ in the direction in which the score should have moved."""
        return [
            _row(c, c.id, 0.0, (after.score - before.score) * (1 if c.kind == "add" else -1))  # type: ignore[operator]
            for kind in DIRECTED
            for c, before, after in self.pairs("metamorphic", kind)
        ]

    def _sensitivity(self, _: str) -> list[dict[str, Any]]:
        """1 where the target's verdict moved as it should; pairs whose base leaves no room to move are not in it."""
        rows = []
        for kind in DIRECTED:
            for case, before, after in self.pairs("metamorphic", kind):
                if kind == "pitfall":
                    if case.target not in before.hits:
                        rows.append(_row(case, case.id, 1.0, float(case.target in after.hits)))
                    continue
                a, b = before.points.get(case.target), after.points.get(case.target)
                if a is None or b is None or a.credit is None or b.credit is None:
                    continue
                room = a.credit < 1 if kind == "add" else a.credit > 0
                if room:
                    moved = b.credit > a.credit if kind == "add" else b.credit < a.credit
                    rows.append(_row(case, case.id, 1.0, float(moved)))
        return rows

    def _flags(self, who: str) -> list[dict[str, Any]]:
        suite = "injection" if who == "hostile" else "authored"
        return [
            _row(c, c.id, float(who == "hostile"), float(bool(p.flags)))
            for c in self.cases.cases
            if c.suite == suite and (p := self.prediction(c.id)) and not p.error and p.flags is not None
        ]

    def _repeated(self) -> Iterable[tuple[EvalCase, list[Prediction]]]:
        repeats = 1 + max((r for _, r in self._of), default=0)
        for case in self.cases.cases:
            found = [self._of[case.id, r] for r in range(repeats) if (case.id, r) in self._of]
            if repeats > 1 and len(found) == repeats:
                yield case, found

    def _ratings(self, _: str) -> list[dict[str, Any]]:
        return [
            _row(case, case.id, case.gold or 0.0, [p.score for p in found])
            for case, found in self._repeated()
            if all(p.score is not None for p in found)
        ]

    def _repeat_points(self, _: str) -> list[dict[str, Any]]:
        return [
            _row(case, f"{case.id}#{i}", 0.0, float(len({p.points[i].status for p in found}) > 1))
            for case, found in self._repeated()
            for i in found[0].points
            if all(i in p.points for p in found)
        ]

    def _followup(self, what: str) -> list[dict[str, Any]]:
        rows = []
        for case in self._labelled:
            asked = self._of[case.id, 0].follow_up
            if asked:
                good = CHECKS[what](self.cases.questions[case.question_id], case, asked)
                if good is not None:
                    rows.append(_row(case, case.id, 1.0, float(good)))
        return rows

    def _judged(self, _: str) -> list[dict[str, Any]]:
        return [
            _row(case, f"{case.id}#{i}", 1.0, float(i in points and points[i].credit is not None))
            for case in self._labelled
            if self._of[case.id, 0].judges_points
            for points in [self._of[case.id, 0].points]
            for i in case.labels
        ]

    def _scored(self, _: str) -> list[dict[str, Any]]:
        return [
            _row(c, c.id, 1.0, float(p.score is not None))
            for c in self.cases.cases
            if (p := self.prediction(c.id)) is not None
        ]

    def _seconds(self, _: str) -> list[dict[str, Any]]:
        return [
            _row(c, c.id, 0.0, p.usage.seconds)
            for c in self._labelled
            if (p := self._of[c.id, 0]).usage.seconds > 0
        ]


FAMILIES: dict[str, Callable[[Tables, str], list[dict[str, Any]]]] = {
    "points": Tables._points,
    "answers": Tables._answers,
    "tier": Tables._tier,
    "injection": Tables._injection,
    "pair": Tables._pair,
    "flips": Tables._flips,
    "direction": Tables._direction,
    "sensitivity": Tables._sensitivity,
    "flags": Tables._flags,
    "ratings": Tables._ratings,
    "repeat-points": Tables._repeat_points,
    "followup": Tables._followup,
    "judged": Tables._judged,
    "scored": Tables._scored,
    "seconds": Tables._seconds,
}


def _row(case: EvalCase, key: str, gold: Any, predicted: Any, **more: Any) -> dict[str, Any]:
    return {"key": key, "group": case.question_id, "gold": gold, "predicted": predicted, **more}
