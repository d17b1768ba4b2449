"""The `coach` command: parse, wire, print. Heavy imports live inside the commands."""

from __future__ import annotations

import sys

import typer

from coach.cli import app as _app
from coach.errors import CoachError

app = _app.app


def main() -> None:
    """Run the command line; every expected failure becomes one clear message and an exit code.

    0 done · 1 failed · 2 wrong call or input · 4 model or index not usable · 5 endpoint not usable · 130 Ctrl-C
    """
    try:
        code = app(standalone_mode=False)
    except CoachError as e:
        typer.secho(f"error: {e.message}", err=True, fg="red")
        if e.hint:
            typer.echo(f"  try: {e.hint}", err=True)
        code = e.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:  # `coach bank list | head`
        sys.stderr.close()
        code = 0
    except Exception as e:
        # Parser errors carry their own text and exit code; typer's class for them moved between releases.
        show = getattr(e, "show", None)
        if show is None:
            raise
        show()
        code = getattr(e, "exit_code", 2)
    if code == 130:
        typer.echo("interrupted; what was finished is kept", err=True)
    sys.exit(code if isinstance(code, int) else 0)
