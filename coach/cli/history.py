"""`coach history`, `coach progress`, `coach export`, `coach report`: what the interviews left behind."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from coach.cli.common import console, settings
from coach.cli.practice import open_store
from coach.errors import CoachError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from coach.practice.progress import Progress
    from coach.practice.store import Store

_BAR = 24


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def history(
    interview: int | None = typer.Argument(None, metavar="[ID]", help="Show this interview in full."),
    regrade: bool = typer.Option(
        False, "--regrade", help="Grade the answers of ID that could not be graded."
    ),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """List the interviews, or show one: every prompt, answer and score.

    \b
    coach history
    coach history 12
    coach history 12 --regrade
    coach history 12 --json
    """
    if regrade and interview is None:
        raise UsageError("--regrade needs the interview's number", "coach history lists them")
    config = settings()
    store = open_store(config)
    out = console()
    try:
        if interview is None:
            _list(store, out, as_json)
            return
        store.interview(interview)
        if regrade:
            _regrade(store, interview, out)
        _show(store, interview, out, as_json)
    finally:
        store.close()


def _list(store: Store, out: Console, as_json: bool) -> None:
    from coach.practice.progress import summary

    rows: list[dict[str, Any]] = []
    for row in store.interviews():
        found = summary(store, row.id)
        rows.append(
            {
                "id": row.id,
                "started": row.started,
                "ended": row.ended,
                "questions": len(found.rows),
                "average": found.average,
                "mode": _mode(row.config),
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for r in rows:
        score = f"{r['average']:3.0f} 分" if r["average"] is not None else "  – 分"
        state = "" if r["ended"] else "  （未结束）"
        out.print(f"{r['id']:>4}  {_when(r['started'])}  {score}  {r['questions']} 题  {r['mode']}{state}")
    if not rows:
        out.print("还没有面试记录：coach practice")


def _mode(config: dict[str, Any]) -> str:
    if config.get("questions"):
        return "拷打项目"
    if config.get("mock"):
        return f"模拟{config['mock']}"
    if config.get("due"):
        return "到期复习"
    return "、".join(str(config[k]) for k in ("topic", "company", "kind") if config.get(k)) or "自由练习"


def _show(store: Store, interview: int, out: Console, as_json: bool) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from coach import report

    rounds = store.rounds(interview)
    if as_json:
        rows = []
        for r in rounds:
            rows.append(
                {
                    "question_id": r.question.id,
                    "stage": r.stage,
                    "state": r.state,
                    "score": r.merged.score.model_dump() if r.merged and r.merged.score else None,
                    "verdicts": [v.model_dump(mode="json") for v in r.merged.verdicts] if r.merged else [],
                    "turns": [
                        {
                            "prompt": t.prompt,
                            "follow_up": t.follow_up.type if t.follow_up else None,
                            "attempt": t.attempt,
                            "status": t.status,
                            "answer": t.answer,
                            "guess": t.guess,
                            "score": t.grade.score.value if t.grade and t.grade.score else None,
                        }
                        for t in store.turns(r.id)
                    ],
                }
            )
        events = [{"kind": e.kind, "at": e.at, **e.data} for e in store.events(interview)]
        typer.echo(
            json.dumps({"id": interview, "rounds": rows, "events": events}, ensure_ascii=False, indent=2)
        )
        return
    for n, r in enumerate(rounds, 1):
        out.print()
        out.rule(Text(" · ".join(p for p in (r.stage, r.question.topic) if p)), style="dim")
        for t in store.turns(r.id):
            label = "追问" if t.follow_up else "重答" if t.attempt > 1 else f"问题 {n}"
            out.print(Text.assemble((f"{label}  ", "bold green"), (t.prompt, "bold")))
            if t.answer is not None:
                out.print(Padding(Text(t.answer), (0, 0, 0, 2)))
            if t.status in ("answered", "deferred"):
                out.print(Text(f"  未评分：coach history {interview} --regrade", style="red"))
            elif t.status == "skipped":
                out.print(Text("  （跳过）", style="dim"))
        if r.merged:
            for verdict in r.merged.verdicts:
                for line in report.verdict_lines(verdict):
                    out.print(line)
            for hit in r.merged.pitfalls:
                for line in report.pitfall_lines(hit):
                    out.print(line)
            if r.merged.score:
                out.print(Text.assemble("得分 ", (report.score_line(r.merged.score), "bold")))
    notes = [e for e in store.events(interview) if e.kind == "note"]
    for e in notes:
        out.print(Text(f"✎ {e.data['text']}", style="yellow"))


def _regrade(store: Store, interview: int, out: Console) -> None:
    """Every answer that was kept without a grade, oldest first. The first failure ends it; what is done stays done."""
    from coach import wiring
    from coach.practice.interview import Interview

    config = settings()
    waiting = [
        t for r in store.rounds(interview) for t in store.turns(r.id) if t.status in ("answered", "deferred")
    ]
    if not waiting:
        out.print("没有等待评分的回答。")
        return
    grader = wiring.grader(config, store.interview(interview).config.get("judge"))
    made = Interview(store, interview, {}, lambda: grader, time.time)
    done = 0
    for turn in waiting:
        store.set_status(turn.id, "answered")
        try:
            made.grade_waiting()
        except CoachError:
            store.set_status(turn.id, turn.status)
            out.print(f"已补评 {done} 个，剩 {len(waiting) - done} 个")
            raise
        done += 1
    out.print(f"已补评 {done} 个回答")


def progress(as_json: bool = typer.Option(False, "--json")) -> None:
    """Scores by topic and over time, calibration of your own estimates, resistance to false premises, what is due.

    \b
    coach progress
    coach progress --json
    """
    from coach.practice.progress import progress as compute

    store = open_store(settings())
    try:
        seen = compute(store, time.time())
    finally:
        store.close()
    if as_json:
        typer.echo(json.dumps(seen.as_dict(), ensure_ascii=False, indent=2))
    else:
        _print_progress(console(), seen)


def _print_progress(out: Console, seen: Progress) -> None:
    from rich.text import Text

    out.print(
        Text(
            f"{seen.interviews} 场 · {seen.answers} 个回答 · 到期要点 {seen.due} 个（{seen.due_questions} 题）",
            "bold",
        )
    )
    if not seen.topics:
        out.print("还没有评分：coach practice")
        return
    out.print(Text("\n按主题（弱的在前）", style="bold"))
    for t in seen.topics:
        filled = round(_BAR * t.average / 100)
        style = "green" if t.average >= 80 else "yellow" if t.average >= 50 else "red"
        due = f"  到期 {t.due}" if t.due else ""
        out.print(
            Text.assemble(
                f"{t.topic[:24]:<24} ",
                ("█" * filled, style),
                ("░" * (_BAR - filled), "dim"),
                f" {t.average:3.0f}  {t.questions} 题{due}",
            )
        )
    out.print(Text("\n按时间（每场平均）", style="bold"))
    for at, number, score in seen.timeline[-15:]:
        out.print(f"{_when(at)[5:]}  #{number:<4} {'█' * round(_BAR * score / 100)} {score:.0f}")
    if seen.bias is not None:
        verdict = "偏高" if seen.bias > 5 else "偏低" if seen.bias < -5 else "大致准确"
        out.print(f"\n自评 {len(seen.guesses)} 次，平均比得分 {seen.bias:+.0f}：{verdict}")
    if seen.premises:
        out.print(f"抗诱导 {seen.resisted}/{seen.premises}")


def export(
    anki: Path | None = typer.Option(None, "--anki", help="An Anki deck (.apkg)."),
    md: Path | None = typer.Option(None, "--md", help="Markdown."),
    csv: Path | None = typer.Option(None, "--csv", help="CSV for a spreadsheet."),
    json_: Path | None = typer.Option(None, "--json", help="JSON."),
) -> None:
    """Export the points you do not know yet, each with the note it rests on.

    \b
    coach export --anki deck.apkg
    coach export --md weak.md --csv weak.csv
    """
    from coach import wiring
    from coach.practice.exports import WRITERS, write_atomically
    from coach.practice.progress import weak_points

    targets = [(e, p) for e, p in ((".apkg", anki), (".md", md), (".csv", csv), (".json", json_)) if p]
    if not targets:
        raise UsageError(
            "say what to write", "coach export --anki deck.apkg | --md FILE | --csv FILE | --json FILE"
        )
    config = settings()
    store = open_store(config)
    try:
        points = weak_points(store, {q.id: q for q in wiring.bank(config)}, time.time())
    finally:
        store.close()
    if not points:
        raise UsageError("there is no weak point to export", "answer something first: coach practice")
    for ending, path in targets:
        typer.echo(f"{write_atomically(path, WRITERS[ending](points))}: {len(points)} points")


def report(
    html: Path = typer.Option(..., "--html", help="Write a self-contained page to this file."),
    interview: int | None = typer.Option(
        None, "--interview", "-i", help="Only this interview; otherwise all."
    ),
) -> None:
    """Write your progress and interviews as one HTML page that needs no network.

    \b
    coach report --html report.html
    coach report --html last.html --interview 12
    """
    from coach.practice.exports import write_atomically
    from coach.practice_page import page

    store = open_store(settings())
    try:
        ids = [interview] if interview is not None else [i.id for i in store.interviews()]
        if interview is not None:
            store.interview(interview)
        text = page(store, ids, time.time())
    finally:
        store.close()
    typer.echo(f"{write_atomically(html, text.encode())}: {len(ids)} interviews")
