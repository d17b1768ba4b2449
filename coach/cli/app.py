"""The command tree."""

from __future__ import annotations

import typer

from coach import __version__
from coach.cli import bank, drafts, grading, indexing, models, notes, retrieval, system

app = typer.Typer(
    name="coach",
    help="Interview coach: grades a free-form answer point by point, with quotes, citations and an error bar.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("practice")(grading.practice)
app.command("grade")(grading.grade)
app.command("search")(indexing.search)
app.command("index")(indexing.index)
bank.app.command("draft")(drafts.draft)
bank.app.command("review")(drafts.review)
app.add_typer(bank.app, name="bank")
app.add_typer(notes.app, name="notes")
evals = typer.Typer(help="Measure the coach itself.", no_args_is_help=True)
evals.command("retrieval")(retrieval.retrieval)
app.add_typer(evals, name="eval")
app.add_typer(models.app, name="models")
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
