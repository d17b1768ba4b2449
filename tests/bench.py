"""`make bench`: what the README states about speed and memory, measured on this machine. Never part of the tests."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ANSWER = (
    "假设 q 和 k 的每一维都独立，均值 0、方差 1，那么点积是 d_k 个乘积的和，方差就是 d_k，标准差是根号 d_k。"
    "维度一大，分数的绝对值就很大，softmax 会变得特别尖，接近 one-hot，这时候它的梯度接近 0，反向传播基本传不动，训练很慢。"
    "所以除以根号 d_k，把方差拉回 1，softmax 就落在梯度正常的区间。加性注意力没有这个问题，因为它前面有 tanh。"
    "如果除以 d_k，方差会变成 d_k 分之一，分布又太平了，区分不出重点。实际里也有人把它并到初始化里，比如 T5。"
)


def wall(args: list[str], times: int = 5) -> float:
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", "from coach.cli import main; main()", *args],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    from coach import wiring
    from coach.bank import find_question
    from coach.config import load_settings
    from coach.judge.evidence import condense, gather
    from coach.judge.readout import YesNo
    from coach.llm import open_llm

    settings = load_settings()
    rows: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    }
    rows["coach --help, s (best of 5)"] = round(wall(["--help"]), 2)
    wiring.refresh(settings)
    rows["warm `coach index`, s (best of 5)"] = round(wall(["index"]), 2)

    start = time.perf_counter()
    grader = wiring.grader(settings)
    rows["load index and model, s"] = round(time.perf_counter() - start, 1)
    question = find_question(settings.knowledge / "questions", "attention-scaling-sqrt-dk")
    question = question.model_copy(
        update={
            "rubric": (
                *question.rubric,
                *find_question(settings.knowledge / "questions", "why-multi-head").rubric,
            )[:6]
        }
    )
    llm = open_llm(settings)
    rows["answer, tokens"] = llm.count_tokens(ANSWER)  # type: ignore[attr-defined]
    grader.grade(question, ANSWER, follow_up=False)  # the first grade loads the embedder
    start = time.perf_counter()
    grade = grader.grade(question, ANSWER, follow_up=False)
    rows[f"one answer, {len(question.rubric)} points, {len(question.pitfalls)} pitfalls, s"] = round(
        time.perf_counter() - start, 1
    )
    used = grade.usage
    rows["  its prompt tokens, share from the prefix cache"] = (
        f"{used.prompt_tokens}, {used.cached_share:.0%}"
    )
    computed = max(1, used.prompt_tokens - used.cached_tokens)
    rows["  the same with every point a full prompt, s (estimated from this run's rate)"] = round(
        used.prompt_tokens / computed * used.seconds, 1
    )
    claims = [p.text for p in question.rubric]
    shown = condense(ANSWER, gather(grader._index.embedder, ANSWER, claims))
    start = time.perf_counter()
    _, usage = YesNo(settings, llm).read(question.question, shown, claims)
    rows["untrained yes/no questions for the points, s"] = round(time.perf_counter() - start, 1)
    rows["  prompt tokens, share from the prefix cache"] = f"{usage.prompt_tokens}, {usage.cached_share:.0%}"
    rows["peak memory, GiB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    print(json.dumps(rows, ensure_ascii=False, indent=2))


if __name__ == "__main__":
    main()
