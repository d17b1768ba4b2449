"""What a grade must beat: a constant, the length, shared words, embedding similarity, and one holistic prompt.

The first four are ridge regressions on a few features, fitted on other questions' gold labels only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coach.config import Settings
from coach.domain import Question, Score
from coach.embed import Embedder, cosine
from coach.errors import LLMUnreadable
from coach.evals.cases import EvalCase
from coach.evals.store import Record
from coach.judge.evidence import log_length
from coach.llm import LLM
from coach.metrics.stats import balanced_accuracy
from coach.prompts import Prompt, load_prompt
from coach.text import neutralise, sentences, term_recall

Array = np.ndarray[Any, Any]
RIDGE = 1.0
_FOLDS = 10
_SEEN = 1200  # characters an embedder reads of a text
_LEAVE_ONE_OUT = 20  # up to this many questions each is a fold of its own


# ── features ─────────────────────────────────────────────────────────────────────────────────────
def _bigrams(text: str) -> dict[str, int]:
    squeezed = re.sub(r"\s+", "", text.lower())
    counts: dict[str, int] = {}
    for i in range(len(squeezed) - 1):
        counts[squeezed[i : i + 2]] = counts.get(squeezed[i : i + 2], 0) + 1
    return counts


def bigram_cosine(a: str, b: str) -> float:
    """Cosine of character-bigram counts, in [0, 1]."""
    x, y = _bigrams(a), _bigrams(b)
    norm = np.sqrt(sum(v * v for v in x.values()) * sum(v * v for v in y.values()))
    return float(sum(v * y.get(k, 0) for k, v in x.items()) / norm) if norm else 0.0


def _weighted(question: Question, values: Sequence[float]) -> float:
    weights = [p.weight for p in question.rubric]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


@dataclass(frozen=True, slots=True)
class Features:
    """`answer` describes the whole answer, `points` each rubric point in order; every row has one length."""

    answer: tuple[float, ...]
    points: tuple[tuple[float, ...], ...]


def _constant(question: Question, answer: str, embedder: Embedder) -> Features:
    return Features((0.0,), tuple((0.0,) for _ in question.rubric))


def _length(question: Question, answer: str, embedder: Embedder) -> Features:
    row = (log_length(answer),)
    return Features(row, tuple(row for _ in question.rubric))


def _lexical(question: Question, answer: str, embedder: Embedder) -> Features:
    length = log_length(answer)
    points = tuple(
        (term_recall(p.text, answer), bigram_cosine(p.text, answer), length) for p in question.rubric
    )
    reference = question.reference or "".join(p.text for p in question.rubric)
    whole = (
        _weighted(question, [row[0] for row in points]),
        term_recall(reference, answer),
        bigram_cosine(reference, answer),
        length,
    )
    return Features(whole, points)


def _cosine(question: Question, answer: str, embedder: Embedder) -> Features:
    """A point by its nearest sentence, the whole answer by the whole reference."""
    claims = [p.text for p in question.rubric]
    parts = [s.text for s in sentences(answer)]
    if not parts:
        return Features((0.0, 0.0), tuple((0.0,) for _ in claims))
    reference = (question.reference or "".join(claims))[:_SEEN]
    # Symmetric similarity: e5 wants the same prefix on both sides (model card of multilingual-e5).
    vectors = embedder.encode_query([*claims, reference, answer[:_SEEN], *parts])
    n = len(claims)
    points = cosine(vectors[:n], vectors[n + 2 :]).max(1)
    whole = cosine(vectors[n : n + 1], vectors[n + 1 : n + 2])
    return Features(
        (_weighted(question, [float(v) for v in points]), float(whole[0, 0])),
        tuple((float(v),) for v in points),
    )


FLOORS: dict[str, Callable[[Question, str, Embedder], Features]] = {
    "constant": _constant,
    "length": _length,
    "lexical": _lexical,
    "cosine": _cosine,
}


# ── fitting ──────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Ridge:
    """Linear regression with an L2 penalty on standardised features; the intercept is not penalised."""

    mean: Array
    scale: Array
    coefficient: Array
    intercept: float

    @classmethod
    def fit(cls, x: Array, y: Array) -> Ridge:
        mean, scale = x.mean(0), x.std(0)
        scale = np.where(scale < 1e-9, 1.0, scale)
        z = (x - mean) / scale
        coefficient = np.linalg.solve(z.T @ z + RIDGE * np.eye(x.shape[1]), z.T @ (y - y.mean()))
        return cls(mean, scale, coefficient, float(y.mean()))

    def predict(self, x: Array) -> Array:
        return np.asarray(self.intercept + ((x - self.mean) / self.scale) @ self.coefficient)


def _cut(gold: Array, predicted: Array) -> float:
    """The threshold with the best balanced accuracy on the rows it was fitted on."""
    tried = np.unique(np.quantile(predicted, np.linspace(0.02, 0.98, 49)))
    return float(max(tried, key=lambda t: balanced_accuracy(gold, (predicted >= t).astype(float)) or 0.0))


@dataclass(frozen=True, slots=True)
class Labelled:
    """One answer with its features, gold score and gold labels in rubric order ([] when it has none)."""

    case: EvalCase
    features: Features
    labels: tuple[float, ...]


def _fit(rows: Sequence[Labelled]) -> Callable[[Features], tuple[float, list[tuple[float, float]]]]:
    """A predictor of (score 0–100, [(credit, probability) of each point])."""
    whole = Ridge.fit(
        np.array([r.features.answer for r in rows]), np.array([float(r.case.gold or 0) for r in rows])
    )
    labelled = [r for r in rows if r.labels]
    point, cut = None, 0.5
    if labelled:
        x = np.array([f for r in labelled for f in r.features.points])
        y = np.array([label for r in labelled for label in r.labels])
        point = Ridge.fit(x, y)
        cut = _cut(y, point.predict(x))

    def predict(features: Features) -> tuple[float, list[tuple[float, float]]]:
        score = float(np.clip(whole.predict(np.array([features.answer]))[0], 0, 100))
        if point is None:
            return score, []
        raw = point.predict(np.array(features.points))
        return score, [(float(v >= cut), float(np.clip(v, 0, 1))) for v in raw]

    return predict


def predict_floors(
    cases: Sequence[EvalCase],
    questions: Mapping[str, Question],
    embedder: Embedder,
    fit_on: Sequence[EvalCase] = (),
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Any]]:
    """{floor: {case id: {"score": 0–100, "points": {point id: [credit, probability]}}}}.

    Fitted on `fit_on` (another split). Without it, on the other questions of the same set, one question left out
    at a time up to 20 questions, else ten folds of questions;
    a set of a single question is folded by answer.
    """
    own = [c for c in cases if c.suite in ("authored", "external") and c.gold is not None]
    everything = list({c.id: c for c in [*cases, *fit_on]}.values())
    out: dict[str, dict[str, Any]] = {}
    done = 0
    for name, function in FLOORS.items():
        rows: dict[str, Labelled] = {}
        for case in everything:
            question = questions[case.question_id]
            labels = tuple(case.labels[p.id] for p in question.rubric) if case.labels else ()
            rows[case.id] = Labelled(case, function(question, case.answer, embedder), labels)
            done += 1
            if progress:
                progress(done, len(everything) * len(FLOORS))
        out[name] = _predict_one(cases, questions, rows, [c.id for c in own], [c.id for c in fit_on])
    return out


def _predict_one(
    cases: Sequence[EvalCase],
    questions: Mapping[str, Question],
    rows: Mapping[str, Labelled],
    own: Sequence[str],
    fit_on: Sequence[str],
) -> dict[str, Any]:
    names = sorted({c.question_id for c in cases})
    by_answer = len(names) < 2
    folds = len(names) if 2 <= len(names) <= _LEAVE_ONE_OUT else _FOLDS

    def fold(case: EvalCase) -> int:
        # A case made from another one must lie in the fold of its base, or its twin is in the training set.
        return own.index(case.base or case.id) % folds if by_answer else names.index(case.question_id) % folds

    found: dict[str, Any] = {}
    predictors: dict[int, Any] = {}
    for case in cases:
        key = -1 if fit_on else fold(case)
        if key not in predictors:
            train = (
                [rows[i] for i in fit_on] if fit_on else [rows[i] for i in own if fold(rows[i].case) != key]
            )
            predictors[key] = _fit(train) if train else None
        if predictors[key] is None:
            continue
        score, points = predictors[key](rows[case.id].features)
        ids = [p.id for p in questions[case.question_id].rubric]
        found[case.id] = {
            "score": round(score, 2),
            "points": {i: [c, round(p, 4)] for i, (c, p) in zip(ids, points, strict=False)},
        }
    return found


# ── holistic ─────────────────────────────────────────────────────────────────────────────────────
def holistic_prompt(settings: Settings) -> Prompt:
    return load_prompt(settings.prompts, "eval-holistic")


def read_score(reply: str) -> float | None:
    """The number 0–100 of a reply; None when there is none or more than one, or it is out of range.

    >>> read_score("85"), read_score("得分：85 分"), read_score("85/100"), read_score("不好说"), read_score("120")
    (85.0, 85.0, 85.0, None, None)
    """
    numbers = re.findall(r"(?<![\d.])\d+(?:\.\d+)?", re.sub(r"\s*[/／]\s*100\b", "", reply))
    if len(numbers) != 1 or not 0 <= float(numbers[0]) <= 100:
        return None
    return float(numbers[0])


def ask_holistic(llm: LLM, prompt: Prompt, question: Question, case: EvalCase, key: str) -> Record:
    """One prompt, one number. Raises LLMError when the endpoint is down; an unreadable reply is `unjudged`."""
    reference = question.reference or "\n".join(f"- {p.text}" for p in question.rubric)
    messages = prompt.fill(
        question=neutralise(question.question),
        reference=neutralise(reference[:2000]),
        answer=neutralise(case.answer[:4000]) or "（空）",
    )
    try:
        reply = llm.chat(messages, max_tokens=8)
    except LLMUnreadable as e:
        return Record(key=key, case_id=case.id, system="holistic", status="error", error=e.message)
    value = read_score(reply.text)
    if value is None:
        note = f"no number in: {reply.text[:80]}"
        return Record(
            key=key, case_id=case.id, system="holistic", status="unjudged", note=note, usage=reply.usage
        )
    score = Score(value=value, low=value, high=value, terms=(), penalty=0, total=100)
    return Record(key=key, case_id=case.id, system="holistic", status="ok", score=score, usage=reply.usage)
