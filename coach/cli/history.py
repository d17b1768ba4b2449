"""`coach history`, `coach progress`, `coach export`, `coach report`: what the interviews left behind."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from coach.cli.common import LANG, console, settings
from coach.cli.practice import open_store
from coach.errors import CoachError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from coach.messages import Messages
    from coach.practice.progress import Progress
    from coach.practice.store import Store

_BAR = 24


def _say(lang: str | None) -> Messages:
    from coach.messages import Messages

    return Messages(lang or settings().lang)


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def history(
    interview: int | None = typer.Argument(None, metavar="[ID]", help="Show this interview in full."),
    regrade: bool = typer.Option(
        False, "--regrade", help="Grade the answers of ID that could not be graded."
    ),
    lang: str | None = LANG,
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
    say = _say(lang)
    store = open_store(settings())
    out = console()
    try:
        if interview is None:
            _list(store, out, say, as_json)
            return
        store.interview(interview)
        if regrade:
            _regrade(store, interview, out, say)
        _show(store, interview, out, say, as_json)
    finally:
        store.close()


def _list(store: Store, out: Console, say: Messages, as_json: bool) -> None:
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
                "mode": _mode(row.config, say),
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for r in rows:
        score = f"{r['average']:.0f}" if r["average"] is not None else "–"
        row_ = say(
            "history_row", id=r["id"], when=_when(r["started"]), score=score, n=r["questions"], mode=r["mode"]
        )
        out.print(row_ if r["ended"] else f"{row_}  {say('history_open')}")
    if not rows:
        out.print(say("history_none"))


def _mode(config: dict[str, Any], say: Messages) -> str:
    if config.get("questions"):
        return say("mode_own")
    if config.get("mock"):
        return say("mode_mock", name=say.stage(config["mock"]))
    if config.get("due"):
        return say("mode_due")
    chosen = (str(config[k]) for k in ("topic", "company", "kind") if config.get(k))
    return say("comma").join(chosen) or say("mode_free")


def _show(store: Store, interview: int, out: Console, say: Messages, as_json: bool) -> None:
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
        out.rule(Text(" · ".join(p for p in (say.stage(r.stage), r.question.topic) if p)), style="dim")
        for t in store.turns(r.id):
            label = "follow_up" if t.follow_up else "retry" if t.attempt > 1 else "question"
            out.print(Text.assemble((f"{say(label, n=n)}  ", "bold green"), (t.prompt, "bold")))
            if t.answer is not None:
                out.print(Padding(Text(t.answer), (0, 0, 0, 2)))
            if t.status in ("answered", "deferred"):
                out.print(Text(f"  {say('history_ungraded', id=interview)}", style="red"))
            elif t.status == "skipped":
                out.print(Text(f"  {say('history_skipped')}", style="dim"))
        if r.merged:
            for verdict in r.merged.verdicts:
                for line in report.verdict_lines(verdict, say):
                    out.print(line)
            for hit in r.merged.pitfalls:
                for line in report.pitfall_lines(hit, say):
                    out.print(line)
            if r.merged.score:
                line_ = report.score_line(r.merged.score, say)
                out.print(Text.assemble(say("score"), " ", (line_, "bold")))
    notes = [e for e in store.events(interview) if e.kind == "note"]
    for e in notes:
        out.print(Text(f"✎ {e.data['text']}", style="yellow"))


def _regrade(store: Store, interview: int, out: Console, say: Messages) -> None:
    """Every answer that was kept without a grade, oldest first. The first failure ends it; what is done stays done."""
    from coach import wiring
    from coach.practice.interview import Interview

    config = settings()
    waiting = [
        t for r in store.rounds(interview) for t in store.turns(r.id) if t.status in ("answered", "deferred")
    ]
    if not waiting:
        out.print(say("nothing_waiting"))
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
            out.print(say("regrade_left", done=done, left=len(waiting) - done))
            raise
        done += 1
    out.print(say("regraded", done=done))


def progress(lang: str | None = LANG, as_json: bool = typer.Option(False, "--json")) -> None:
    """Scores by topic and over time, calibration of your own estimates, resistance to false premises, what is due.

    \b
    coach progress
    coach progress --json
    """
    from coach.practice.progress import progress as compute

    say = _say(lang)
    store = open_store(settings())
    try:
        seen = compute(store, time.time())
    finally:
        store.close()
    if as_json:
        typer.echo(json.dumps(seen.as_dict(), ensure_ascii=False, indent=2))
    else:
        _print_progress(console(), seen, say)


def _print_progress(out: Console, seen: Progress, say: Messages) -> None:
    from rich.text import Text

    from coach.practice_page import headline

    out.print(Text(headline(seen, say), "bold"))
    if not seen.topics:
        out.print(say("progress_none"))
        return
    out.print(Text(f"\n{say('by_topic')}", style="bold"))
    for t in seen.topics:
        filled = round(_BAR * t.average / 100)
        style = "green" if t.average >= 80 else "yellow" if t.average >= 50 else "red"
        due = f"  {say('topic_due', due=t.due)}" if t.due else ""
        out.print(
            Text.assemble(
                f"{t.topic[:24]:<24} ",
                ("█" * filled, style),
                ("░" * (_BAR - filled), "dim"),
                f" {say('topic_row', average=t.average, n=t.questions)}{due}",
            )
        )
    out.print(Text(f"\n{say('by_time')}", style="bold"))
    for at, number, score in seen.timeline[-15:]:
        out.print(f"{_when(at)[5:]}  #{number:<4} {'█' * round(_BAR * score / 100)} {score:.0f}")
    if seen.bias is not None or seen.premises:
        out.print()
    if seen.bias is not None:
        verdict = say("bias_high" if seen.bias > 5 else "bias_low" if seen.bias < -5 else "bias_fair")
        out.print(say("bias", n=len(seen.guesses), bias=seen.bias, verdict=verdict))
    if seen.premises:
        out.print(say("resistance", kept=seen.resisted, asked=seen.premises))


def export(
    anki: Path | None = typer.Option(None, "--anki", help="An Anki deck (.apkg)."),
    md: Path | None = typer.Option(None, "--md", help="Markdown."),
    csv: Path | None = typer.Option(None, "--csv", help="CSV for a spreadsheet."),
    json_: Path | None = typer.Option(None, "--json", help="JSON."),
    lang: str | None = LANG,
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
    say, config = _say(lang), settings()
    store = open_store(config)
    try:
        points = weak_points(store, {q.id: q for q in wiring.bank(config)}, time.time(), say)
    finally:
        store.close()
    if not points:
        raise UsageError("there is no weak point to export", "answer something first: coach practice")
    for ending, path in targets:
        written = write_atomically(path, WRITERS[ending](points, say))
        typer.echo(say("points_written", path=written, n=len(points)))


def report(
    html: Path = typer.Option(..., "--html", help="Write a self-contained page to this file."),
    interview: int | None = typer.Option(
        None, "--interview", "-i", help="Only this interview; otherwise all."
    ),
    lang: str | None = LANG,
) -> None:
    """Write your progress and interviews as one HTML page that needs no network.

    \b
    coach report --html report.html
    coach report --html last.html --interview 12
    """
    from coach.practice.exports import write_atomically
    from coach.practice_page import page

    say = _say(lang)
    store = open_store(settings())
    try:
        ids = [interview] if interview is not None else [i.id for i in store.interviews()]
        if interview is not None:
            store.interview(interview)
        text = page(store, ids, time.time(), say)
    finally:
        store.close()
    written = write_atomically(html, text.encode())
    typer.echo(say("interviews_written", path=written, n=len(ids)))
