"""What `coach batch` says before and after a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from coach.cli.common import console, progress

if TYPE_CHECKING:
    from coach.batch.engine import Engine
    from coach.batch.estimate import Estimate
    from coach.batch.fields import Raw
    from coach.batch.plan import Mapper
    from coach.batch.run import Options, Outcome
    from coach.config import Settings


def local_engine(config: Settings, judge: str | None, jobs: int | None) -> Engine:
    from coach import wiring_batch

    with progress("indexing") as indexing:
        return wiring_batch.batch_engine(config, judge, jobs, indexing)


def print_outcome(outcome: Outcome, summary: dict[str, Any], options: Options, xlsx: bool) -> None:
    counts, this = outcome.counts, summary["this_run"]
    out = console()
    out.print(
        f"{sum(counts.values()):,} rows: {counts['ok']:,} graded, {counts['unjudged']:,} unjudged, "
        f"{counts['error']:,} errors, {counts['missing']:,} not graded yet"
    )
    out.print(
        f"this run: {this['graded']:,} graded, {this['reused']:,} reused, {this['seconds']:,.1f} s, "
        f"{outcome.spent.calls:,} calls, {outcome.spent.prompt_tokens + outcome.spent.completion_tokens:,} tokens"
        + (f", cost {this['cost']:.4f}" if this["cost"] is not None else "")
    )
    if outcome.retries:
        out.print("asked again: " + ", ".join(f"{k} ×{n}" for k, n in sorted(outcome.retries.items())))
    for reason, n in list(summary["errors"].items())[:5]:
        typer.secho(f"{n} × {reason}", fg="yellow", err=True)
    for warning in outcome.warnings:
        typer.secho(f"warning: {warning}", fg="yellow", err=True)
    if outcome.stopped:
        typer.secho(f"stopped: {outcome.stopped}; the same command goes on", fg="yellow", err=True)
    files = ("grades.jsonl", "grades.csv", "grades.xlsx", "summary.json", "report.html")
    out.print(f"→ {options.out}/: " + ", ".join(n for n in files if n != "grades.xlsx" or xlsx))


def dry_run(
    config: Settings,
    options: Options,
    mapper: Mapper,
    tables: Iterator[Iterator[Raw]],
    judge: str | None,
    jobs: int | None,
    sample: int,
    as_json: bool,
) -> None:
    from tempfile import TemporaryDirectory

    from coach.batch.plan import fill
    from coach.batch.spool import Spool

    ready = local_engine(config, judge, jobs)
    from coach.batch.records import fingerprint_hash

    with TemporaryDirectory() as folder:
        spool = Spool(Path(folder) / "rows.sqlite")
        try:
            fill(spool, tables, mapper, fingerprint_hash(ready.fingerprint))
            broken = spool.load_grades(options.out / "grades.jsonl")
            todo = spool.plan(options.limit)
            estimate = _estimate(config, ready, spool, todo, sample)
            gradable, contents, questions = spool.tally()
            found: dict[str, Any] = {
                "rows": spool.count,
                "gradable": gradable,
                "distinct": contents,
                "questions": questions,
                "already_graded": contents - todo if options.limit is None else None,
                "to_grade": todo,
                "damaged_records": broken,
                "bad_rows": [{"place": p, "reason": r} for p, r in spool.reasons()],
            }
        finally:
            spool.close()
    from coach.batch.engine import cost_of

    cost = cost_of(estimate.usage, config.price_in, config.price_out)
    found["estimate"] = {
        "sampled_rows": estimate.sampled,
        "calls": estimate.usage.calls,
        "prompt_tokens": estimate.usage.prompt_tokens,
        "completion_tokens": estimate.usage.completion_tokens,
        "seconds": estimate.seconds,
        # What is in doubt is read again: not known before the first reading, so at most so often what was weighed.
        "readings": config.votes
        if ready.fingerprint.judge == "structured" and estimate.seconds is None
        else 1,
        "cost": cost,
    }
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    out = console()
    out.print(
        f"{spool.count:,} rows, {gradable:,} can be graded ({contents:,} distinct) on {questions:,} questions; {todo:,} to do"
    )
    for bad in found["bad_rows"]:
        typer.secho(f"  {bad['place']}: {bad['reason']}", fg="yellow", err=True)
    e = found["estimate"]
    out.print(
        f"about {e['calls']:,} calls, {e['prompt_tokens']:,} tokens in, {e['completion_tokens']:,} out (from {e['sampled_rows']} rows)"
    )
    if e["readings"] > 1:
        out.print(
            f"what is in doubt is read again, up to {e['readings']} times in all: "
            "--sample 3 measures it, COACH_VOTES=1 does without"
        )
    out.print(
        "cost: "
        + (f"about {cost:.4f}" if cost is not None else "unknown; set COACH_PRICE_IN and COACH_PRICE_OUT")
    )
    out.print(
        "time: " + (f"about {e['seconds']:,.0f} s" if e["seconds"] is not None else "unknown; add --sample 3")
    )


def _estimate(config: Settings, engine: Engine, spool: Any, todo: int, sample: int) -> Estimate:
    from coach import wiring_batch
    from coach.batch.estimate import Gauge, measure, weigh

    rows = [(spool.question(e.qkey), e.answer) for e in spool.sample(sample or 20)]
    if sample:
        return measure(rows, todo, engine.jobs, engine.grade)
    assert engine.llm is not None
    gauge = Gauge(engine.llm.name, engine.llm.capabilities)
    return weigh(rows, todo, wiring_batch.gauge_grade(config, engine, gauge), gauge)
