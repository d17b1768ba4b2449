"""A small eval set and a scripted grader for the eval tests; as a script it runs an eval that kills itself.

python -m tests.evals_kit FOLDER KILL_AFTER_CALLS
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from coach.bank import load_bank
from coach.config import Settings, load_settings
from coach.domain import PitfallHit, Quote, Status, Usage, Verdict
from coach.embed import VectorCache
from coach.evals.assemble import assemble
from coach.evals.cases import EvalSet
from coach.evals.floors import holistic_prompt
from coach.evals.runner import Subject, execute
from coach.evals.store import Meta, Record, Run
from coach.grade import Grader
from coach.index import CURATED, Root, build, open_index
from coach.judge.base import Case, Judgement, OnVerdict
from coach.prompts import Messages
from coach.text import term_recall
from tests.fakes import HashEmbedder, ScriptedLLM

ROOT = Path(__file__).resolve().parent.parent
NEXT = "能再讲讲里面的细节吗？"  # what the model asks where the bank has no follow-up
Answer = Callable[[Messages], "str | float | Exception"]

BANK = """
- id: scale
  question: 点积注意力为什么要缩放？
  kind: concept
  topic: attention
  reference: 点积的方差等于维度。方差过大时归一化会饱和。
  rubric:
    - {id: variance, point: 各分量独立时点积的方差等于向量维度, weight: 2}
    - {id: saturate, point: 数值过大会使归一化函数进入饱和区, weight: 1}
    - {id: gradient, point: 饱和之后梯度接近于零训练停滞, weight: 1}
  pitfalls:
    - {id: explode, claim: 缩放是为了防止梯度爆炸, correction: 防的是饱和}
  follow_ups:
    - {id: deep, ask: 如果直接除以维度会怎样？, type: boundary, targets: [variance], rubric: [{id: flat, point: 分布变平}]}
- id: rank
  question: 低秩适配为什么能省显存？
  kind: concept
  topic: peft
  reference: 只训练两个小矩阵。优化器状态随可训练参数减少。
  rubric:
    - {id: frozen, point: 原始权重冻结只训练两个低秩矩阵, weight: 1}
    - {id: state, point: 优化器状态只为可训练参数保存, weight: 1}
  pitfalls:
    - {id: memory, claim: 推理时显存也会减少一半, correction: 推理显存不变}
- id: cache
  question: 键值缓存解决什么问题？
  kind: concept
  topic: serving
  reference: 缓存历史的键和值。避免重复计算。
  rubric:
    - {id: reuse, point: 历史词元的键和值被保存下来重复使用, weight: 1}
    - {id: cost, point: 每一步的计算量从平方降为线性, weight: 1}
"""
POINTS = {
    "scale": [
        "各分量独立时点积的方差等于向量维度",
        "数值过大会使归一化函数进入饱和区",
        "饱和之后梯度接近于零训练停滞",
    ],
    "rank": ["原始权重冻结只训练两个低秩矩阵", "优化器状态只为可训练参数保存"],
    "cache": ["历史词元的键和值被保存下来重复使用", "每一步的计算量从平方降为线性"],
}
IDS = {"scale": ["variance", "saturate", "gradient"], "rank": ["frozen", "state"], "cache": ["reuse", "cost"]}


def answers() -> list[dict[str, object]]:
    """Labelled so that a grader which looks for the words of a point is right about almost everything."""
    rows: list[dict[str, object]] = []
    for question, points in POINTS.items():
        said = {
            "excellent": ("。".join(points) + "。", [1.0] * len(points)),
            "good": (
                points[0] + "。我觉得大概就是这样。后面的细节不记得了。",
                [1.0] + [0.0] * (len(points) - 1),
            ),
            "weak": ("这个东西挺常用的，效果也不错。网上很多人讲过。", [0.0] * len(points)),
            "confident-error": ("毫无疑问，这是历史包袱，换成加法就行。", [0.0] * len(points)),
        }
        for tier, (text, labels) in said.items():
            rows.append(
                {
                    "id": f"{question}.{tier}",
                    "question_id": question,
                    "tier": tier,
                    "lang": "zh",
                    "answer": text,
                    "labels": dict(zip(IDS[question], labels, strict=True)),
                    "pitfalls": [],
                }
            )
    return rows


def write_set(folder: Path) -> Path:
    """An eval folder with both splits, and a bank beside it."""
    (folder / "knowledge" / "questions").mkdir(parents=True, exist_ok=True)
    (folder / "knowledge" / "notes").mkdir(exist_ok=True)
    (folder / "knowledge" / "questions" / "bank.yaml").write_text(BANK, encoding="utf8")
    (folder / "knowledge" / "notes" / "a.md").write_text(
        "# 笔记\n\n## 缩放\n点积的方差等于维度。\n", encoding="utf8"
    )
    (folder / "eval" / "answers").mkdir(parents=True, exist_ok=True)
    for name in ("injections.yaml", "aliases.yaml", "budgets.toml"):
        (folder / "eval" / name).write_bytes((ROOT / "eval" / name).read_bytes())
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in answers())
    for split in ("dev", "test"):
        (folder / "eval" / "answers" / f"{split}.jsonl").write_text(lines, encoding="utf8")
    return folder


def cases(folder: Path, split: str = "test", **filters: object) -> EvalSet:
    bank = load_bank(folder / "knowledge" / "questions")
    return assemble(folder / "eval", split, bank, **filters)  # type: ignore[arg-type]


HOLISTIC = "给考生的回答打分"


def by_words(messages: Messages) -> str | float:
    """A model that looks for the claim's words in the answer, and gives 50 to everything when asked for a number."""
    text = messages[-1]["content"]
    if HOLISTIC in text:
        return "50"
    answer, _, claim = text.rpartition("\n要点：")
    return 0.95 if term_recall(claim, answer) > 0.6 else 0.02


