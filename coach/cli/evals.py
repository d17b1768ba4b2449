"""`coach eval`: measure the grader."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from coach.cli import eval_results
from coach.cli.common import progress
from coach.cli.eval_results import eval_settings, print_all, runs_folder
from coach.errors import UsageError

if TYPE_CHECKING:
    from coach.config import Settings
    from coach.domain import Usage
    from coach.evals.cases import EvalCase, EvalSet

app = typer.Typer(help="Measure the grader: accuracy, consistency, attacks.", no_args_is_help=True)

_JUDGE = typer.Option(None, "--judge", help="pointwise or structured; chosen by what the model can do.")
_MODEL = typer.Option(None, "--model", help="embedded, or a model name of the endpoint at COACH_BASE_URL.")
_JOBS = typer.Option(1, "--jobs", min=1, max=64, help="Items in flight at once; endpoints only.")
_NAME = typer.Option(None, "--name", help="Name of the run; made of its settings by default.")
_HOLISTIC = typer.Option(
    True, "--holistic/--no-holistic", help="Ask the one-prompt baseline too: one more call an answer."
)


@contextmanager
def _progress(config: Settings) -> Iterator[Callable[[int, int, int, Usage], None]]:
    """Done of all, time left, and what it has cost so far, where prices are set."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from coach.evals.measure import cost

    bar = Progress(
        TextColumn("grading"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[spent]}"),
        console=Console(stderr=True),
        transient=True,
    )
    task = None

    def report(done: int, total: int, fresh: int, usage: Usage) -> None:
        nonlocal task
        if task is None:
            bar.start()
            task = bar.add_task("", total=total, completed=done - fresh, spent="")
        price = cost(usage, config)
        tokens = f"{usage.prompt_tokens + usage.completion_tokens:,} tokens"
        bar.update(task, completed=done, spent=tokens if price is None else f"{tokens}, {price:.4f}")

    try:
        yield report
    finally:
        bar.stop()


def _execute(
    config: Settings,
    cases: EvalSet,
    *,
    judge: str | None,
    repeats: int,
    jobs: int,
    name: str | None,
    holistic: bool,
    selection: dict[str, Any],
    fit: tuple[list[EvalCase], list[Any]] = ((), ()),  # type: ignore[assignment]
) -> None:
    import re
    from datetime import UTC, datetime

    from coach import wiring
    from coach.evals.floors import holistic_prompt
    from coach.evals.measure import cost, measure
    from coach.evals.runner import execute
    from coach.evals.store import Meta, Run, code_version
    from coach.evals.text import headline

    if jobs > 1 and config.base_url is None:
        raise UsageError("the embedded model answers one request at a time", "leave --jobs at 1")
    prompt = holistic_prompt(config)
    with progress("indexing") as indexing:
        first = wiring.subject(config, judge, indexing)
    made = [first]
    meta = Meta(
        name=name or "",
        split=cases.split,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        fingerprint=first.grader.fingerprint,
        code=code_version(),
        cases=cases.digest,
        repeats=repeats,
        holistic=prompt.content_hash if holistic else "",
        selection=selection,
    )
    if not name:
        model = re.sub(r"[^a-zA-Z0-9.]+", "-", meta.fingerprint.model)[:40].strip("-")
        name = f"{cases.split}-{model}-{meta.fingerprint.judge}-{meta.digest}"
        meta = meta.model_copy(update={"name": name})
    run = Run.create(runs_folder(config) / name, meta, cases)
    typer.echo(f"run {name}: {run.folder}", err=True)
    with _progress(config) as on_item, progress("floors") as on_floor:
        records = execute(
            run,
            lambda: made.pop() if made else wiring.subject(config, judge),
            prompt,
            jobs=jobs,
            holistic=holistic,
            fit_on=fit[0],
            fit_questions=fit[1],
            on_item=on_item,
            on_floor=on_floor,
        )
    from coach.domain import Usage

    spent = cost(sum((r.usage for r in records.values()), Usage()), config)
    print_all(headline(measure(run, resamples=200)))
    if spent is not None:
        typer.echo(f"cost {spent:.4f}")
    typer.echo(f"coach eval report {name} --html report.html")


