"""`coach eval list | report | compare | bless | gate | rescore`: what finished runs say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from coach.cli.common import console
from coach.errors import UsageError

if TYPE_CHECKING:
    from coach.config import Settings
    from coach.evals.baseline import Snapshot
    from coach.evals.store import Run

_RESAMPLES = typer.Option(1000, "--resamples", min=0, help="Bootstrap resamples; 0 gives no intervals.")
_RUN = typer.Argument(..., metavar="RUN", help="A run's name (coach eval list) or folder.")


def eval_settings(model: str | None = None) -> Settings:
    import os

    from coach.config import load_settings

    return load_settings({**os.environ, "COACH_LLM": model} if model else None)


def runs_folder(config: Settings) -> Path:
    return config.home / "evals"


def _open(config: Settings, name: str) -> Run:
    from coach.evals.store import Run

    folder = Path(name)
    return Run.open(folder if (folder / "run.json").is_file() else runs_folder(config) / name)


def _side(config: Settings, name: str) -> Snapshot:
    """A run, or a baseline file."""
    from coach.evals.baseline import read_baseline, snapshot

    return read_baseline(Path(name)) if Path(name).is_file() else snapshot(_open(config, name))


def print_all(parts: Any) -> None:
    out = console()
    for part in parts:
        out.print(part)


def _dump(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def list_runs(as_json: bool = typer.Option(False, "--json")) -> None:
    """List the runs that are here.

    \b
    coach eval list
    """
    from coach.evals.store import Run

    config = eval_settings()
    folders = sorted(p.parent for p in runs_folder(config).glob("*/run.json"))
    rows = [Run.open(p).meta for p in folders]
    if as_json:
        _dump([m.model_dump(mode="json") for m in rows])
    else:
        for m in sorted(rows, key=lambda m: m.created):
            typer.echo(f"{m.created}  {m.name}")
        typer.echo(f"{len(rows)} runs in {runs_folder(config)}")


def report(
    name: str = _RUN,
    html: Path | None = typer.Option(None, "--html", help="Write the whole report as one HTML file."),
    resamples: int = _RESAMPLES,
    as_json: bool = typer.Option(False, "--json", help="Print everything measured as JSON."),
) -> None:
    """What a run shows; an unfinished one too.

    \b
    coach eval report test-qwen2.5-coder-1.5b-pointwise-1a2b3c4d
    coach eval report RUN --html report.html
    """
    from coach.evals.measure import measure
    from coach.evals.text import headline

    measured = measure(_open(eval_settings(), name), resamples)
    if html:
        from coach.evals.html import render
        from coach.evals.store import write_atomic

        write_atomic(html, render(measured))
        typer.echo(f"{html}", err=True)
    if as_json:
        _dump(measured.as_json())
    elif not html:
        print_all(headline(measured))


def compare(
    run_a: str = typer.Argument(..., metavar="RUN_A", help="A run, or a baseline file."),
    run_b: str = typer.Argument(..., metavar="RUN_B", help="A run."),
    resamples: int = _RESAMPLES,
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """B minus A: which prompt or model changed, what it did to each metric, and which items moved.

    \b
    coach eval compare dev-before dev-after
    coach eval compare eval/baselines/test.json test-after
    """
    from dataclasses import asdict

    from coach.evals import text
    from coach.evals.compare import compare as run_compare

    config = eval_settings()
    found = run_compare(_side(config, run_a), _open(config, run_b), resamples)
    if as_json:
        _dump(asdict(found))
    else:
        print_all(text.compared(found))


def _baseline(run: Run) -> Path:
    from coach.config import resource

    return resource("eval") / "baselines" / f"{run.meta.split}.json"


def bless(
    name: str = _RUN,
    out: Path | None = typer.Option(None, "--out", help="Where to; eval/baselines/<split>.json by default."),
    resamples: int = _RESAMPLES,
) -> None:
    """Make a finished run the baseline that `coach eval gate` compares with.

    \b
    coach eval bless test-qwen2.5-coder-1.5b-pointwise-1a2b3c4d
    """
    from coach.evals.baseline import bless as write
    from coach.evals.measure import measure

    run = _open(eval_settings(), name)
    path = out or _baseline(run)
    write(path, run, measure(run, resamples))
    typer.echo(f"{path} ({path.stat().st_size / 1024:.0f} kB)")


def gate(
    name: str = _RUN,
    baseline: Path | None = typer.Option(
        None, "--baseline", help="eval/baselines/<split>.json by default, when it is there."
    ),
    budgets: Path | None = typer.Option(None, "--budgets", help="eval/budgets.toml by default."),
    only: str = typer.Option("all", "--only", help="all, budget, floor or baseline."),
    allow_unmeasured: bool = typer.Option(
        False, "--allow-unmeasured", help="A budget that this run did not measure does not fail it."
    ),
    resamples: int = _RESAMPLES,
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Exit 3 when a metric may be worse than the baseline, or a budget is exceeded or not measured.

    May be worse: the 95 % bound of its paired difference lies beyond the tolerance of eval/budgets.toml. So a run of
    few questions fails by a single changed verdict; gate whole runs.

    \b
    coach eval gate RUN
    coach eval gate RUN --only baseline
    """
    from dataclasses import asdict

    from coach.config import resource
    from coach.evals import text
    from coach.evals.baseline import read_baseline
    from coach.evals.gate import gate as run_gate
    from coach.evals.gate import read_budgets
    from coach.evals.measure import measure

    if only not in ("all", "budget", "floor", "baseline"):
        raise UsageError(f"--only {only}", "all, budget, floor or baseline")
    run = _open(eval_settings(), name)
    path = baseline or _baseline(run)
    if not path.is_file() and (baseline or only == "baseline"):
        raise UsageError(f"no baseline at {path}", "make one with: coach eval bless RUN")
    known = read_baseline(path) if path.is_file() else None
    limits = read_budgets(budgets or resource("eval") / "budgets.toml")
    checks = run_gate(run, measure(run, resamples), limits, known, resamples)
    checks = [c for c in checks if only in ("all", c.kind)]
    failed = [c for c in checks if c.ok is False or (c.ok is None and not allow_unmeasured)]
    if as_json:
        _dump({"passed": not failed, "checks": [asdict(c) for c in checks]})
    else:
        if known is None:
            typer.echo(f"no baseline at {path}: only budgets and floors are checked")
        print_all(text.gated(checks))
        typer.echo(f"{len(checks) - len(failed)} of {len(checks)} passed")
    if failed or not checks:
        raise typer.Exit(3)


def rescore(
    name: str = _RUN,
    out: str | None = typer.Option(None, "--name", help="Name of the new run; RUN-rescored by default."),
    covered: float | None = typer.Option(None, help="Decide points again: covered from this probability on."),
    partial: float | None = typer.Option(None, help="… and partial from this one on. Give both or neither."),
) -> None:
    """Compute the scores of a run again from its stored verdicts, with today's weights and arithmetic.

    \b
    coach eval rescore RUN
    coach eval rescore RUN --covered 0.5 --partial 0.3 --name what-if
    coach eval compare RUN RUN-rescored
    """
    from coach import wiring
    from coach.evals.baseline import Thresholds
    from coach.evals.baseline import rescore as again

    if (covered is None) != (partial is None):
        raise UsageError("--covered and --partial go together", "give both or neither")
    thresholds = Thresholds(covered, partial) if covered is not None and partial is not None else None

    config = eval_settings()
    run = _open(config, name)
    bank = wiring.bank(config)
    folder = runs_folder(config) / (out or f"{run.meta.name}-rescored")
    made = again(run, folder, {q.id: q for q in bank}, thresholds)
    typer.echo(f"{made.meta.name}: {made.folder}")
