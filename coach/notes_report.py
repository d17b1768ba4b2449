"""What an import made of the notes: for the terminal, as Markdown, as JSON. Personal data is shown masked only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from coach.notecheck import Suspect
from coach.notes.sets import Imported, Result

ANSWERS = {
    "full": "完整",
    "partial": "部分",
    "outline": "只有提纲",
    "image_only": "只有图片",
    "truncated": "被截断",
    "none": "没有答案",
}


def counts(result: Result) -> dict[str, Any]:
    questions = [u for u in result.units if u.kind == "question"]
    return {
        "sources": len(result.sources),
        "units": len(result.units),
        "questions": len(questions),
        "prose": len(result.units) - len(questions),
        "answers": {k: sum(u.answer == k for u in questions) for k in ANSWERS},
        "matched_to_bank": sum(bool(u.bank) for u in questions),
        "merged": dict(Counter(m.what for s in result.sources for m in s.merged)),
        "dropped": dict(Counter(d.reason for s in result.sources for d in s.dropped).most_common()),
        "personal": dict(Counter(f.kind for s in result.sources for f in s.personal)),
        "problems": len(result.problems),
    }


def as_json(result: Result) -> str:
    plain = {
        "set": result.name,
        "counts": counts(result),
        "problems": result.problems,
        "sources": [
            {**asdict(s), "units": [{**asdict(u), "lines": None, "text": u.text} for u in s.units]}
            for s in result.sources
        ],
    }
    return json.dumps(plain, ensure_ascii=False, indent=1)


def ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 7] → "1-3, 7"."""
    out: list[list[int]] = []
    for n in sorted(set(numbers)):
        if out and n == out[-1][1] + 1:
            out[-1][1] = n
        else:
            out.append([n, n])
    return ", ".join(f"{a}-{b}" if b > a else str(a) for a, b in out)


def _by_reason(source: Imported) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for d in source.dropped:
        found.setdefault(d.reason, []).append(d.line)
    return found


def as_markdown(result: Result) -> str:
    c = counts(result)
    lines = [f"# 导入报告：{result.name}", ""]
    lines += [
        f"{c['sources']} 个文件，{c['questions']} 个问题，{c['prose']} 段文字；{c['matched_to_bank']} 个问题与题库相同或相近。",
        "",
        "| 答案 | 数量 |",
        "|---|---|",
        *(f"| {name} | {c['answers'][key]} |" for key, name in ANSWERS.items()),
        "",
    ]
    if result.problems:
        lines += ["## 没有读入", "", *(f"- {p}" for p in result.problems), ""]
    for s in result.sources:
        lines += [f"## {s.name}", ""]
        if s.remark:
            lines += [f"{s.remark}。", ""]
        questions = [u for u in s.units if u.kind == "question"]
        lines.append(f"- 问题 {len(questions)}，文字 {len(s.units) - len(questions)}")
        for key, name in ANSWERS.items():
            rows = [u.question_line for u in questions if u.answer == key]
            if rows and key != "full":
                lines.append(f"- {name}：第 {ranges(rows)} 行")
        for m in s.merged:
            lines.append(
                f"- 重复（{m.what}）：第 {ranges(list(range(m.first_line, m.last_line + 1)))} 行，保留 {m.kept}"
            )
        for reason, rows in _by_reason(s).items():
            lines.append(f"- 去掉 {reason}：第 {ranges(rows)} 行")
        for f in s.personal:
            lines.append(f"- 个人信息 {f.kind}：第 {f.line} 行 `{f.excerpt}`")
        lines.append("")
    return "\n".join(lines)


def print_summary(console: Console, result: Result) -> None:
    c = counts(result)
    console.print(
        f"{result.name}：{c['sources']} 个文件，{c['questions']} 个问题，{c['prose']} 段文字", style="bold"
    )
    console.print(
        "  答案 "
        + "，".join(f"{name} {c['answers'][key]}" for key, name in ANSWERS.items() if c["answers"][key])
    )
    console.print(f"  与题库匹配 {c['matched_to_bank']}；合并重复 {sum(c['merged'].values())}")
    if c["dropped"]:
        console.print("  去掉的行 " + "，".join(f"{k} {v}" for k, v in c["dropped"].items()))
    if c["personal"]:
        console.print(
            "  个人信息（不进索引，--keep-personal 可保留） "
            + "，".join(f"{k} {v}" for k, v in c["personal"].items()),
            style="yellow",
        )
    for s in result.sources:
        if s.remark:
            console.print(f"  {s.name}：{s.remark}", style="dim")


def print_units(
    console: Console, result: Result, *, answer: str | None = None, dropped: bool = False
) -> None:
    for s in result.sources:
        if dropped:
            for d in s.dropped:
                console.print(f"{result.name}/{s.name}:{d.line}  [{d.reason}] {d.excerpt}")
            for m in s.merged:
                console.print(f"{result.name}/{s.name}:{m.first_line}-{m.last_line}  [repeat of {m.kept}]")
            continue
        for u in s.units:
            if answer and u.answer != answer:
                continue
            where = f"{result.name}/{s.name}:{u.question_line or u.first_line}-{u.last_line}"
            status = ANSWERS[u.answer] if u.kind == "question" else "文字"
            matched = f" → {u.bank} ({u.bank_cosine:.2f})" if u.bank else ""
            console.print(f"{where}  {status}  {u.question or u.heading}{matched}")


def print_suspects(console: Console, found: Sequence[Suspect]) -> None:
    for s in found:
        kind = "像一个已知误区" if s.kind == "pitfall" else "与另一条笔记相反"
        console.print(f"{s.ref}  {kind}（{s.cosine:.3f}）", style="bold")
        console.print(f"    笔记：{s.claim}")
        console.print(f"    对照：{s.against_text}  ↳ {s.against}")
        if s.correction:
            console.print(f"    更正：{s.correction}", style="green")
    console.print(f"{len(found)} 处需要你看一眼" if found else "没有发现可疑的说法", style="dim")