@app.command("run")
def run(
    split: str = typer.Option("dev", "--split", help="dev or test: eval/answers/<split>.jsonl."),
    tier: list[str] = typer.Option([], "--tier", help="Only this tier; may be repeated."),
    suite: list[str] = typer.Option([], "--suite", help="authored, floor, injection or metamorphic."),
    judge: str | None = _JUDGE,
    model: str | None = _MODEL,
    repeats: int = typer.Option(1, "--repeats", min=1, help="Grade every case so often; never from a cache."),
    sample: int | None = typer.Option(
        None, "--sample", min=1, help="So many questions, with all their cases."
    ),
    seed: int = typer.Option(0, "--seed", help="Which questions --sample takes."),
    jobs: int = _JOBS,
    name: str | None = _NAME,
    holistic: bool = _HOLISTIC,
    folder: Path | None = typer.Option(None, "--eval-dir", help="Another folder with answers/ and data."),
) -> None:
    """Grade a split. Stop it any time: the same command goes on where it stopped.

    \b
    coach eval run --split dev --sample 5
    coach eval run --split test --repeats 3
    coach eval run --split test --model gpt-4o-mini --judge structured --jobs 8
    coach eval run --tier confident-error --tier keyword-list
    """
    from coach import wiring
    from coach.config import resource
    from coach.evals.assemble import assemble
    from coach.evals.cases import SUITES, load_answers

    if unknown := sorted(set(suite) - set(SUITES)):
        raise UsageError(f"no suite {', '.join(unknown)}", f"there are: {', '.join(SUITES)}")
    config = eval_settings(model)
    bank = wiring.bank(config)
    where = folder or resource("eval")
    cases = assemble(where, split, bank, suites=suite, tiers=tier, sample=sample, seed=seed)
    # Whatever is fitted is fitted on dev; dev itself is predicted from its other questions.
    fit_on = []
    if split != "dev" and (where / "answers" / "dev.jsonl").is_file():
        fit_on = load_answers(where / "answers" / "dev.jsonl", bank)
    fit_questions = [bank.get(i) for i in sorted({c.question_id for c in fit_on})]
    selection = {"tier": tier, "suite": suite, "sample": sample, "seed": seed}
    _execute(
        config,
        cases,
        judge=judge,
        repeats=repeats,
        jobs=jobs,
        name=name,
        holistic=holistic,
        selection=selection,
        fit=(fit_on, fit_questions),
    )


@app.command("external")
def external(
    file: Path = typer.Argument(..., help="Human-scored answers: .csv, .tsv or .jsonl."),
    question: str = typer.Option(..., "--question", help="Field that holds the question."),
    answer: str = typer.Option(..., "--answer", help="Field that holds the answer."),
    score: str = typer.Option(..., "--score", help="Field that holds the human score."),
    max_score: float = typer.Option(..., "--max-score", help="The highest human score there is."),
    reference: str | None = typer.Option(None, "--reference", help="Field with a reference answer."),
    rubric: str | None = typer.Option(None, "--rubric", help="Field with points: JSON list, or one a line."),
    id_field: str | None = typer.Option(None, "--id", help="Field that names the row."),
    judge: str | None = _JUDGE,
    model: str | None = _MODEL,
    repeats: int = typer.Option(1, "--repeats", min=1),
    sample: int | None = typer.Option(
        None, "--sample", min=1, help="So many questions, with all their answers."
    ),
    seed: int = typer.Option(0, "--seed"),
    jobs: int = _JOBS,
    name: str | None = _NAME,
    holistic: bool = _HOLISTIC,
) -> None:
    """Grade answers that people have scored, and say how well the grader agrees with them.

    \b
    coach eval external set.csv --question Q --answer A --score mark --max-score 10 --reference R
    coach eval external set.jsonl --question q --answer a --score s --max-score 5 --rubric points
    """
    from coach.evals.cases import select
    from coach.evals.external import Fields, load_external

    config = eval_settings(model)
    fields = Fields(question, answer, score, reference, rubric, id_field)
    cases = load_external(file, fields, max_score)
    chosen = select(cases.cases, sample=sample, seed=seed)
    _execute(
        config,
        type(cases)(cases.split, tuple(chosen), cases.questions),
        judge=judge,
        repeats=repeats,
        jobs=jobs,
        name=name,
        holistic=holistic,
        selection={"file": file.name, "sample": sample, "seed": seed},
    )


app.command("list")(eval_results.list_runs)
app.command("report")(eval_results.report)
app.command("compare")(eval_results.compare)
app.command("bless")(eval_results.bless)
app.command("gate")(eval_results.gate)
app.command("rescore")(eval_results.rescore)
