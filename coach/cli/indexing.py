"""`coach index` and `coach search`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from coach.cli.common import console, progress, settings
from coach.errors import UsageError


def index(
    notes: list[Path] = typer.Option(
        [], "--notes", "-n", help="A folder or file of your own notes; remembered."
    ),
    drop: list[Path] = typer.Option([], "--drop", help="Forget a folder given earlier."),
    rebuild: bool = typer.Option(
        False, "--rebuild", help="Start from nothing, e.g. after changing the embedder."
    ),
) -> None:
    """Build or refresh the index over knowledge/ and your notes; with COACH_CHROMA_URL, on that server too.

    \b
    coach index
    coach index --notes ~/notes/llm
    """
    from coach import wiring

    config = settings()
    with progress("embedding") as report:
        changes = wiring.refresh(config, extra=notes, drop=drop, rebuild=rebuild, progress=report)
    for sign, files in (("+", changes.added), ("~", changes.changed), ("-", changes.removed)):
        for file in files[:40]:
            typer.echo(f"{sign} {file}")
        if len(files) > 40:
            typer.echo(f"{sign} … and {len(files) - 40} more")
    for problem in changes.problems:
        typer.secho(f"! {problem}", fg="yellow", err=True)
    typer.echo(
        f"{len(changes.added)} added, {len(changes.changed)} changed, {len(changes.removed)} removed; "
        f"{changes.chunks} chunks, {changes.embedded} embedded"
    )
    if config.chroma_url:
        typer.echo(f"→ {config.chroma_url}")
    if changes.problems:
        raise typer.Exit(3)


def search(
    query: str = typer.Argument(..., help="What to look for."),
    k: int = typer.Option(5, "-k", min=1, max=100, help="How many passages."),
    within: str | None = typer.Option(None, "--in", help="Only this note set (coach notes show)."),
    rewriting: bool = typer.Option(
        False,
        "--rewrite",
        help="Let the LLM add other names for what is meant; seconds on the embedded model.",
    ),
    explain: bool = typer.Option(False, "--explain", help="Say what each passage shares with the query."),
    as_json: bool = typer.Option(False, "--json", help="Print passages as JSON."),
) -> None:
    """Find passages in the notes, with file:lines and scores.

    \b
    coach search "为什么要除以根号 d_k" -k 3
    coach search "键值缓存 怎么省显存" --explain
    coach search "怎么让旧的词也记得住位置" --rewrite
    """
    if not query.strip():
        raise UsageError("the query is empty")
    from coach import report, wiring
    from coach.retrieve import explain as why
    from coach.retrieve import retrieve

    config = settings()
    with progress("embedding") as bar:
        ready = wiring.index(config, bar)
    if within is not None and within not in ready.roots:
        raise UsageError(
            f"no note set {within!r} in the index", f"there are: {', '.join(sorted(ready.roots))}"
        )
    if rewriting:
        query = wiring.rewriter(config)(query)
        typer.secho(f"query: {query}", fg="bright_black", err=True)
    passages = retrieve(ready, query, k, within)
    if as_json and explain:
        rows = [{**p.model_dump(mode="json"), "why": asdict(why(ready, query, p))} for p in passages]
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
    elif as_json:
        typer.echo(report.as_json(passages))
    elif explain:
        out = console()
        for rank, passage in enumerate(passages, 1):
            report.print_passages(out, [passage], first=rank)
            report.print_why(out, why(ready, query, passage))
    else:
        report.print_passages(console(), passages)
