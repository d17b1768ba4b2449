"""Help in words that are already there: the smallest fix, and hints that do not give the point away."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from coach.domain import Grade, Point, Question, Status, Verdict
from coach.score import credit, score
from coach.text import sentences, term_recall, tokens

_MAX_SENTENCES = 2
_MAX_CHARS = 120
# From this share of a hidden point's words on, a sentence would answer the follow-up that asks for it.
_HINTS_AT = 0.4
# A reference sentence stands for a point when it has this share of the point's words; else the point speaks itself.
_SAYS_IT = 0.6


@dataclass(frozen=True, slots=True)
class Fix:
    """`sentences` to add; they turn `points` (ids) and bring the score from `before` to `after` (0–100)."""

    sentences: tuple[str, ...]
    points: tuple[str, ...]
    before: float
    after: float


def open_verdicts(verdicts: Sequence[Verdict], hidden: Collection[str] = ()) -> list[Verdict]:
    """What is not covered, the most to gain first; `hidden` ids left out."""
    left = [
        v
        for v in verdicts
        if v.status in (Status.MISSING, Status.PARTIAL, Status.CONTRADICTED) and v.point_id not in hidden
    ]
    return sorted(left, key=lambda v: -v.weight * (1 - credit(v)))


def smallest_fix(question: Question, grade: Grade, hidden: Collection[str] = ()) -> Fix | None:
    """The one or two sentences worth most; None when nothing (that may be said yet) is missing.

    Candidates are the sentences of the reference answer and the points themselves; each step takes the one that turns
    the most weight, the shorter on a tie. No sentence says a `hidden` point. For a criterion it is what the next level
    asks for. The predicted score is the usual arithmetic with those points turned.
    """
    if grade.score is None:
        return None
    points = {p.id: p for p in question.rubric}
    left = {v.point_id: v for v in open_verdicts(grade.verdicts, hidden) if v.point_id in points}
    secret = [points[i].text for i in hidden if i in points]
    candidates = {_next_step(points[i], v): {i} for i, v in left.items()}
    for sentence in (s.text for s in sentences(question.reference)):
        if len(sentence) <= _MAX_CHARS and not any(term_recall(s, sentence) >= _HINTS_AT for s in secret):
            says = {
                i for i in left if not points[i].levels and term_recall(points[i].text, sentence) >= _SAYS_IT
            }
            if says:
                candidates.setdefault(sentence, set()).update(says)
    said: list[str] = []
    turned: dict[str, Verdict] = {}

    def gain(sentence: str) -> tuple[float, int]:
        new = [left[i] for i in candidates[sentence] - turned.keys()]
        return sum(v.weight * (credit(_improved(v)) - credit(v)) for v in new), -len(sentence)

    while candidates and len(said) < _MAX_SENTENCES:
        best = max(candidates, key=gain)
        if gain(best)[0] <= 0:
            break
        said.append(best)
        turned.update({i: _improved(left[i]) for i in candidates.pop(best)})
    if not said:
        return None
    after = score([turned.get(v.point_id, v) for v in grade.verdicts], grade.pitfalls)
    in_order = tuple(v.point_id for v in grade.verdicts if v.point_id in turned)
    return Fix(tuple(said), in_order, grade.score.value, after.value if after else grade.score.value)


def _next_step(point: Point, verdict: Verdict) -> str:
    """What to say for this point alone: the claim, or what the level above the reached one asks for."""
    if point.levels:
        return point.levels[min(max(point.levels), (verdict.level or 0) + 1)]
    return point.text


def _improved(verdict: Verdict) -> Verdict:
    if verdict.max_level:
        level = min(verdict.max_level, (verdict.level or 0) + 1)
        return verdict.model_copy(
            update={"level": level, "level_probabilities": None, "status": Status.PARTIAL}
        )
    return verdict.model_copy(update={"status": Status.COVERED, "probability": 1.0})


@dataclass(frozen=True, slots=True)
class Hint:
    """`direction`: `headings` of the notes, if any; `criterion` and `cloze`: the `text` that helps with one `point`.

    `points`: how many the question has.
    """

    kind: Literal["direction", "criterion", "cloze"]
    text: str
    points: int
    point: str | None = None
    headings: tuple[str, ...] = ()


def hint(question: Question, left: Sequence[Point], given: int) -> Hint:
    """The first hint names the direction, later ones are clozes of what is still open."""
    heaviest = sorted(left, key=lambda p: -p.weight) or list(question.rubric)
    count = len(question.rubric)
    if given == 0:
        headings = dict.fromkeys(p.source.partition("#")[2] for p in heaviest if p.source)
        return Hint("direction", "", count, headings=tuple(headings)[:2])
    point = heaviest[(given - 1) % len(heaviest)]
    if point.levels:
        return Hint("criterion", point.text, count, point.id)
    return Hint("cloze", cloze(point.text, question.question), count, point.id)


def cloze(text: str, question: str) -> str:
    """The point with its longest content words blanked, half of those the question has not named already.

    >>> cloze("方差等于维度", "什么是方差？")
    '方差等于＿＿'
    """
    named = set(tokens(question))
    words = [w for w in dict.fromkeys(tokens(text)) if w not in named and len(w) > 1]
    words.sort(key=len, reverse=True)
    out = text
    for word in words[: max(1, (len(words) + 1) // 2)]:
        low = out.lower()
        at = low.find(word)
        if at >= 0 and len(low) == len(out):
            out = out[:at] + "＿＿" + out[at + len(word) :]
    # Every word was named in the question: the beginning is all that can be given.
    return out if out != text else text[: len(text) // 3] + "……"
