"""Grading one answer, the whole pipeline on one page:

    screen → retrieve → judge each point → cite → score → follow up

Practice, batch and evals all call `Grader.grade`; nothing else grades.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from coach import __version__, followups
from coach.citing import Citer
from coach.config import MAX_ANSWER_CHARS, Settings
from coach.domain import (
    Fingerprint,
    Flag,
    FollowUp,
    Grade,
    Passage,
    Pitfall,
    Point,
    Question,
    Status,
    Usage,
    Verdict,
)
from coach.index import Index
from coach.judge.base import Case, Judge, OnVerdict
from coach.llm import LLM
from coach.messages import Refused
from coach.retrieve import query_text, retrieve
from coach.score import merge, score
from coach.text import Screened, screen

EMPTY = "不作评分: 答案为空"
UNREADABLE = "不作评分: 评分模型没有给出可用的判断"
NOT_IN_NOTES = "笔记未覆盖"
_PASSAGES = 6
# Called when the points are judged and a follow-up has to be generated: it takes seconds and shows nothing by itself.
OnAsking = Callable[[], None]


def check_answer(answer: str) -> str:
    """Refused when the answer is longer than the limit; returns it unchanged."""
    if len(answer) > MAX_ANSWER_CHARS:
        raise Refused("too_long", n=len(answer), limit=MAX_ANSWER_CHARS)
    return answer


def asked_text(question: Question, follow_up: FollowUp | None = None) -> str:
    """What an answer is judged as an answer to."""
    return f"{question.question} 追问：{follow_up.ask}" if follow_up else question.question


@dataclass(frozen=True, slots=True)
class FollowUpGrade:
    """`own` is the follow-up's own grade, `merged` the question's grade with the best verdict for every point."""

    own: Grade
    merged: Grade


class Grader:
    """Holds what does not change between answers. Not thread-safe with the embedded model: it has one slot."""

    def __init__(
        self, settings: Settings, judge: Judge, index: Index, llm: LLM, citer: Citer | None = None
    ) -> None:
        self._settings = settings
        self._judge = judge
        self._index = index
        self._llm = llm
        self._citer = citer or Citer(index)

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(
            model=self._judge.model,
            judge=self._judge.name,
            prompts=self._judge.prompts,
            calibration=self._judge.calibration,
            knowledge=self._index.manifest.knowledge_hash,
            embedder=self._index.searcher,
            version=__version__,
        )

    def prepare(self, asked: str) -> None:
        """While the candidate reads and types: let the model read the question, so that the answer is all that is left."""
        self._judge.prepare(asked)

    def grade(
        self,
        question: Question,
        answer: str,
        *,
        asked: Iterable[str] = (),
        on_verdict: OnVerdict | None = None,
        on_asking: OnAsking | None = None,
        follow_up: bool = True,
    ) -> Grade:
        """One answer to one question. Raises LLMError when the model cannot be used; never invents a score."""
        grade = self._grade(
            question.id, asked_text(question), answer, question.rubric, question.pitfalls, on_verdict
        )
        if not follow_up or grade.score is None:
            return grade
        return self._with_follow_up(question, grade, list(asked), on_asking)

    def grade_follow_up(
        self,
        question: Question,
        grade: Grade,
        follow_up: FollowUp,
        answer: str,
        *,
        asked: Iterable[str] = (),
        on_verdict: OnVerdict | None = None,
        on_asking: OnAsking | None = None,
    ) -> FollowUpGrade:
        """Grade a follow-up against its own rubric, and the points it aims at again: best verdict wins."""
        own_ids = {p.id for p in follow_up.rubric}
        open_ids = {v.point_id for v in grade.verdicts if v.status is not Status.COVERED}
        again = tuple(p for p in question.rubric if p.id in follow_up.targets and p.id in open_ids - own_ids)
        text = asked_text(question, follow_up)
        both = self._grade(question.id, text, answer, (*follow_up.rubric, *again), (), on_verdict)
        own_verdicts = tuple(v for v in both.verdicts if v.point_id in own_ids)
        own = both.model_copy(update={"verdicts": own_verdicts, "score": score(own_verdicts)})
        verdicts = merge(grade.verdicts, both.verdicts)
        merged = grade.model_copy(
            update={
                "verdicts": verdicts,
                "score": score(verdicts, grade.pitfalls),
                "usage": grade.usage + both.usage,
                "flags": grade.flags + both.flags,
            }
        )
        if both.status == "ok":
            merged = self._with_follow_up(question, merged, [*asked, follow_up.id], on_asking)
        return FollowUpGrade(own, merged)

    def _grade(
        self,
        question_id: str,
        question: str,
        answer: str,
        points: Sequence[Point],
        pitfalls: Sequence[Pitfall],
        on_verdict: OnVerdict | None,
    ) -> Grade:
        start = time.perf_counter()
        check_answer(answer)
        screened = screen(answer)
        flags = _flags(screened)
        if not screened.judged.strip():
            return _ungraded(question_id, question, answer, points, flags)
        passages = retrieve(self._index, query_text(question, screened.judged), _PASSAGES)
        case = Case(question, answer, screened.judged, tuple(points), tuple(pitfalls), tuple(passages))
        judgement = self._judge.judge(case, on_verdict)
        sources = {p.id: p.source for p in points} | {p.id: p.source for p in pitfalls}
        verdicts = tuple(self._cited(v, sources[v.point_id], passages) for v in judgement.verdicts)
        hits = tuple(
            h.model_copy(update={"citation": self._citer.cite(h.correction, sources[h.pitfall_id], passages)})
            for h in judgement.pitfalls
        )
        total = score(verdicts, hits)
        return Grade(
            question_id=question_id,
            question=question,
            answer=answer,
            status="ok" if total else "unjudged",
            verdicts=verdicts,
            pitfalls=hits,
            score=total,
            passages=tuple(passages),
            flags=flags,
            usage=judgement.usage.model_copy(update={"seconds": time.perf_counter() - start}),
            fingerprint=self.fingerprint,
            note="" if total else UNREADABLE,
        )

    def _cited(self, verdict: Verdict, source: str | None, passages: Sequence[Passage]) -> Verdict:
        citation = self._citer.cite(verdict.text, source, passages)
        if citation:
            return verdict.model_copy(update={"citation": citation})
        reason = f"{NOT_IN_NOTES}。{verdict.reason}".rstrip("。") if verdict.reason else NOT_IN_NOTES
        return verdict.model_copy(update={"reason": reason})

    def _with_follow_up(
        self, question: Question, grade: Grade, asked: list[str], on_asking: OnAsking | None
    ) -> Grade:
        chosen = followups.choose(question, grade.verdicts, grade.pitfalls, asked)
        if chosen or question.follow_ups:
            return grade.model_copy(update={"follow_up": chosen})
        gap = followups.gap_of(grade.verdicts, question.rubric)
        if gap is None or f"gen-{gap.id}" in asked:
            return grade.model_copy(update={"follow_up": None})
        if on_asking:
            on_asking()
        passage = grade.passages[0].chunk.text if grade.passages else ""
        made, usage = followups.generate(
            self._settings, self._llm, question.question, grade.answer, gap, passage
        )
        return grade.model_copy(update={"follow_up": made, "usage": grade.usage + usage})


def _flags(screened: Screened) -> tuple[Flag, ...]:
    return tuple(
        [Flag(kind="injection", quote=q) for q in screened.injections]
        + [Flag(kind="hidden_text", quote=q) for q in screened.hidden]
    )


def empty_grade(question: Question, answer: str) -> Grade:
    """What an empty answer gets: no score, and no model has to be loaded for it."""
    return _ungraded(question.id, question.question, answer, question.rubric, ())


def _ungraded(
    question_id: str, question: str, answer: str, points: Sequence[Point], flags: tuple[Flag, ...]
) -> Grade:
    verdicts = tuple(
        Verdict(
            point_id=p.id,
            text=p.text,
            weight=p.weight,
            status=Status.UNJUDGED,
            max_level=max(p.levels) if p.levels else None,
        )
        for p in points
    )
    return Grade(
        question_id=question_id,
        question=question,
        answer=answer,
        status="unjudged",
        verdicts=verdicts,
        flags=flags,
        usage=Usage(),
        note=EMPTY,
    )
