"""Judging a set of cases: every finished item is on disk before the next one starts in its thread.

The runner knows no model: it is given a factory that makes a `Subject`, one for each worker thread.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Protocol

from coach.domain import Grade, Question, Usage
from coach.embed import Embedder
from coach.errors import LLMUnreadable, UsageError
from coach.evals.cases import EvalCase, EvalSet
from coach.evals.floors import ask_holistic, predict_floors
from coach.evals.store import Asked, Record, Run, item_key
from coach.grade import EMPTY, Grader
from coach.llm import LLM
from coach.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Subject:
    """The grader under test, and what the floors need: the same model and the same embedder."""

    grader: Grader
    llm: LLM
    embedder: Embedder


Factory = Callable[[], Subject]


class OnItem(Protocol):
    """Called after each item with (finished in all, all, items this process judged, their usage)."""

    def __call__(self, done: int, total: int, fresh: int, usage: Usage, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Job:
    case: EvalCase
    question: Question
    system: str
    repeat: int
    key: str


def record_of(job: Job, grade: Grade) -> Record:
    follow_up = grade.follow_up
    return Record(
        key=job.key,
        case_id=job.case.id,
        repeat=job.repeat,
        status=grade.status,
        score=grade.score,
        verdicts=grade.verdicts,
        pitfalls=grade.pitfalls,
        flags=grade.flags,
        follow_up=Asked(ask=follow_up.ask, targets=follow_up.targets, generated=follow_up.generated)
        if follow_up
        else None,
        note=grade.note,
        usage=grade.usage,
    )


def judge(subject: Subject, prompt: Prompt, job: Job) -> Record:
    """One item. LLMUnavailable and LLMRejected stop the run: they say nothing about this answer."""
    if job.system == "holistic":
        return ask_holistic(subject.llm, prompt, job.question, job.case, job.key)
    try:
        # A follow-up is only looked at for authored answers; elsewhere it would cost a generation for nothing.
        grade = subject.grader.grade(job.question, job.case.answer, follow_up=job.case.suite == "authored")
    except (LLMUnreadable, UsageError) as e:
        return Record(key=job.key, case_id=job.case.id, repeat=job.repeat, status="error", error=e.message)
    return record_of(job, grade)


def plan(cases: EvalSet, run: Run, holistic: bool) -> list[Job]:
    """Every item of the run in the order it is judged: one question after the other, its prefix still cached."""
    jobs = []
    order = {q: i for i, q in enumerate(dict.fromkeys(c.question_id for c in cases.cases))}
    grouped = sorted(cases.cases, key=lambda c: order[c.question_id])
    for repeat in range(run.meta.repeats):
        for case in grouped:
            systems = ["grader"]
            if holistic and repeat == 0 and case.suite != "metamorphic":
                systems.append("holistic")
            question = cases.question_for(case)
            for system in systems:
                code = run.meta.code if system == "grader" else run.meta.holistic
                key = item_key(case, question, run.meta.fingerprint, code, repeat, system)
                jobs.append(Job(case, question, system, repeat, key))
    return jobs


def execute(
    run: Run,
    factory: Factory,
    prompt: Prompt,
    *,
    jobs: int = 1,
    holistic: bool = True,
    fit_on: Sequence[EvalCase] = (),
    fit_questions: Sequence[Question] = (),
    on_item: OnItem | None = None,
    on_floor: Callable[[int, int], None] | None = None,
) -> dict[str, Record]:
    """Judge what is missing and predict the floors; the records of the whole run by key.

    Ctrl-C stops after the items in flight; nothing finished is lost, and the next call goes on from there.
    """
    cases = run.cases
    with run.locked():
        run.mend()
        known = run.records()
        wanted = plan(cases, run, holistic)
        missing = [j for j in wanted if j.key not in known]
        total, fresh, usage = len(wanted), 0, Usage()
        local = threading.local()

        def work(job: Job) -> Record:
            if not hasattr(local, "subject"):
                local.subject = factory()
            record = judge(local.subject, prompt, job)
            run.append(record)
            return record

        def finished(record: Record) -> None:
            nonlocal fresh, usage
            known[record.key] = record
            fresh += 1
            usage += record.usage
            if on_item:
                on_item(total - len(missing) + fresh, total, fresh, usage)

        if jobs == 1:
            for job in missing:
                finished(work(job))
        elif missing:
            _in_threads(missing, work, finished, jobs)
        if not run.floors():
            subject = getattr(local, "subject", None) or factory()
            questions = {**{q.id: q for q in fit_questions}, **cases.questions}
            targets = [c for c in cases.cases if c.suite != "metamorphic"]
            run.write_floors(predict_floors(targets, questions, subject.embedder, fit_on, on_floor))
    return {j.key: known[j.key] for j in wanted}


def _in_threads(
    todo: Sequence[Job], work: Callable[[Job], Record], finished: Callable[[Record], None], threads: int
) -> None:
    """At most `threads` items in flight. The first failure, Ctrl-C included, starts no more and waits for those."""
    queue = iter(todo)
    with ThreadPoolExecutor(threads) as pool:
        flying: set[Future[Record]] = {pool.submit(work, job) for job in itertools.islice(queue, threads)}
        while flying:
            done, flying = wait(flying, return_when=FIRST_COMPLETED)
            for future in done:
                finished(future.result())
                job = next(queue, None)
                if job is not None:
                    flying.add(pool.submit(work, job))


def is_empty(record: Record) -> bool:
    """No score because there was nothing to grade: that is the right outcome, and worth 0."""
    return record.status == "unjudged" and record.note == EMPTY
