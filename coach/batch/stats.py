"""What a batch says about answers, questions and points, from one pass over its records in bounded memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coach.batch.records import Record
from coach.domain import Question, Usage

BINS = 10
MOST_REVIEWS = 500
MOST_QUESTIONS = 20_000
# A row whose interval is wider than this (points of 100, half width) is not sure enough to stand alone.
UNSURE = 30.0
_NEAR_HALF = (0.35, 0.65)


@dataclass(slots=True)
class Pair:
    """Running sums of (x, y): mean and Pearson correlation without keeping the values."""

    n: int = 0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    yy: float = 0.0
    xy: float = 0.0

    def add(self, x: float, y: float) -> None:
        self.n += 1
        self.x += x
        self.y += y
        self.xx += x * x
        self.yy += y * y
        self.xy += x * y

    @property
    def mean(self) -> float | None:
        return self.x / self.n if self.n else None

    @property
    def deviation(self) -> float | None:
        """Sample standard deviation of x; None below two values."""
        if self.n < 2:
            return None
        return math.sqrt(max(0.0, self.xx - self.x * self.x / self.n) / (self.n - 1))

    @property
    def correlation(self) -> float | None:
        """None below three values or when one side never varies."""
        if self.n < 3:
            return None
        sx = self.xx - self.x * self.x / self.n
        sy = self.yy - self.y * self.y / self.n
        if sx <= 1e-9 or sy <= 1e-9:
            return None
        return (self.xy - self.x * self.y / self.n) / math.sqrt(sx * sy)


@dataclass(slots=True)
class PointStats:
    """`pair` is (credit, credit of the other points): its mean is the difficulty, its correlation the
    discrimination (item-rest, corrected for overlap)."""

    text: str
    pair: Pair = field(default_factory=Pair)
    statuses: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class QuestionStats:
    id: str
    text: str
    scores: Pair = field(default_factory=Pair)
    statuses: Counter[str] = field(default_factory=Counter)
    points: dict[str, PointStats] = field(default_factory=dict)
    pitfalls: Counter[str] = field(default_factory=Counter)
    pitfall_text: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Review:
    """A row that a person should look at, and why."""

    id: str
    question_id: str
    score: float | None
    reasons: tuple[str, ...]
    quote: str = ""


def review_reasons(record: Record) -> list[str]:
    """Why a person should look: could not be graded, addressed the grader, unsure, or disputed verdicts."""
    if record["status"] == "error":
        return ["没有分数：" + str(record["error"])]
    out = []
    if record["status"] == "unjudged":
        out.append("没有分数：" + (record["note"] or "评分模型没有给出可用的判断"))
    kinds = {f["kind"] for f in record["flags"]}
    if "injection" in kinds:
        out.append("回答里有写给评分者的话")
    if "hidden_text" in kinds:
        out.append("回答里有看不见的文字")
    if record["interval"]:
        low, high = record["interval"]
        half = max(high - record["score"], record["score"] - low)
        if half > UNSURE:
            out.append(f"把握不足：± {half:.0f}")
    total = sum(v["weight"] for v in record["verdicts"]) or 1
    unsure = sum(
        v["weight"]
        for v in record["verdicts"]
        if v["probability"] is not None
        and "level" not in v
        and _NEAR_HALF[0] <= v["probability"] <= _NEAR_HALF[1]
    )
    if 2 * unsure >= total and not any(r.startswith("把握") for r in out):
        out.append("过半要点的判断在两可之间")
    if any(v["status"] == "contradicted" for v in record["verdicts"]):
        out.append("同一句话既像答对又像误区")
    if record["status"] == "ok" and any(v["status"] == "unjudged" for v in record["verdicts"]):
        out.append("有要点没能判断")
    return out


@dataclass(slots=True)
class Stats:
    statuses: Counter[str] = field(default_factory=Counter)
    bins: list[int] = field(default_factory=lambda: [0] * BINS)
    scores: Pair = field(default_factory=Pair)
    errors: Counter[str] = field(default_factory=Counter)
    questions: dict[str, QuestionStats] = field(default_factory=dict)
    reviews: list[Review] = field(default_factory=list)
    review_count: int = 0
    usage: Usage = field(default_factory=Usage)
    most_points: int = 0

    def add(self, record: Record, qkey: str, question: Question | None) -> None:
        status = record["status"]
        self.statuses[status] += 1
        if record["usage"]:
            self.usage += Usage.model_validate(record["usage"])
        if status == "error":
            self.errors[_kind(record["error"])] += 1
        score = record["score"]
        if score is not None:
            self.bins[min(BINS - 1, int(score * BINS / 100))] += 1
            self.scores.add(score, 0.0)
        reasons = review_reasons(record)
        if reasons:
            self.review_count += 1
            if len(self.reviews) < MOST_REVIEWS:
                quote = record["flags"][0]["quote"] if record["flags"] else ""
                self.reviews.append(
                    Review(record["id"], record["question_id"], score, tuple(reasons), quote[:120])
                )
        if question is not None:
            self._add_question(record, qkey, question)

    def _add_question(self, record: Record, qkey: str, question: Question) -> None:
        if qkey not in self.questions:
            if len(self.questions) >= MOST_QUESTIONS:
                return
            made = QuestionStats(question.id, question.question)
            made.points = {p.id: PointStats(p.text) for p in question.rubric}
            made.pitfall_text = {p.id: p.claim for p in question.pitfalls}
            self.questions[qkey] = made
            self.most_points = max(self.most_points, len(question.rubric))
        q = self.questions[qkey]
        q.statuses[record["status"]] += 1
        if record["score"] is not None:
            q.scores.add(record["score"], 0.0)
        earned = [v["weight"] * v["credit"] for v in record["verdicts"] if v["credit"] is not None]
        weights = [v["weight"] for v in record["verdicts"] if v["credit"] is not None]
        for v in record["verdicts"]:
            point = q.points.get(v["point"])
            if point is None:
                continue
            point.statuses[v["status"]] += 1
            if v["credit"] is None:
                continue
            rest_weight = sum(weights) - v["weight"]
            rest = (sum(earned) - v["weight"] * v["credit"]) / rest_weight if rest_weight else 0.0
            point.pair.add(v["credit"], rest)
        for hit in record["pitfalls"]:
            q.pitfalls[hit["pitfall"]] += 1

    def most_missed(self, n: int = 20, least: int = 1) -> list[tuple[QuestionStats, PointStats]]:
        """Points by lowest mean credit, those asked most often first among equals."""
        rows = [(q, p) for q in self.questions.values() for p in q.points.values() if p.pair.n >= least]
        return sorted(rows, key=lambda r: (r[1].pair.mean or 0.0, -r[1].pair.n))[:n]

    def as_dict(self) -> dict[str, Any]:
        return {
            "rows": dict(self.statuses),
            "score": {
                "mean": _round(self.scores.mean),
                "deviation": _round(self.scores.deviation),
                "bins_of_10": self.bins,
            },
            "errors": dict(self.errors.most_common(50)),
            "needs_review": self.review_count,
            "usage": self.usage.model_dump(),
            "questions": [_question(q) for q in self.questions.values()],
        }


def _kind(reason: str) -> str:
    """Reasons that differ only in what stands quoted or counted are one kind."""
    return reason.split(":")[0][:80] if len(reason) > 80 else reason


def _round(x: float | None, digits: int = 2) -> float | None:
    return None if x is None else round(x, digits)


def _question(q: QuestionStats) -> Mapping[str, Any]:
    return {
        "id": q.id,
        "question": q.text,
        "rows": dict(q.statuses),
        "mean": _round(q.scores.mean),
        "deviation": _round(q.scores.deviation),
        "points": {
            pid: {
                "mean_credit": _round(p.pair.mean, 3),
                "discrimination": _round(p.pair.correlation, 3),
                "statuses": dict(p.statuses),
            }
            for pid, p in q.points.items()
        },
        "pitfalls": dict(q.pitfalls),
    }
