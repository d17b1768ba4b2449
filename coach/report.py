"""Domain objects → terminal. Every number on it can be added up again.

Grades speak the language of the catalogue that is passed in; notes and the bank are shown as they are, in Chinese.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from coach.domain import Grade, Passage, PitfallHit, Point, Question, Score, Status, Verdict
from coach.formula import readable
from coach.messages import Messages
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


def score_line(score: Score, say: Messages) -> str:
    """`62 ± 9 = 100 × (2 + 1 + 0 − 1) ÷ 8`: re-addable from what is printed."""
    terms = " + ".join(number(t) for t in score.terms)
    minus = f" − {number(score.penalty)}" if score.penalty else ""
    floor = say("score_floor") if sum(score.terms) < score.penalty else ""
    return (
        f"{score.value:.0f} ± {score.half_width:.0f} = 100 × ({terms}{minus}) ÷ {number(score.total)}{floor}"
    )


def interval_line(grade: Grade, say: Messages) -> str:
    """Where the score lies with 80 % probability, and what was left out of it. The grade must have a score."""
    assert grade.score is not None
    skipped = sum(v.status is Status.UNJUDGED for v in grade.verdicts)
    return say("interval", low=grade.score.low, high=grade.score.high) + (
        say("unjudged", n=skipped) if skipped else ""
    )


def _below(text: str, style: str = "") -> Padding:
    return Padding(Text(text, style=style), (0, 0, 0, _INDENT))


def _quote(text: str, say: Messages) -> Padding:
    return _below(say("quote", text=" ".join(text.split())), "cyan")


def verdict_lines(verdict: Verdict, say: Messages) -> list[Text | Padding]:
    mark, style = MARK[verdict.status]
    earned = "–" if verdict.status is Status.UNJUDGED else number(round(verdict.weight * credit(verdict), 2))
    head = Text.assemble((f"{mark} ", style), (f"{earned}/{verdict.weight} ".ljust(5), "bold"), verdict.text)
    lines: list[Text | Padding] = [head]
    if verdict.quote:
        lines.append(_quote(verdict.quote.text, say))
    if verdict.reason and verdict.status is not Status.COVERED:
        lines.append(_below(say.reason(verdict.reason), "dim"))
    if verdict.citation:
        lines.append(_below(f"↳ {verdict.citation.ref}", "dim"))
    return lines


def pitfall_lines(hit: PitfallHit, say: Messages, hidden: bool = False) -> list[Text | Padding]:
    """`hidden`: the quote only, since the next question is about what is wrong with it."""
    name = say("pitfall_hidden") if hidden else say("pitfall", text=hit.claim)
    lines: list[Text | Padding] = [
        Text.assemble(("！ ", "magenta"), (f"−{hit.penalty}".ljust(5), "bold"), name),
        _quote(hit.quote.text, say),
    ]
    if hidden:
        return lines
    lines.append(_below(say("correction", text=hit.correction)))
    if hit.citation:
        lines.append(_below(f"↳ {hit.citation.ref}", "dim"))
    return lines


def flag_lines(grade: Grade, say: Messages) -> list[Text]:
    return [Text(f"⚑ {say('flag_' + f.kind, quote=f.quote)}", style="magenta") for f in grade.flags]


def graded_by(grade: Grade, say: Messages) -> list[str]:
    out = []
    if grade.fingerprint:
        f = grade.fingerprint
        prompts = " ".join(f"{name}@{digest[:6]}" for name, digest in sorted(f.prompts.items()))
        calibration = f.calibration.replace(f"{f.model}-", "")
        out.append(say("graded_by", model=f.model, judge=f.judge, knowledge=f.knowledge))
        out.append(say("calibration", name=calibration))
        out.append(say("prompts", prompts=prompts, embedder=f.embedder))
    u = grade.usage
    if u.calls:
        out.append(
            say(
                "usage",
                calls=u.calls,
                prompt=u.prompt_tokens,
                cached=u.cached_share,
                completion=u.completion_tokens,
                seconds=u.seconds,
            )
        )
    return out


def print_grade(console: Console, grade: Grade, say: Messages) -> None:
    console.print()
    for verdict in grade.verdicts:
        for line in verdict_lines(verdict, say):
            console.print(line)
    for hit in grade.pitfalls:
        for line in pitfall_lines(hit, say):
            console.print(line)
    for flag in flag_lines(grade, say):
        console.print(flag)
    console.print()
    if grade.score is None:
        console.print(Text(say.reason(grade.note), style="bold red"))
    else:
        console.print(Text.assemble(say("score"), " ", (score_line(grade.score, say), "bold")))
        console.print(Text(f"     {interval_line(grade, say)}", style="dim"))
    if grade.follow_up:
        console.print()
        console.print(Text.assemble((f"{say('follow_up')} ", "bold"), grade.follow_up.ask))
    console.print()
    for row in graded_by(grade, say):
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
