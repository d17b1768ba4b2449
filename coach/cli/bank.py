"""`coach bank`: the questions."""

from __future__ import annotations

import typer

from coach.cli.common import console, settings

app = typer.Typer(help="The question bank.", no_args_is_help=True)


@app.command("list")
def list_questions(
    topic: str | None = typer.Option(None, "--topic", "-t"),
    kind: str | None = typer.Option(
        None, "--kind", help="concept compare derivation design coding project behavioral open"
    ),
    company: str | None = typer.Option(None, "--company", "-c"),
    difficulty: int | None = typer.Option(None, "--difficulty", "-d", min=1, max=5),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """List questions, most frequent first.

    \b
    coach bank list --topic peft-lora
    coach bank list --company 快手 --kind coding --json
    """
    from coach import report, wiring

    found = wiring.bank(settings()).select(topic=topic, kind=kind, company=company, difficulty=difficulty)
    if as_json:
        typer.echo(report.as_json(found))
    else:
        report.print_questions(console(), found)


@app.command("show")
def show(question_id: str = typer.Argument(...), as_json: bool = typer.Option(False, "--json")) -> None:
    """Show one question with rubric, pitfalls, reference answer and follow-ups.

    \b
    coach bank show attention-scaling-sqrt-dk
    """
    from coach import report
    from coach.bank import find_question

    question = find_question(settings().knowledge / "questions", question_id)
    if as_json:
        typer.echo(report.as_json(question))
    else:
        report.print_question(console(), question)
