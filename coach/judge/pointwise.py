"""Pointwise judge: a log-odds for every claim from a readout, turned into a calibrated probability.

An untrained model's own opinion is biased and says little by itself; similarity and shared words alone cannot tell a
claim from its opposite. A calibration may weigh them all; which it uses, and how much, is a data file.
"""

from __future__ import annotations

from typing import Any

from coach.config import Settings
from coach.domain import Pitfall, PitfallHit, Point, Quote, Status, Usage, Verdict
from coach.embed import Embedder
from coach.judge.base import Case, Judgement, OnVerdict
from coach.judge.calibration import load_calibration
from coach.judge.evidence import Evidence, condense, gather, log_length, rejects
from coach.judge.readout import TOP, Reading, choose_readout
from coach.llm import LLM
from coach.prompts import load_prompt
from coach.text import neutralise

_SAME_WORDS = 0.6  # a guess: more than half of the two quotes is shared


def features(evidence: Evidence, logit: float, answer: str, contrast: float = 0.0) -> dict[str, float]:
    """Everything a calibration may use for one claim; see `Evidence` for the terms.

    `contrast`: for a pitfall, similarity to the wrong claim minus similarity to its correction.
    """
    return {
        "logit": logit,
        "similarity": evidence.similarity,
        "margin": evidence.margin,
        "whole": evidence.whole,
        "recall": evidence.recall,
        "span_recall": evidence.span_recall,
        "log_length": log_length(answer),
        "contrast": contrast,
    }


def claim_of(point: Point) -> str:
    """What a fitted readout reads for a point: a criterion by what its highest level asks."""
    return point.levels[max(point.levels)] if point.levels else point.text


class PointwiseJudge:
    name = "pointwise"

    def __init__(self, settings: Settings, llm: LLM, embedder: Embedder) -> None:
        self._llm = llm
        self._embedder = embedder
        self._level = load_prompt(settings.prompts, "judge-level")
        self._readout = choose_readout(settings, llm)
        self._calibration = load_calibration(llm.name, self._readout.name)
        self.model = llm.name
        self.prompts = {**self._readout.prompts, self._level.name: self._level.content_hash}
        self.calibration = self._calibration.version

    def prepare(self, question: str) -> None:
        self._readout.prepare(question)

    def judge(self, case: Case, on_verdict: OnVerdict | None = None) -> Judgement:
        # An order of our own: a readout that sees all claims at once must not depend on how a rubric is arranged.
        facts = sorted((p for p in case.points if not p.is_criterion), key=lambda p: p.text)
        criteria = [p for p in case.points if p.is_criterion]
        pitfalls = sorted(case.pitfalls, key=lambda p: p.claim)
        read = [*facts, *criteria] if self._calibration.levels else facts
        claims = [*(claim_of(p) for p in read), *(p.claim for p in pitfalls)]
        right = [p.correction for p in pitfalls]
        accusing = {p.claim for p in pitfalls}
        asked = [*claims, *right, *(p.text for p in criteria)]
        evidence = gather(self._embedder, case.judged, asked, accusing)
        shown = neutralise(condense(case.judged, evidence))
        found: dict[str, Verdict] = {}

        def keep(verdict: Verdict) -> None:
            found[verdict.point_id] = verdict
            if on_verdict:
                on_verdict(verdict, len(found), len(case.points))

        def on_reading(i: int, reading: Reading) -> None:
            if i < len(read):
                judge = self._level_verdict if read[i].is_criterion else self._verdict
                keep(judge(case, read[i], evidence[i], reading))

        readings, usage = (
            self._readout.read(case.question, shown, claims, on_reading) if claims else ([], Usage())
        )
        for i, point in enumerate(criteria if len(read) == len(facts) else (), len(claims) + len(right)):
            verdict, used = self._ask_level(case, point, evidence[i], shown)
            usage += used
            keep(verdict)
        hits = []
        for i, pitfall in enumerate(pitfalls, len(read)):
            contrast = evidence[i].similarity - evidence[i + len(pitfalls)].similarity
            hit = self._hit(case, pitfall, evidence[i], readings[i], contrast)
            hits += [hit] if hit else []
        verdicts = [found[p.id] for p in case.points]
        return Judgement(_contradicted(verdicts, hits), tuple(hits), usage)

    def _verdict(self, case: Case, point: Point, evidence: Evidence, reading: Reading) -> Verdict:
        base: dict[str, Any] = {
            "point_id": point.id,
            "text": point.text,
            "weight": point.weight,
            "raw": reading.raw,
        }
        if reading.logit is None:
            return Verdict(status=Status.UNJUDGED, reason="模型的回复读不出是或否", **base)
        c = self._calibration
        p = c.point.probability(features(evidence, reading.logit, case.judged))
        status = Status.COVERED if p >= c.covered else Status.PARTIAL if p >= c.partial else Status.MISSING
        quote = _quote(case, evidence) if status is not Status.MISSING else None
        if quote is None:
            status = Status.MISSING  # no evidence, no credit
        return Verdict(status=status, probability=round(p, 4), quote=quote, **base)

    def _level_verdict(self, case: Case, point: Point, evidence: Evidence, reading: Reading) -> Verdict:
        levels = point.levels or {}
        if reading.logit is None or self._calibration.levels is None:
            return _level(point, {}, None, reading.raw)
        chances = self._calibration.levels.probabilities(reading.logit, max(levels))
        return _level(point, dict(enumerate(chances)), _quote(case, evidence), reading.raw)

    def _ask_level(self, case: Case, point: Point, evidence: Evidence, shown: str) -> tuple[Verdict, Usage]:
        levels = point.levels or {}
        messages = self._level.fill(
            question=neutralise(case.question),
            answer=shown,
            criterion=point.text,
            levels="\n".join(f"{n}：{text}" for n, text in sorted(levels.items())),
        )
        reply = self._llm.chat(messages, max_tokens=1, top_logprobs=TOP)
        mass = {n: reply.mass(frozenset({str(n)})) for n in levels}
        total = sum(mass.values())
        chances = {n: m / total for n, m in mass.items()} if total >= 0.05 else {}
        verdict = _level(point, chances, _quote(case, evidence), reply.text)
        return verdict.model_copy(update={"level_probabilities": None}), reply.usage

    def _hit(
        self, case: Case, pitfall: Pitfall, evidence: Evidence, reading: Reading, contrast: float
    ) -> PitfallHit | None:
        """Asserting a pitfall needs a quote of its own; an unreadable reply is never held against the candidate."""
        quote = _quote(case, evidence)
        if reading.logit is None or quote is None or rejects(quote.text):
            return None
        p = self._calibration.pitfall.probability(features(evidence, reading.logit, case.judged, contrast))
        if p < self._calibration.asserted:
            return None
        return PitfallHit(
            pitfall_id=pitfall.id,
            claim=pitfall.claim,
            correction=pitfall.correction,
            penalty=pitfall.penalty,
            probability=round(p, 4),
            quote=quote,
        )


