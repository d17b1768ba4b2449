"""The next question: what the answer got wrong first, then what it left out, then deeper.

Bank follow-ups come first. A question without them gets one from the model, checked by code: it must be one
question, must not give the point away and must not repeat what was asked; when it fails, a template asks instead.
Nothing of a generated question is streamed: a word that is on the screen before the checks could be the one that
gives the point away. Whoever waits is told that a question is being made (`on_asking` in `grade`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from coach.config import Settings
from coach.domain import DEEPER, FollowUp, FollowUpType, PitfallHit, Point, Question, Status, Usage, Verdict
from coach.errors import LLMError
from coach.llm import LLM
from coach.prompts import load_prompt
from coach.score import HALF, credit
from coach.text import neutralise, tokens

_MAX_ASK_CHARS = 80
_LEAK = 0.6
# When nothing is open: why → derive → boundary → cost → production, then what is left, a false premise last.
_WITHOUT_GAP: dict[FollowUpType, float] = {t: 1 - i / 10 for i, t in enumerate(DEEPER)} | {
    "clarify": 0.2,
    "false_premise": 0.1,
}
_FUNCTION_CHARS = frozenset(
    "的了是在和与或也都就而但会可能这那个我你它他么什怎样为吗呢吧哪些有没不要用来去做说讲想能如何请问再下一点道知"
)


_GAPS = (Status.CONTRADICTED, Status.MISSING, Status.PARTIAL)


def _lack(verdict: Verdict) -> int:
    """A point that earned less than half comes before any of which half was said, whatever the weights."""
    return 1 if credit(verdict) >= HALF else 10


def choose(
    question: Question,
    verdicts: Sequence[Verdict],
    hits: Sequence[PitfallHit],
    asked: Iterable[str] = (),
) -> FollowUp | None:
    """The bank follow-up to ask next, or None: asserted pitfall → missing, heavy first → partial → deeper → premise."""
    done = set(asked)
    left = [f for f in question.follow_ups if f.id not in done]
    hit_ids = {h.pitfall_id for h in hits}
    need: dict[str, int] = {}
    for verdict in verdicts:
        if verdict.status in _GAPS:
            need[verdict.point_id] = _lack(verdict) + verdict.weight

    def urgency(f: FollowUp) -> float:
        if hit_ids & set(f.targets):
            return 100
        gap = max((need.get(t, 0) for t in f.targets), default=0)
        if gap and f.type != "false_premise":
            return gap
        return _WITHOUT_GAP[f.type]

    return max(left, key=urgency, default=None)


def gap_of(verdicts: Sequence[Verdict], points: Sequence[Point]) -> Point | None:
    """The heaviest point that is missing, else partial."""
    by_id = {p.id: p for p in points}
    open_ = [v for v in verdicts if v.status in _GAPS]
    if not open_:
        return None
    worst = max(open_, key=lambda v: (_lack(v), v.weight))
    return by_id.get(worst.point_id)


def _content(text: str) -> set[str]:
    """Latin words and Chinese characters that carry meaning: even a paraphrase shares some of them."""
    words = {w.lower() for w in re.findall(r"[A-Za-z][A-Za-z0-9_]+", text)}
    return words | {c for c in text if "\u4e00" <= c <= "\u9fff" and c not in _FUNCTION_CHARS}


def fault_of(ask: str, point: str, asked: Sequence[str], about: str = "") -> str:
    """Why a generated question must not be asked; "" when it may. `about` is what it may speak of, if known."""
    if not ask.endswith(("？", "?")) or ask.count("？") + ask.count("?") > 1 or "\n" in ask:
        return "not one question"
    if len(ask) > _MAX_ASK_CHARS:
        return "too long"
    words = set(tokens(ask))
    earlier = {w for a in asked for w in tokens(a)}
    # Words that the questions asked so far already named give nothing away.
    secret = set(tokens(point)) - earlier
    if secret and len(secret & words) / len(secret) >= _LEAK:
        return "gives the point away"
    if any(words and len(words & set(tokens(a))) / len(words | set(tokens(a))) > 0.8 for a in asked):
        return "repeats an earlier question"
    if about and not _content(ask) & _content(about):
        return "is not about the target"
    return ""


def generate(
    settings: Settings,
    llm: LLM,
    question: str,
    answer: str,
    point: Point,
    passage: str,
    asked: Sequence[str] = (),
) -> tuple[FollowUp, Usage]:
    """A follow-up aimed at `point`. Never raises for a bad reply; the template is asked when the model fails."""
    prompt = load_prompt(settings.prompts, "follow-up")
    usage = Usage()
    messages = prompt.fill(
        question=neutralise(question),
        answer=neutralise(answer[:1500]),
        gap=point.text,
        passage=neutralise(passage[:400]) or "（无）",
    )
    about = f"{question} {answer} {point.text} {passage}"
    ask = ""
    for attempt in range(2):
        try:
            reply = llm.chat(messages, max_tokens=64, temperature=0.0 if attempt == 0 else 0.7, seed=attempt)
        except LLMError:
            break
        usage += reply.usage
        candidate = re.sub(r"^(追问|问题)[：:]\s*", "", reply.text.strip()).strip('“”" ')
        if not fault_of(candidate, point.text, [question, *asked], about):
            ask = candidate
            break
    ask = (
        ask
        or f"关于“{question.rstrip('？?。')[:40]}”，你的回答还漏了一块：能再往下讲一层，说说背后的原因吗？"
    )
    follow_up = FollowUp(
        id=f"gen-{point.id}"[:80],
        ask=ask,
        type="clarify",
        targets=(point.id,),
        rubric=(point,),
        generated=True,
    )
    return follow_up, usage
