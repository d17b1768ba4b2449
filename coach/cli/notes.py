"""`coach notes`: bring your own notes."""

from __future__ import annotations

from pathlib import Path

import typer

from coach.cli.common import console, progress, settings
from coach.cli.reading import list_notes, read_topic
from coach.errors import UsageError

app = typer.Typer(
    help="Your own notes: import any mess, see what was made of it, check it for errors.",
    no_args_is_help=True,
)


def _default_name(paths: list[Path]) -> str:
    import re

    first = paths[0].expanduser()
    base = (
        first.resolve().name if first.is_dir() else (first.resolve().stem if len(paths) == 1 else "imported")
    )
    name = re.sub(r"[^\w\u4e00-\u9fff.\-]+", "-", base).strip("-.") or "imported"
    return "imported" if name == "notes" else name


@app.command("import")
def import_notes(
    paths: list[Path] = typer.Argument(
        ..., help="Files, folders or a glob: md, markdown, txt, html, pdf, docx."
    ),
    into: str | None = typer.Option(
        None, "--into", help="Name of the note set; the folder's name when left out."
    ),
    keep_personal: bool = typer.Option(
        False, "--keep-personal", help="Index names, phones, application logs too."
    ),
    report_file: Path | None = typer.Option(
        None, "--report", help="Write the report as FILE.json and FILE.md."
    ),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Import notes into a set, and index what changed. A second import of the same set replaces the first.

    Exit 3 when some file could not be read; the others are imported all the same.

    \b
    coach notes import ~/notes/llm
    coach notes import a.md b.html "clips/**/*.md" --into clips --report import-report
    """
    from coach import notes_report, wiring

    name = into or _default_name(paths)
    config = settings()
    with progress("reading") as parsing, progress("embedding") as embedding:
        result, changes = wiring.import_notes(
            config, name, paths, keep_personal=keep_personal, parsing=parsing, embedding=embedding
        )
    if report_file is not None:
        base = report_file.with_suffix("") if report_file.suffix in (".json", ".md") else report_file
        try:
            base.with_suffix(".json").write_text(notes_report.as_json(result), encoding="utf8")
            base.with_suffix(".md").write_text(notes_report.as_markdown(result), encoding="utf8")
        except OSError as e:
            raise UsageError(f"{report_file}: {e.strerror or e}") from e
    if as_json:
        typer.echo(notes_report.as_json(result))
    else:
        notes_report.print_summary(console(), result)
        typer.echo(f"index: {changes.chunks} chunks, {changes.embedded} embedded anew")
    for problem in result.problems:
        typer.secho(f"! {problem}", fg="yellow", err=True)
    if result.problems:
        raise typer.Exit(3)


app.command("list")(list_notes)


@app.command("show")
def show(
    name: str | None = typer.Argument(None, help="A topic of the curated notes, or a note set of your own."),
    section: str | None = typer.Option(
        None, "--section", "-s", help="Only sections whose heading contains this."
    ),
    answer: str | None = typer.Option(
        None, "--answer", help="full partial outline image_only truncated none"
    ),
    dropped: bool = typer.Option(False, "--dropped", help="List every dropped line with its reason."),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Read the curated notes on a topic, formulas made legible — or the units of a note set with their source lines.

    \b
    coach notes show peft-lora
    coach notes show transformer-attention --section 缩放
    coach notes show llm --answer none
    coach notes show llm --dropped
    """
    from coach import notes_report
    from coach.notes.sets import load_set, note_sets

    home = settings().home
    if name is None:
        for each in note_sets(home):
            notes_report.print_summary(console(), load_set(home, each))
        if not note_sets(home):
            typer.echo("no note set yet; try: coach notes import PATH")
        return
    if name not in note_sets(home):
        read_topic(name, section)
        return
    result = load_set(home, name)
    if as_json:
        typer.echo(notes_report.as_json(result))
    else:
        notes_report.print_units(console(), result, answer=answer, dropped=dropped)


@app.command("check")
def check(
    name: str = typer.Argument(..., help="A note set (coach notes show)."),
    between: bool = typer.Option(
        True, "--between/--no-between", help="Also compare the notes with each other."
    ),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """List statements that are likely wrong: near a known misconception, or opposed by another note. Exit 1 if any.

    A finding is for you to judge. Citations of such statements are marked until you change the note.

    \b
    coach notes check llm
    coach notes check llm --json
    """
    import json
    from dataclasses import asdict

    from coach import notes_report, wiring

    config = settings()
    with progress("comparing") as bar:
        found = wiring.check_notes(config, name, between=between, progress=bar)
    if as_json:
        typer.echo(json.dumps([asdict(s) for s in found], ensure_ascii=False, indent=2))
    else:
        notes_report.print_suspects(console(), found)
    if found:
        raise typer.Exit(1)
