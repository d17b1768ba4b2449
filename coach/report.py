"""Domain objects → terminal. What a candidate reads is Chinese; every number on it can be added up again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from coach.domain import Grade, Passage, PitfallHit, Point, Question, Score, Status, Verdict
from coach.formula import readable
from coach.retrieve import Why
from coach.score import credit

MARK = {
    Status.COVERED: ("✔", "green"),
    Status.PARTIAL: ("◐", "yellow"),
    Status.MISSING: ("✘", "red"),
    Status.CONTRADICTED: ("！", "magenta"),
    Status.UNJUDGED: ("？", "dim"),
}
_INDENT = 7


def number(x: float) -> str:
    """2.0 → 2, 1.5 → 1.5: what a person would write.

    >>> number(2.0), number(0.67)
    ('2', '0.67')
    """
    return f"{x:.2f}".rstrip("0").rstrip(".")


def score_line(score: Score) -> str:
    """`62 ± 9 = 100 × (2 + 1 + 0 − 1) ÷ 8`: re-addable from what is printed."""
    terms = " + ".join(number(t) for t in score.terms)
    minus = f" − {number(score.penalty)}" if score.penalty else ""
    floor = "，负数按 0 计" if sum(score.terms) < score.penalty else ""
    return (
        f"{score.value:.0f} ± {score.half_width:.0f} = 100 × ({terms}{minus}) ÷ {number(score.total)}{floor}"
    )


def verdict_lines(verdict: Verdict) -> list[Text | Padding]:
    mark, style = MARK[verdict.status]
    earned = "–" if verdict.status is Status.UNJUDGED else number(round(verdict.weight * credit(verdict), 2))
    head = Text.assemble((f"{mark} ", style), (f"{earned}/{verdict.weight} ".ljust(5), "bold"), verdict.text)
    lines: list[Text | Padding] = [head]
    if verdict.quote:
        quoted = " ".join(verdict.quote.text.split())
        lines.append(Padding(Text(f"「{quoted}」", style="cyan"), (0, 0, 0, _INDENT)))
    if verdict.reason and verdict.status is not Status.COVERED:
        lines.append(Padding(Text(verdict.reason, style="dim"), (0, 0, 0, _INDENT)))
    if verdict.citation:
        lines.append(Padding(Text(f"↳ {verdict.citation.ref}", style="dim"), (0, 0, 0, _INDENT)))
    return lines


def pitfall_lines(hit: PitfallHit) -> list[Text | Padding]:
    lines: list[Text | Padding] = [
        Text.assemble(("！ ", "magenta"), (f"−{hit.penalty}".ljust(5), "bold"), "误区：", hit.claim),
        Padding(Text(f"「{' '.join(hit.quote.text.split())}」", style="cyan"), (0, 0, 0, _INDENT)),
        Padding(Text(f"更正：{hit.correction}"), (0, 0, 0, _INDENT)),
    ]
    if hit.citation:
        lines.append(Padding(Text(f"↳ {hit.citation.ref}", style="dim"), (0, 0, 0, _INDENT)))
    return lines


def graded_by(grade: Grade) -> list[str]:
    out = []
    if grade.fingerprint:
        f = grade.fingerprint
        prompts = " ".join(f"{name}@{digest[:6]}" for name, digest in sorted(f.prompts.items()))
        calibration = f.calibration.replace(f"{f.model}-", "").replace(f.model, "readout")
        out.append(f"评分 {f.model} · {f.judge} · 知识库 {f.knowledge}")
        out.append(f"校准 {calibration}")
        out.append(f"提示词 {prompts} · 嵌入 {f.embedder}")
    u = grade.usage
    if u.calls:
        out.append(
            f"用量 {u.calls} 次调用 · {u.prompt_tokens:,} 输入 token（{u.cached_share:.0%} 来自前缀缓存）"
            f" · {u.completion_tokens:,} 输出 · {u.seconds:.1f} 秒"
        )
    return out


def print_grade(console: Console, grade: Grade, *, follow_up: bool = True) -> None:
    console.print()
    for verdict in grade.verdicts:
        for line in verdict_lines(verdict):
            console.print(line)
    for hit in grade.pitfalls:
        for line in pitfall_lines(hit):
            console.print(line)
    for flag in grade.flags:
        what = "对评分者说的话，已忽略" if flag.kind == "injection" else "隐藏字符，已忽略"
        console.print(Text(f"⚑ {what}：{flag.quote}", style="magenta"))
    console.print()
    if grade.score is None:
        console.print(Text(grade.note, style="bold red"))
    else:
        console.print(Text.assemble("得分 ", (score_line(grade.score), "bold")))
        skipped = [v for v in grade.verdicts if v.status is Status.UNJUDGED]
        console.print(
            Text(
                f"     80% 区间 {grade.score.low:.0f}–{grade.score.high:.0f}"
                + (f"；{len(skipped)} 个要点没有判断，不计入分母" if skipped else ""),
                style="dim",
            )
        )
    if follow_up and grade.follow_up:
        console.print()
        console.print(Text.assemble(("追问 ", "bold"), grade.follow_up.ask))
    console.print()
    for row in graded_by(grade):
        console.print(Text(row, style="dim"))


def print_passages(console: Console, passages: Sequence[Passage], first: int = 1) -> None:
    for rank, passage in enumerate(passages, first):
        why = " ".join(
            part
            for part in (
                f"余弦 {passage.dense:.3f}" if passage.dense is not None else "",
                f"BM25 {passage.lexical:.1f}" if passage.lexical is not None else "",
            )
            if part
        )
        console.print(
            Text.assemble((f"{rank}. {passage.chunk.ref}", "bold"), (f"  {passage.score:.4f}  {why}", "dim"))
        )
        console.print(Padding(Text(passage.chunk.heading, style="cyan"), (0, 0, 0, 3)))
        text = " ".join(readable(passage.chunk.text).split())
        console.print(Padding(Text(text[:200] + ("…" if len(text) > 200 else "")), (0, 0, 1, 3)))


def print_why(console: Console, why: Why) -> None:
    """Below a passage: what brought it up."""
    rows = [
        (
            "来源",
            {
                "curated": "自带笔记（已审）",
                "imported": "导入的笔记（未审）",
                "contradicted": "导入的笔记（疑有误）",
            }.get(why.trust, why.trust),
        ),
        ("共有的词", "、".join(why.words)),
        ("共有的概念", "、".join(why.concepts)),
        ("回答的问题", why.question),
        ("题库里的同类题", why.matched),
    ]
    for name, value in rows:
        if value:
            console.print(Padding(Text.assemble((f"{name} ", "dim"), value), (0, 0, 0, 3)))
    console.print()


def print_questions(console: Console, questions: Iterable[Question]) -> None:
    rows = list(questions)
    for q in rows:
        console.print(
            Text.assemble(
                (q.id, "bold"),
                (f"  {q.topic} · {q.kind} · 难度 {q.difficulty} · 出现 {q.frequency} 次", "dim"),
            )
        )
        console.print(Padding(Text(q.question), (0, 0, 0, 3)))
    console.print(Text(f"{len(rows)} 题", style="dim"))


def _rubric_lines(points: Iterable[Point], indent: int) -> list[Padding]:
    lines = []
    for point in points:
        lines.append(
            Padding(
                Text.assemble((f"{point.weight} ", "bold"), point.text, (f"  [{point.id}]", "dim")),
                (0, 0, 0, indent),
            )
        )
        for level, text in sorted((point.levels or {}).items()):
            lines.append(Padding(Text(f"{level}：{text}", style="dim"), (0, 0, 0, indent + 4)))
        if point.source:
            lines.append(Padding(Text(f"↳ {point.source}", style="dim"), (0, 0, 0, indent + 4)))
    return lines


def print_question(console: Console, q: Question) -> None:
    companies = "、".join(q.companies) or "–"
    console.print(Text(q.question, style="bold"))
    console.print(
        Text(
            f"{q.id} · {q.topic} · {q.kind} · 难度 {q.difficulty} · 出现 {q.frequency} 次 · {companies}",
            style="dim",
        )
    )
    if q.coding:
        console.print(Text("\n题面", style="bold"))
        console.print(Padding(Text(readable(q.coding.statement.strip())), (0, 0, 0, 2)))
    console.print(Text(f"\n要点（共 {sum(p.weight for p in q.rubric)} 分）", style="bold"))
    for line in _rubric_lines(q.rubric, 2):
        console.print(line)
    if q.pitfalls:
        console.print(Text("\n误区", style="bold"))
        for p in q.pitfalls:
            console.print(
                Padding(
                    Text.assemble((f"−{p.penalty} ", "bold"), p.claim, (f"  [{p.id}]", "dim")), (0, 0, 0, 2)
                )
            )
            console.print(Padding(Text(f"更正：{p.correction}"), (0, 0, 0, 6)))
    console.print(Text("\n参考答案", style="bold"))
    console.print(Padding(Text(readable(q.reference.strip())), (0, 0, 0, 2)))
    if q.coding:
        console.print(Text("\n参考实现", style="bold"))
        from rich.syntax import Syntax

        console.print(
            Padding(Syntax(q.coding.solution.strip(), "python", background_color="default"), (0, 0, 0, 2))
        )
        costs = "，".join(f"{name} {cost}" for name, cost in q.coding.complexity.items())
        console.print(
            Padding(Text(f"复杂度：{costs}；测试 {len(q.coding.tests)} 个", style="dim"), (0, 0, 0, 2))
        )
    if q.follow_ups:
        console.print(Text("\n追问", style="bold"))
        for f in q.follow_ups:
            console.print(Padding(Text.assemble(f.ask, (f"  [{f.id} · {f.type}]", "dim")), (0, 0, 0, 2)))
            for line in _rubric_lines(f.rubric, 6):
                console.print(line)


def as_json(value: Any) -> str:
    """JSON of a domain object or a list of them; Chinese stays readable."""
    import json

    plain = (
        [v.model_dump(mode="json") for v in value]
        if isinstance(value, list | tuple)
        else value.model_dump(mode="json")
    )
    return json.dumps(plain, ensure_ascii=False, indent=2)
