"""`coach grade`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from coach.cli.common import LANG, console, progress, read_answer, settings
from coach.errors import UsageError

if TYPE_CHECKING:
    from coach.config import Settings
    from coach.domain import Question


def _ad_hoc(config: Settings, question: str, rubric: Path | None, reference: str | None) -> Question:
    from coach import rubric as rubrics
    from coach import wiring
    from coach.bank import load_rubric
    from coach.retrieve import retrieve

    if rubric is not None and reference is not None:
        raise UsageError("--rubric and --reference exclude each other")
    if rubric is not None:
        return rubrics.question_from(question, load_rubric(rubric))
    if reference is not None:
        return rubrics.question_from(question, rubrics.points_from_reference(reference), reference)
    index = wiring.index(config)
    # Only curated passages may say what counts: an imported note is not verified.
    curated = [p for p in retrieve(index, question, 10) if index.is_curated(p.chunk)]
    return rubrics.question_from(question, rubrics.points_from_notes(question, curated))


def grade(
    question_id: str | None = typer.Argument(
        None, metavar="[QUESTION_ID]", help="A question of the bank (coach bank list)."
    ),
    answer: str | None = typer.Argument(None, help="The answer; `-` or nothing reads standard input."),
    file: Path | None = typer.Option(None, "--file", "-f", help="Read the answer from a UTF-8 file."),
    question: str | None = typer.Option(None, "--question", "-q", help="A question that is not in the bank."),
    rubric: Path | None = typer.Option(None, "--rubric", help="Its rubric: a YAML list of points."),
    reference: str | None = typer.Option(
        None, "--reference", help="Or a reference answer, one point per sentence."
    ),
    judge: str | None = typer.Option(
        None, "--judge", help="pointwise or structured; chosen by what the model can do."
    ),
    follow_up: bool = typer.Option(True, "--follow-up/--no-follow-up", help="End with the next question."),
    lang: str | None = LANG,
    as_json: bool = typer.Option(False, "--json", help="Print the whole grade as JSON."),
) -> None:
    """Grade one answer.

    \b
    coach grade attention-scaling-sqrt-dk "点积的方差会随 d_k 变大……"
    coach grade lora-initialization --file answer.txt --json
    cat answer.txt | coach grade dpo-principle
    coach grade -q "什么是温度采样？" --reference "温度是 logits 的除数。温度越高分布越平。" "……"
    """
    if (question_id is None) == (question is None) and not (question and answer is None):
        raise UsageError("name a bank question or use --question", "coach bank list; coach grade --help")
    if question is not None and question_id is not None:
        question_id, answer = None, question_id  # with --question the only argument is the answer
    if question is None and (rubric or reference):
        raise UsageError(
            "--rubric and --reference belong to --question", "a bank question has its own rubric"
        )
    config = settings()
    from coach import wiring
    from coach.grade import check_answer, empty_grade
    from coach.messages import Messages

    say = Messages(lang or config.lang)

    if question is None:
        assert question_id is not None
        wanted = wiring.question(config, question_id)
        text = check_answer(read_answer(answer, file))
    else:
        text = check_answer(read_answer(answer, file))
        wanted = _ad_hoc(config, question, rubric, reference)
    if not text.strip():
        result = empty_grade(wanted, text)
    else:
        with progress("indexing") as indexing:
            grader = wiring.grader(config, judge, indexing)
        with progress("judging") as judging:
            result = grader.grade(
                wanted, text, follow_up=follow_up, on_verdict=lambda _, done, total: judging(done, total)
            )
    from coach import report

    if as_json:
        typer.echo(report.as_json(result))
    else:
        out = console()
        out.print(say("asked", question=wanted.question), style="bold")
        report.print_grade(out, result, say)
    if result.score is None:
        raise typer.Exit(3)
