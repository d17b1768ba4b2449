"""The command tree."""

from __future__ import annotations

import typer

from coach import __version__
from coach.cli import (
    bank,
    batch,
    drafts,
    evals,
    grading,
    history,
    indexing,
    models,
    notes,
    practice,
    retrieval,
    system,
)

app = typer.Typer(
    name="coach",
    help="Interview coach: grades a free-form answer point by point, with quotes, citations and an error bar.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("practice")(practice.practice)
app.command("grade")(grading.grade)
app.command("history")(history.history)
app.command("progress")(history.progress)
app.command("export")(history.export)
app.command("report")(history.report)
app.command("search")(indexing.search)
app.command("index")(indexing.index)
app.add_typer(batch.app, name="batch")
bank.app.command("draft")(drafts.draft)
bank.app.command("review")(drafts.review)
app.add_typer(bank.app, name="bank")
app.add_typer(notes.app, name="notes")
evals.app.command("retrieval")(retrieval.retrieval)
app.add_typer(models.app, name="models")
app.add_typer(evals.app, name="eval")
app.command("doctor")(system.doctor)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"coach {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    pass
