"""`coach bank`: the questions."""

from __future__ import annotations

import typer

from coach.cli.common import console, progress, settings

app = typer.Typer(help="The question bank.", no_args_is_help=True)


@app.command("list")
def list_questions(
    topic: str | None = typer.Option(None, "--topic", "-t"),
    kind: str | None = typer.Option(
        None, "--kind", help="concept compare derivation design coding project behavioral open"
    ),
    company: str | None = typer.Option(None, "--company", "-c"),
    difficulty: int | None = typer.Option(None, "--difficulty", "-d", min=1, max=5),
    drafts: bool = typer.Option(
        False, "--drafts", help="Also unreviewed drafts from your notes (topic `draft`)."
    ),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """List questions, most frequent first. Those you accepted from your notes have the topic `imported`.

    \b
    coach bank list --topic peft-lora
    coach bank list --company 快手 --kind coding --json
    coach bank list --drafts --topic draft
    """
    from coach import report, wiring

    bank = wiring.bank(settings(), drafts)
    found = bank.select(topic=topic, kind=kind, company=company, difficulty=difficulty)
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
    from coach import report, wiring

    question = wiring.question(settings(), question_id)
    if as_json:
        typer.echo(report.as_json(question))
    else:
        report.print_question(console(), question)


@app.command("lint")
def lint(
    worst: int = typer.Option(
        10, "--worst", min=0, help="How many of the weakest citations and references to list."
    ),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Check every question: form, citations, support by the notes, reference answers, duplicates. Exit 1 on errors.

    \b
    coach bank lint --worst 20
    """
    import json
    from dataclasses import asdict

    from coach import wiring
    from coach.embed import load_embedder
    from coach.lint import lint as run

    config = settings()
    embedder = load_embedder("e5")
    with progress("embedding") as bar:
        found = run(config.knowledge, embedder, wiring.vector_cache(config, embedder), bar)
    if as_json:
        typer.echo(json.dumps(asdict(found), ensure_ascii=False, indent=2))
    else:
        for warning in found.warnings:
            typer.echo(f"warning: {warning}")
        for title, rows in (
            ("weakest support by the cited section", found.support),
            ("weakest in the reference", found.coverage),
        ):
            if rows[:worst]:
                typer.echo(f"{title} (cosine, shared words):")
            for row in rows[:worst]:
                typer.echo(f"  {row.cosine:.3f} {row.recall:4.0%}  {row.place}: {row.text}")
        typer.echo("topics: " + ", ".join(f"{t} {n}" for t, n in sorted(found.topics.items())))
        typer.echo("kinds: " + ", ".join(f"{k} {n}" for k, n in sorted(found.kinds.items())))
        typer.echo(
            f"{sum(found.topics.values())} questions, {found.points} points, {found.pitfalls} pitfalls, "
            f"{found.follow_ups} follow-ups ({found.false_premises} with a false premise)"
        )
        for error in found.errors:
            typer.secho(f"error: {error}", fg="red", err=True)
        typer.echo(f"{len(found.errors)} errors, {len(found.warnings)} warnings")
    if found.errors:
        raise typer.Exit(1)
