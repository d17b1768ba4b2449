"""Pointwise judge: one yes/no question per point, read from the token probabilities, fused with evidence.

The point stands last in the prompt, so the server's prefix cache pays for question and answer once per answer
(after RocketEval, Wei et al. 2025). P(yes) alone is biased towards yes in small models; the calibration corrects
that with embedding and lexical evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from coach.config import Settings
from coach.domain import Pitfall, PitfallHit, Point, Quote, Status, Usage, Verdict
from coach.embed import Embedder
from coach.judge.base import Case, Judgement, OnVerdict
from coach.judge.calibration import load_calibration
from coach.judge.evidence import Evidence, condense, gather, log_length
from coach.llm import LLM, Reply
from coach.prompts import load_prompt
from coach.text import neutralise

YES = frozenset({"是", "是的", "yes", "对", "“是”", "y", "true"})
NO = frozenset({"否", "不", "不是", "no", "没有", "没", "“否”", "n", "false"})
_TOP = 20
_FLOOR = 1e-6


def yes_logit(reply: Reply) -> float | None:
    """log P(yes)/P(no) over all spellings; None when the reply is about something else entirely."""
    yes, no = reply.mass(YES), reply.mass(NO)
    if yes + no < 0.05:
        return None
    return math.log((yes + _FLOOR) / (no + _FLOOR))


def features(evidence: Evidence, logit: float, answer: str) -> dict[str, float]:
    """Everything a calibration may use for one claim; see `Evidence` for the terms."""
    return {
        "logit": logit,
        "similarity": evidence.similarity,
        "margin": evidence.margin,
        "whole": evidence.whole,
        "recall": evidence.recall,
        "span_recall": evidence.span_recall,
        "log_length": log_length(answer),
    }


@dataclass(slots=True)
class _Reading:
    """P(claim is stated) with the model's raw words, or None when it could not be read."""

    probability: float | None
    raw: str


