"""The real `coach` command with a scripted judge: `python -m tests.practice_app practice --id …`.

PRACTICE_FAKE=down:N fails from the N+1-th grade on until the file named in PRACTICE_UP exists; PRACTICE_SLOW is the
seconds every grade takes, PRACTICE_THINK those that making a follow-up takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from coach.config import Settings
from coach.domain import PitfallHit, Quote, Status, Usage, Verdict
from coach.embed import VectorCache
from coach.errors import LLMUnavailable
from coach.grade import Grader
from coach.index import CURATED, Root, build, open_index
from coach.judge.base import Case, Judgement, OnVerdict
from coach.text import term_recall
from tests.fakes import HashEmbedder, ScriptedLLM

NOTE = "# 注意力\n\n## 缩放\n点积的方差等于 d_k。\n方差大时 softmax 会饱和。\n缩放防的是 softmax 饱和。\n"


def clear_probability(claim: str, answer: str) -> float:
    """Far from every threshold: 0.98 when at least half of the claim's words are there, 0.02 when fewer."""
    return 0.98 if term_recall(claim, answer) >= 0.5 else 0.02


class WordJudge:
    """A point is covered when the answer shares half of its words, a pitfall asserted when it shares nearly all."""

    name = "words"
    model = "scripted"
    prompts: ClassVar[dict[str, str]] = {"none": "0" * 12}
    calibration = "none"

    def __init__(self, before: Callable[[Case], None] = lambda case: None) -> None:
        self._before = before

    def judge(self, case: Case, on_verdict: OnVerdict | None = None) -> Judgement:
        self._before(case)
        quote = Quote(text=case.answer[:8], start=0, end=len(case.answer[:8]))
        verdicts = []
        for point in case.points:
            p = clear_probability(point.text, case.judged)
            status = Status.COVERED if p > 0.5 else Status.MISSING
            level = top = None
            if point.levels:
                top = max(point.levels)
                level = min(top, len(case.answer) // 20)
                status = (
                    (Status.MISSING, Status.COVERED)[level == top] if level in (0, top) else Status.PARTIAL
                )
            verdicts.append(
                Verdict(
                    point_id=point.id, text=point.text, weight=point.weight, status=status, probability=p,
                    level=level, max_level=top, quote=quote if status is not Status.MISSING else None,
                )
            )  # fmt: skip
            if on_verdict:
                on_verdict(verdicts[-1], len(verdicts), len(case.points))
        hits = [
            PitfallHit(
                pitfall_id=p.id, claim=p.claim, correction=p.correction, penalty=p.penalty, quote=quote
            )
            for p in case.pitfalls
            if term_recall(p.claim, case.judged) >= 0.9
        ]
        return Judgement(tuple(verdicts), tuple(hits), Usage(calls=len(verdicts), prompt_tokens=100))


def make_grader(
    settings: Settings,
    judge: WordJudge | None = None,
    note: str = NOTE,
    ask: Callable[[], str] = lambda: "那再往下讲，背后的原因是什么？",
) -> Grader:
    """Over a small index of its own in COACH_HOME, made once per process. `ask` makes the model's follow-up."""
    notes = settings.home / "test-notes"
    notes.mkdir(parents=True, exist_ok=True)
    (notes / "a.md").write_text(note, encoding="utf8")
    embedder = HashEmbedder()
    folder = settings.home / f"test-index-{os.getpid()}"
    if not folder.exists():
        build(
            folder, [Root(CURATED, notes)], embedder, VectorCache(settings.home / f"v-{os.getpid()}.sqlite")
        )
    index = open_index(folder, embedder)
    return Grader(settings, judge or WordJudge(), index, ScriptedLLM(lambda m: ask()))


def main() -> None:
    from coach import cli, wiring

    mode = os.environ.get("PRACTICE_FAKE", "words")
    graded = 0

    def before(case: Case) -> None:
        nonlocal graded
        graded += 1
        time.sleep(float(os.environ.get("PRACTICE_SLOW", "0")))
        if mode.startswith("down") and graded > int(mode.partition(":")[2]):
            up = os.environ.get("PRACTICE_UP", "")
            if not (up and Path(up).exists()):
                raise LLMUnavailable("the scripted endpoint is down")

    def ask() -> str:
        time.sleep(float(os.environ.get("PRACTICE_THINK", "0")))
        return "那再往下讲，背后的原因是什么？"

    wiring.grader = lambda settings, judge=None, progress=None: make_grader(
        settings, WordJudge(before), ask=ask
    )
    cli.main()


if __name__ == "__main__":
    main()