def _level(point: Point, chances: dict[int, float], quote: Quote | None, raw: str) -> Verdict:
    """The level nearest to the expected one; unjudged when there are no chances. No evidence, no level."""
    levels = point.levels or {}
    top = max(levels)
    base: dict[str, Any] = {
        "point_id": point.id,
        "text": point.text,
        "weight": point.weight,
        "raw": raw,
        "max_level": top,
    }
    if not chances:
        return Verdict(status=Status.UNJUDGED, reason="模型的回复读不出等级", **base)
    # The mean of the judgement distribution beats its mode (Wang et al. 2025, arXiv 2503.03064).
    mean = sum(n * p for n, p in chances.items())
    level = round(mean) if quote else 0
    return Verdict(
        status=Status.COVERED if level == top else Status.MISSING if level == 0 else Status.PARTIAL,
        level=level,
        probability=round(mean / top, 4),
        level_probabilities=tuple(round(chances.get(n, 0.0), 4) for n in range(top + 1)),
        quote=quote if level else None,
        reason=levels[level],
        **base,
    )


def _quote(case: Case, found: Evidence) -> Quote | None:
    """The span as the candidate wrote it; offsets into `judged` and `answer` agree by construction."""
    if found.span is None:
        return None
    start, end = found.span.start, found.span.end
    return Quote(text=case.answer[start:end], start=start, end=end)


def _contradicted(verdicts: list[Verdict], hits: list[PitfallHit]) -> tuple[Verdict, ...]:
    """A point whose only evidence is the sentence that asserts a pitfall was not made: the pitfall wins.

    Only when both rest on the same words: a passage in which a pitfall was found may well state a point elsewhere.
    """

    def one(verdict: Verdict) -> Verdict:
        if verdict.quote is None or verdict.status not in (Status.COVERED, Status.PARTIAL):
            return verdict
        for hit in hits:
            same = _overlap(hit.quote, verdict.quote) >= _SAME_WORDS
            if same and (hit.probability or 0) > (verdict.probability or 0):
                reason = f"同一句话说的是误区：{hit.claim}"
                return verdict.model_copy(update={"status": Status.CONTRADICTED, "reason": reason})
        return verdict

    return tuple(one(v) for v in verdicts)


def _overlap(a: Quote, b: Quote) -> float:
    """Shared characters as a share of both together (Jaccard)."""
    shared = max(0, min(a.end, b.end) - max(a.start, b.start))
    return shared / (a.end - a.start + b.end - b.start - shared)