class PointwiseJudge:
    name = "pointwise"

    def __init__(self, settings: Settings, llm: LLM, embedder: Embedder) -> None:
        self._llm = llm
        self._embedder = embedder
        self._point = load_prompt(settings.prompts, "judge-point")
        self._level = load_prompt(settings.prompts, "judge-level")
        self._calibration = load_calibration(llm.name)
        self.model = llm.name
        self.prompts = {p.name: p.content_hash for p in (self._point, self._level)}
        self.calibration = self._calibration.version

    def judge(self, case: Case, on_verdict: OnVerdict | None = None) -> Judgement:
        claims = [p.text for p in case.points] + [p.claim for p in case.pitfalls]
        evidence = gather(self._embedder, case.judged, claims)
        shown = neutralise(condense(case.judged, evidence))
        usage = Usage()
        verdicts: list[Verdict] = []
        for point, found in zip(case.points, evidence, strict=False):
            ask = self._judge_level if point.is_criterion else self._judge_point
            verdict, used = ask(case, point, found, shown)
            usage += used
            verdicts.append(verdict)
            if on_verdict:
                on_verdict(verdict, len(verdicts), len(case.points))
        hits: list[PitfallHit] = []
        for pitfall, found in zip(case.pitfalls, evidence[len(case.points) :], strict=True):
            hit, used = self._judge_pitfall(case, pitfall, found, shown)
            usage += used
            if hit:
                hits.append(hit)
        return Judgement(_contradicted(verdicts, hits), tuple(hits), usage)

    def logit(self, question: str, shown: str, claim: str) -> tuple[float | None, Reply]:
        messages = self._point.fill(question=neutralise(question), answer=shown, claim=neutralise(claim))
        reply = self._llm.chat(messages, max_tokens=1, top_logprobs=_TOP)
        return yes_logit(reply), reply

    def _judge_point(self, case: Case, point: Point, found: Evidence, shown: str) -> tuple[Verdict, Usage]:
        logit, reply = self.logit(case.question, shown, point.text)
        base: dict[str, Any] = {
            "point_id": point.id,
            "text": point.text,
            "weight": point.weight,
            "raw": reply.text,
        }
        if logit is None:
            return Verdict(status=Status.UNJUDGED, reason="模型的回复读不出是或否", **base), reply.usage
        c = self._calibration
        p = c.point.probability(features(found, logit, case.judged))
        status = Status.COVERED if p >= c.covered else Status.PARTIAL if p >= c.partial else Status.MISSING
        quote = _quote(case, found) if status is not Status.MISSING else None
        if quote is None and status is not Status.MISSING:
            status = Status.MISSING  # no evidence, no credit
        return Verdict(status=status, probability=round(p, 4), quote=quote, **base), reply.usage

    def _judge_level(self, case: Case, point: Point, found: Evidence, shown: str) -> tuple[Verdict, Usage]:
        levels = point.levels or {}
        messages = self._level.fill(
            question=neutralise(case.question),
            answer=shown,
            criterion=point.text,
            levels="\n".join(f"{n}：{text}" for n, text in sorted(levels.items())),
        )
        reply = self._llm.chat(messages, max_tokens=1, top_logprobs=_TOP)
        mass = {n: reply.mass(frozenset({str(n)})) for n in levels}
        total = sum(mass.values())
        top = max(levels)
        base: dict[str, Any] = {
            "point_id": point.id,
            "text": point.text,
            "weight": point.weight,
            "raw": reply.text,
            "max_level": top,
        }
        if total < 0.05:
            return Verdict(status=Status.UNJUDGED, reason="模型的回复读不出等级", **base), reply.usage
        # The mean of the judgement distribution beats its mode (Wang et al. 2025, arXiv 2503.03064).
        mean = sum(n * m for n, m in mass.items()) / total
        level = round(mean)
        quote = _quote(case, found) if level else None
        if quote is None:
            level = 0
        status = Status.COVERED if level == top else Status.MISSING if level == 0 else Status.PARTIAL
        return (
            Verdict(
                status=status,
                level=level,
                probability=round(mean / top, 4),
                quote=quote,
                reason=levels[level],
                **base,
            ),
            reply.usage,
        )

    def _judge_pitfall(
        self, case: Case, pitfall: Pitfall, found: Evidence, shown: str
    ) -> tuple[PitfallHit | None, Usage]:
        quote = _quote(case, found)
        if quote is None:
            return None, Usage()
        right = gather(self._embedder, quote.text, [pitfall.correction])[0]
        # Cheap first: a model call only where the evidence leaves the pitfall possible.
        logit, reply = self.logit(case.question, shown, pitfall.claim)
        if logit is None:
            return None, reply.usage
        values = features(found, logit, case.judged) | {"contrast": found.similarity - right.similarity}
        p = self._calibration.pitfall.probability(values)
        if p < self._calibration.asserted:
            return None, reply.usage
        hit = PitfallHit(
            pitfall_id=pitfall.id,
            claim=pitfall.claim,
            correction=pitfall.correction,
            penalty=pitfall.penalty,
            probability=round(p, 4),
            quote=quote,
        )
        return hit, reply.usage


def _quote(case: Case, found: Evidence) -> Quote | None:
    """The span as the candidate wrote it; offsets into `judged` and `answer` agree by construction."""
    if found.span is None:
        return None
    start, end = found.span.start, found.span.end
    return Quote(text=case.answer[start:end], start=start, end=end)


def _contradicted(verdicts: list[Verdict], hits: list[PitfallHit]) -> tuple[Verdict, ...]:
    """A point whose only evidence is the sentence that asserts a pitfall was not made: the pitfall wins."""

    def one(verdict: Verdict) -> Verdict:
        if verdict.quote is None or verdict.status not in (Status.COVERED, Status.PARTIAL):
            return verdict
        for hit in hits:
            if hit.quote.start <= verdict.quote.start and verdict.quote.end <= hit.quote.end:
                return verdict.model_copy(
                    update={"status": Status.CONTRADICTED, "reason": f"同一句话说的是误区：{hit.claim}"}
                )
        return verdict

    return tuple(one(v) for v in verdicts)
