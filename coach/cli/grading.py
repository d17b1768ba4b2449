"""`coach grade` and `coach practice`."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from coach.cli.common import console, progress, read_answer, settings
from coach.errors import UsageError

if TYPE_CHECKING:
    from coach.config import Settings
    from coach.domain import Question
    from coach.grade import Grader


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
    return rubrics.question_from(question, rubrics.points_from_notes(question, retrieve(index, question, 3)))


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
    from coach.bank import find_question
    from coach.grade import check_answer, empty_grade

    if question is None:
        assert question_id is not None
        wanted = find_question(config.knowledge / "questions", question_id)
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
        out.print(f"题目 {wanted.question}", style="bold")
        report.print_grade(out, result)
    if result.score is None:
        raise typer.Exit(3)


def practice(
    topic: str | None = typer.Option(None, "--topic", "-t", help="Only this topic."),
    kind: str | None = typer.Option(None, "--kind", help="Only this kind of question."),
    company: str | None = typer.Option(None, "--company", "-c", help="Only questions asked by this company."),
    difficulty: int | None = typer.Option(None, "--difficulty", "-d", min=1, max=5),
    question_id: str | None = typer.Option(None, "--id", help="Start with this question."),
    judge: str | None = typer.Option(None, "--judge"),
    seed: int | None = typer.Option(None, "--seed", help="Make the choice of questions repeatable."),
) -> None:
    """Practise: a question, your answer, a grade, and up to three follow-ups.

    Finish an answer with a line that holds only a dot, or with Ctrl-D. `/skip` leaves a question, `/quit` ends.

    \b
    coach practice
    coach practice --topic rlhf-alignment --difficulty 3
    coach practice --company 字节 --seed 7
    """
    config = settings()
    from coach import wiring

    bank = wiring.bank(config)
    questions = bank.select(topic=topic, kind=kind, company=company, difficulty=difficulty)
    if not questions:
        raise UsageError(
            "no question fits these filters", "coach bank list shows topics, kinds and companies"
        )
    with progress("indexing") as indexing:
        grader = wiring.grader(config, judge, indexing)
    rng = random.Random(seed)
    first = bank.get(question_id) if question_id else None
    _interview(grader, questions, rng, first)


def _read_block() -> str | None:
    """Lines up to a lone dot or end of input; None when there is no more input at all."""
    lines: list[str] = []
    while True:
        line = sys.stdin.readline()
        if not line:
            return "\n".join(lines) if lines else None
        line = line.rstrip("\n")
        if line.strip() == "." or (not lines and line.strip() in ("/quit", "/skip")):
            return "\n".join(lines) if lines else (line.strip() if line.strip() != "." else "")
        lines.append(line)


def _interview(grader: Grader, questions: list[Question], rng: random.Random, first: Question | None) -> None:
    from coach import report
    from coach.practice.interview import Round, pick

    out = console()
    done: set[str] = set()
    while question := first or pick(questions, rng, done):
        first = None
        done.add(question.id)
        turn = Round(question)
        out.rule(f"{question.topic} · 难度 {question.difficulty}", style="dim")
        while not turn.over:
            out.print(f"\n{'追问' if turn.pending else '问题'} {turn.prompt}", style="bold")
            out.print("（多行作答，单独一行 . 结束；/skip 跳过，/quit 退出）", style="dim")
            text = _read_block()
            if text is None or text == "/quit":
                return
            if text == "/skip":
                break
            try:
                with progress("judging") as judging:
                    shown = turn.answer(grader, text, lambda _, n, total: judging(n, total))
            except UsageError as e:
                out.print(f"{e.message}", style="red")
                continue
            report.print_grade(out, shown, follow_up=False)
            if turn.asked and turn.grade and turn.grade.score:
                out.print(f"本题累计 {report.score_line(turn.grade.score)}", style="bold")
            if turn.grade and turn.grade.score is None:
                break
    out.print("这些条件下的题目都问过了。")
