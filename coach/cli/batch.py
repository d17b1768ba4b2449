"""`coach batch`: files of answers."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from coach.cli.batch_output import dry_run as estimate_run
from coach.cli.batch_output import local_engine, print_outcome
from coach.cli.common import console, progress, settings
from coach.errors import CoachError, UsageError

if TYPE_CHECKING:
    from coach.batch.engine import Engine
    from coach.batch.fields import Raw
    from coach.batch.plan import Mapper
    from coach.batch.run import Options, Outcome
    from coach.config import Settings
    from coach.wiring_batch import Choice

ABORTED = 4


class _RunByDefault(TyperGroup):
    """`coach batch answers.csv …` is `coach batch run answers.csv …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    help="""Grade a pile of written answers; killed at any moment, the same command goes on.

\b
coach batch answers.csv -o out/ --jobs 16
coach batch 答卷.xlsx -o out/ --map answer=回答,question_id=题号
coach batch answers.jsonl -o out/ --dry-run
coach batch answers.jsonl -o out/ --engine ray --workers 8
cat answers.jsonl | coach batch - -o - > grades.jsonl
coach batch diff out-a/ out-b/

All options: coach batch run --help
""",
)


def seconds_of(text: str) -> float:
    """`90`, `90s`, `15m`, `2h` → seconds.

    >>> seconds_of("15m"), seconds_of("1.5h")
    (900.0, 5400.0)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not match:
        raise UsageError(f"--deadline {text!r} is no time", "e.g. 90s, 15m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


@contextlib.contextmanager
def _first_interrupt() -> Iterator[Callable[[], bool]]:
    """Ctrl-C or SIGTERM asks the run to end after what is in flight; a second one ends it at once."""
    seen: list[int] = []
    previous = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: object) -> None:
        seen.append(number)
        for s, handler in previous.items():
            signal.signal(s, handler)
        typer.echo("stopping: waiting for the answers being graded (again to stop at once)", err=True)

    for s in previous:
        signal.signal(s, ask)
    try:
        yield lambda: bool(seen)
    finally:
        for s, handler in previous.items():
            signal.signal(s, handler)


@app.command("run")
def run(
    source: str = typer.Argument(
        ...,
        metavar="INPUT",
        help="A .jsonl, .csv, .xlsx, .md or .txt file, a folder of them, or - for JSONL on standard input.",
    ),
    out: str = typer.Option(..., "--out", "-o", help="The output folder, or - for JSONL on standard output."),
    bank: Path | None = typer.Option(
        None, "--bank", help="A folder of bank files instead of the shipped bank."
    ),
    rubric: Path | None = typer.Option(
        None, "--rubric", help="One rubric for every row (YAML list of points)."
    ),
    question: str | None = typer.Option(
        None, "--question", "-q", help="The question of every row, with --rubric."
    ),
    columns: str | None = typer.Option(
        None, "--map", help="FIELD=COLUMN,… e.g. answer=回答,question_id=题号."
    ),
    encoding: str | None = typer.Option(None, "--encoding", help="Of text files; guessed when not given."),
    judge: str | None = typer.Option(None, "--judge", help="pointwise or structured."),
    jobs: int | None = typer.Option(
        None, "--jobs", "-j", min=1, max=512, help="Requests at once (an endpoint: 8), of each worker."
    ),
    limit: int | None = typer.Option(None, "--limit", min=1, help="Grade only the first N rows."),
    force: bool = typer.Option(False, "--force", help="Grade again what has a grade."),
    fail_fast: bool = typer.Option(False, "--fail-fast", help="Stop at the first row that fails."),
    max_cost: float | None = typer.Option(
        None, "--max-cost", min=0, help="Stop before spending more (needs prices)."
    ),
    max_tokens: int | None = typer.Option(None, "--max-tokens", min=1, help="Stop before using more tokens."),
    deadline: str | None = typer.Option(None, "--deadline", help="Stop after this time, e.g. 90s, 15m, 2h."),
    fsync: str = typer.Option(
        "interval", "--fsync", help="always, interval (1 s) or never: what a power cut may cost."
    ),
    xlsx: bool = typer.Option(True, "--xlsx/--no-xlsx", help="Write grades.xlsx beside grades.csv."),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Read and match every row, estimate, grade nothing."
    ),
    sample: int = typer.Option(
        0, "--sample", min=0, max=100, help="With --dry-run: really grade this many rows to time them."
    ),
    engine: str = typer.Option(
        "local", "--engine", help="local; ray: a cluster's workers; openai-batch: the endpoint's Batch API."
    ),
    address: str | None = typer.Option(
        None, "--address", help="Of a Ray cluster; without it RAY_ADDRESS, or workers on this machine."
    ),
    workers: int | None = typer.Option(
        None, "--workers", min=1, help="With --engine ray: how many; one for each CPU when not given."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the summary (or the estimate) as JSON."),
) -> None:
    """Grade every row of INPUT. Exit code: 0 all graded, 3 some rows failed, 4 stopped early (run it again to go on).

    \b
    coach batch answers.csv -o out/ --jobs 16 --max-cost 5
    coach batch answers.jsonl -o out/ --dry-run --sample 3
    coach batch essays/ -o out/ --rubric rubric.yaml -q "什么是温度采样？"
    """
    from coach.batch.store import FSYNC

    if fsync not in FSYNC:
        raise UsageError(f"--fsync {fsync!r}", f"one of {', '.join(FSYNC)}")
    if question is not None and rubric is None:
        raise UsageError(
            "--question needs --rubric", "rows can name their own question in a column `question`"
        )
    if sample and not dry_run:
        raise UsageError("--sample belongs to --dry-run", "to grade only the first rows: --limit N")
    config = settings()
    if max_cost is not None and config.price_in is None and config.price_out is None:
        raise UsageError(
            "--max-cost needs prices", "set COACH_PRICE_IN and COACH_PRICE_OUT (per million tokens)"
        )
    mapper = _mapper(config, bank, rubric, question, columns)
    if out == "-":
        if engine != "local" or dry_run:
            raise UsageError("-o - streams with the local engine only", "give a folder with -o")
        raise typer.Exit(
            _stream(_one_table(source, encoding), mapper, local_engine(config, judge, jobs), limit)
        )
    from coach.batch.run import Options
    from coach.wiring_batch import Choice

    choice = Choice(engine, judge, jobs, address, workers)
    options = Options(
        out=Path(out),
        limit=limit,
        force=force,
        fail_fast=fail_fast,
        fsync=fsync,
        max_cost=max_cost,
        max_tokens=max_tokens,
        deadline=seconds_of(deadline) if deadline else None,
        price_in=config.price_in,
        price_out=config.price_out,
    )
    if dry_run:
        estimate_run(config, options, mapper, _tables(source, encoding), judge, jobs, sample, as_json)
        return
    try:
        outcome, summary = _execute(config, choice, options, mapper, _tables(source, encoding), source, xlsx)
    except UsageError:
        raise
    except CoachError as e:
        e.exit_code = ABORTED
        raise
    if as_json:
        typer.echo(json.dumps(summary, ensure_ascii=False, indent=2))
    else:
        print_outcome(outcome, summary, options, xlsx)
    raise typer.Exit(130 if outcome.stopped == "interrupted" else outcome.exit_code(limit is not None))


def _mapper(
    config: Settings, bank: Path | None, rubric: Path | None, question: str | None, columns: str | None
) -> Mapper:
    from coach.bank import load_bank, load_rubric
    from coach.batch.fields import parse_map
    from coach.batch.plan import Mapper
    from coach.batch.questions import QuestionFinder

    own = config.own_bank if bank is None else None
    folder = bank or config.knowledge
    folder = folder / "questions" if (folder / "questions").is_dir() else folder
    points = load_rubric(rubric) if rubric else None
    return Mapper(QuestionFinder(load_bank(folder, own), points, question), parse_map(columns))


def _tables(source: str, encoding: str | None) -> Iterator[Iterator[Raw]]:
    from coach.batch.readers import read_stream, tables

    if source == "-":
        return iter([read_stream(sys.stdin.buffer, "stdin", ".jsonl", encoding)])
    path = Path(source)
    if not path.exists():
        raise UsageError(f"no such file or folder: {path}")
    return tables(path, encoding)


def _one_table(source: str, encoding: str | None) -> Iterator[Raw]:
    return (raw for table in _tables(source, encoding) for raw in table)


def _stream(rows: Iterator[Raw], mapper: Mapper, engine: Engine, limit: int | None) -> int:
    from coach.batch.records import encode
    from coach.batch.stream import stream

    bad = 0
    with _first_interrupt() as interrupted:
        for record in stream(rows, mapper, engine, interrupted, limit):
            sys.stdout.buffer.write(encode(record))
            sys.stdout.buffer.flush()
            bad += record["status"] != "ok"
        if interrupted():
            return 130
    return 3 if bad else 0


def _execute(
    config: Settings,
    choice: Choice,
    options: Options,
    mapper: Mapper,
    tables: Iterator[Iterator[Raw]],
    source: str,
    xlsx: bool,
) -> tuple[Outcome, dict[str, Any]]:
    from coach.batch.finish import write_reports
    from coach.batch.run import Run
    from coach.wiring_batch import open_engine

    with (
        progress("indexing") as indexing,
        open_engine(config, choice, options, indexing) as (engine, grading),
        _first_interrupt() as interrupted,  # after the engine: Ray takes SIGTERM for itself when it connects
        progress("grading") as bar,
        Run(engine, options, interrupted=interrupted, progress=bar) as batch,
    ):
        batch.read(tables, mapper)
        outcome = batch.execute(grading)
        return outcome, write_reports(batch, source, xlsx)


@app.command("diff")
def diff(
    a: Path = typer.Argument(..., help="Output folder of one run."),
    b: Path = typer.Argument(..., help="Output folder of another."),
    most: int = typer.Option(20, "--most", min=0, help="How many of the largest changes to list."),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Compare two runs or two graders on the same answers. Exit code 0 also when they differ.

    \b
    coach batch diff out-embedded/ out-endpoint/ --most 10
    """
    from coach.batch.diff import diff as compare

    found = compare(a, b).as_dict(most)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    out = console()
    out.print(
        f"A: {'; '.join(found['graders']['a']) or 'no grades'}\nB: {'; '.join(found['graders']['b']) or 'no grades'}"
    )
    out.print(
        f"{found['rows_in_both']:,} rows in both, {found['only_in_a']:,} only in A, {found['only_in_b']:,} only in B"
    )
    if found["mean_absolute_difference"] is not None:
        out.print(
            f"same score {found['same_score']:,}; mean |B − A| {found['mean_absolute_difference']}, "
            f"mean B − A {found['mean_difference']}, correlation {found['correlation']}, "
            f"same verdicts {found['same_verdicts']:.1%}"
        )
    for flip, n in list(found["verdict_changes"].items())[:10]:
        out.print(f"  {flip}: {n:,}")
    for c in found["largest"]:
        out.print(f"{c['id']}  {c['question_id']}: {c['before']} → {c['after']}  {'; '.join(c['verdicts'])}")