def says_yes(messages: Messages) -> str | float:
    """What a worse prompt does: every point is covered."""
    return "50" if HOLISTIC in messages[-1]["content"] else 0.95


class PlainJudge:
    """One question a claim, yes from one half on, the whole answer as quote: evals do not depend on a calibration."""

    name, model, calibration = "plain", "scripted", "none"
    prompts: ClassVar[dict[str, str]] = {"judge-point": "p1"}

    def __init__(self, llm: ScriptedLLM) -> None:
        self._llm = llm

    def _ask(self, case: Case, claim: str) -> tuple[float | None, Usage]:
        reply = self._llm.chat(
            [{"role": "user", "content": f"{case.judged}\n要点：{claim}"}], max_tokens=1, top_logprobs=2
        )
        return (reply.mass(frozenset("是")) if reply.first_token else None), reply.usage

    def judge(self, case: Case, on_verdict: OnVerdict | None = None) -> Judgement:
        usage, verdicts, hits = Usage(), [], []
        quote = Quote(text=case.answer, start=0, end=len(case.answer))
        for point in case.points:
            p, used = self._ask(case, point.text)
            usage += used
            status = Status.UNJUDGED if p is None else Status.COVERED if p >= 0.5 else Status.MISSING
            verdicts.append(
                Verdict(
                    point_id=point.id,
                    text=point.text,
                    weight=point.weight,
                    status=status,
                    probability=p,
                    quote=quote if status is Status.COVERED else None,
                )
            )
        for pitfall in case.pitfalls:
            if term_recall(pitfall.claim, case.judged) > 0.6:
                hits.append(
                    PitfallHit(
                        pitfall_id=pitfall.id,
                        claim=pitfall.claim,
                        correction=pitfall.correction,
                        penalty=pitfall.penalty,
                        quote=quote,
                    )
                )
        return Judgement(tuple(verdicts), tuple(hits), usage)


def settings_for(folder: Path) -> Settings:
    return load_settings(
        {"COACH_HOME": str(folder / "home"), "COACH_KNOWLEDGE": str(folder / "knowledge"), "COACH_LLM": "x"}
    )


def factory(folder: Path, answer: Answer = by_words) -> Callable[[], Subject]:
    """Makes subjects over one index; every subject has an LLM of its own with the same script."""
    config, embedder = settings_for(folder), HashEmbedder()
    if not (folder / "index").exists():
        notes = Root(CURATED, folder / "knowledge" / "notes")
        build(folder / "index", [notes], embedder, VectorCache(folder / "v.sqlite"))

    def make() -> Subject:
        llm = ScriptedLLM(lambda m: NEXT if "正在追问" in m[0]["content"] else answer(m))
        index = open_index(folder / "index", embedder)
        grader = Grader(config, PlainJudge(llm), index, llm)
        return Subject(grader, llm, embedder)

    return make


def start(
    folder: Path,
    eval_set: EvalSet,
    subject: Subject,
    *,
    repeats: int = 1,
    name: str = "run",
    code: str = "c0",
) -> Run:
    meta = Meta(
        name=name,
        split=eval_set.split,
        created="2026-01-01T00:00:00+00:00",
        fingerprint=subject.grader.fingerprint,
        code=code,
        cases=eval_set.digest,
        repeats=repeats,
        holistic="h0",
        selection={},
    )
    return Run.create(folder / "home" / "evals" / name, meta, eval_set)


def run_all(
    folder: Path,
    answer: Answer = by_words,
    *,
    name: str = "run",
    repeats: int = 1,
    jobs: int = 1,
    **filters: object,
) -> tuple[Run, dict[str, Record]]:
    eval_set = cases(folder, **filters)
    make = factory(folder, answer)
    run = start(folder, eval_set, make(), repeats=repeats, name=name)
    return run, execute(run, make, holistic_prompt(settings_for(folder)), jobs=jobs)


def main(folder: Path, kill_after: int) -> None:
    calls = 0

    def answer(messages: Messages) -> str | float:
        nonlocal calls
        calls += 1
        if calls == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        return by_words(messages)

    run_all(folder, answer, suites=["authored", "floor"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
