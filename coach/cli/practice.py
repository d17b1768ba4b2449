"""`coach practice`: start, choose or resume an interview, then hand over to the chat."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from coach.cli.common import LANG, console, decode, settings
from coach.errors import ModelError, UsageError

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from coach.bank import Bank
    from coach.cli.feedback import View
    from coach.cli.terminal import Reader
    from coach.config import Settings
    from coach.grade import Grader
    from coach.practice.store import Store

STORE = "interviews.sqlite"


def open_store(config: Settings) -> Store:
    from coach.practice.store import Store

    return Store(config.home / STORE)


def practice(
    topic: str | None = typer.Option(None, "--topic", "-t", help="Only this topic."),
    kind: str | None = typer.Option(None, "--kind", help="Only this kind of question."),
    company: str | None = typer.Option(None, "--company", "-c", help="Only questions asked by this company."),
    difficulty: int | None = typer.Option(None, "--difficulty", "-d", min=1, max=5),
    question_id: str | None = typer.Option(None, "--id", help="Start with this question."),
    due: bool = typer.Option(False, "--due", help="Review the points that are due."),
    mock: str | None = typer.Option(
        None, "--mock", help="A timed mock interview: 一面 (first), 二面 (second) or HR."
    ),
    resume: Path | None = typer.Option(
        None, "--resume", help="Questions on your own résumé (Markdown or text)."
    ),
    jd: Path | None = typer.Option(None, "--jd", help="With --resume: the job description to aim at."),
    go_on: bool = typer.Option(False, "--continue", help="Go on with the interview that was left or killed."),
    pressure: bool = typer.Option(False, "--pressure", help="No feedback until the end."),
    follow_ups: int = typer.Option(3, "--follow-ups", min=0, max=10, help="Follow-ups per question at most."),
    guess: bool = typer.Option(False, "--guess", help="Ask for your own estimate before each grade."),
    lang: str | None = LANG,
    judge: str | None = typer.Option(None, "--judge"),
    seed: int | None = typer.Option(None, "--seed", help="Make the choice of questions repeatable."),
) -> None:
    """Practise in a chat: a question, your answer, a grade with evidence, follow-ups, and a plan for weak points.

    Enter is a newline; Alt+Enter or Ctrl+D sends. On a pipe a line with only a dot ends an answer. /help lists the
    commands. Every turn is saved before the next is asked: after a crash, `coach practice --continue` goes on.

    \b
    coach practice
    coach practice --topic rlhf-alignment --difficulty 3
    coach practice --company 字节 --seed 7
    coach practice --due
    coach practice --mock 一面 --pressure
    coach practice --resume 简历.md --jd jd.md
    coach practice --continue
    """
    chosen = [name for name, on in (("--due", due), ("--mock", mock), ("--resume", resume)) if on]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} exclude each other")
    if go_on and (chosen or any((topic, kind, company, difficulty, question_id))):
        raise UsageError("--continue goes on with what was chosen then; leave the other options out")
    if jd and not resume:
        raise UsageError("--jd belongs to --resume")
    config = settings()
    from coach import wiring
    from coach.cli.feedback import View
    from coach.messages import Messages
    from coach.practice.interview import Interview

    say = Messages(lang or config.lang)
    _need_model(config)
    # An unreviewed draft is asked only when it is asked for.
    wants_draft = topic == "draft" or (question_id or "").startswith("draft-")
    bank = wiring.bank(config, drafts=go_on or wants_draft)
    store = open_store(config)
    out = console()
    try:
        lock = None
        if go_on:
            interview_id, lock = _resume(store, config)
            say = Messages(lang or store.interview(interview_id).config.get("lang", config.lang))
        view = View(out, say)
        reader = _reader(config, say)
        if not go_on:
            plan: dict[str, Any] = {
                "topic": topic,
                "kind": kind,
                "company": company,
                "difficulty": difficulty,
            }
            plan |= {"due": due, "mock": mock, "first": question_id, "lang": say.lang, "judge": judge}
            plan |= {"seed": random.randrange(2**31) if seed is None else seed, "follow_ups": follow_ups}
            plan |= {"manner": "pressure" if pressure else "coach", "ask_guess": guess}
            plan["questions"] = _own_questions(resume, jd)
            _greet(view, store, time.time())
            if reader.interactive and not chosen and not any((topic, kind, company, difficulty, question_id)):
                plan |= _menu(reader, view, bank, store)
            interview_id = store.begin(time.time(), _planned(plan, bank, store))
            lock = _lock(config, interview_id)
        made = store.interview(interview_id).config
        loader = _loader(config, made.get("judge"))
        questions = {q.id: q for q in bank}
        interview = Interview(store, interview_id, questions, loader, time.time)
        code = _chat(config, interview, reader, view, loader, bank, go_on)
        if lock:
            lock.release()
    finally:
        store.close()
    if code:
        raise typer.Exit(code)


def _need_model(config: Settings) -> None:
    """ModelError now rather than after the first answer. Loads nothing."""
    from coach.llm.models import find_model

    if config.base_url is None and find_model(config.models_dir, config.model_file) is None:
        raise ModelError(
            "there is no model to grade with: neither the embedded one nor an endpoint",
            "fetch the embedded model with: coach models pull\n"
            "      or use an endpoint: COACH_LLM=<model> COACH_BASE_URL=<url> COACH_API_KEY=<key>",
        )


def _loader(config: Settings, judge: str | None) -> Any:
    from coach.cli.loading import Loader

    def load() -> Grader:
        from coach import wiring

        return wiring.grader(config, judge)

    return Loader(load)


def _reader(config: Settings, say: Callable[..., str]) -> Reader:
    from coach.cli.terminal import PipeReader, TerminalReader

    if sys.stdin.isatty() and sys.stdout.isatty():
        return TerminalReader(
            config.home / "input-history", lambda: say("howto_tty"), lambda name: say(f"help_{name}")
        )
    return PipeReader()


def _lock(config: Settings, interview: int) -> BaseFileLock | None:
    """Held while the interview is open, released by the system when the process dies; None when another holds it."""
    from filelock import FileLock, Timeout

    folder = config.home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"interview-{interview}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock


def _resume(store: Store, config: Settings) -> tuple[int, BaseFileLock]:
    """The newest interview that is neither over nor open in another window."""
    busy = []
    for row in store.interviews():
        if row.ended is None:
            lock = _lock(config, row.id)
            if lock is not None:
                return row.id, lock
            busy.append(str(row.id))
    if busy:
        raise UsageError(f"interview {', '.join(busy)} is open in another window", "go on there, or close it")
    raise UsageError("there is no unfinished interview", "start one with: coach practice")


def _own_questions(resume: Path | None, jd: Path | None) -> list[dict[str, Any]]:
    if resume is None:
        return []
    from coach.practice.resume import questions

    texts = []
    for path in (resume, jd):
        try:
            texts.append(decode(path.read_bytes(), str(path)) if path else "")
        except OSError as e:
            raise UsageError(f"{path}: {e.strerror or e}") from e
    return [q.model_dump(mode="json") for q in questions(texts[0], texts[1])]


def _planned(plan: dict[str, Any], bank: Bank, store: Store) -> dict[str, Any]:
    """The interview's stored configuration: which questions it may ask, and in which order. UsageError when none."""
    from coach.practice.plan import MOCKS, due_plan, mock_name, mock_plan

    if plan["questions"]:
        plan["plan"] = [["拷打项目", q["id"]] for q in plan["questions"]]
    elif plan["mock"]:
        plan["mock"] = mock_name(plan["mock"])
        plan["plan"] = mock_plan(plan["mock"], list(bank), plan["seed"], plan["company"])
        plan["minutes"] = MOCKS[plan["mock"]].minutes
    elif plan["due"]:
        plan["plan"] = due_plan(store.cards(time.time()), {q.id for q in bank})
        if not plan["plan"]:
            raise UsageError(
                "no point is due", "coach practice asks something new; coach progress shows what comes when"
            )
    else:
        filters = {name: plan[name] for name in ("topic", "kind", "company", "difficulty")}
        plan["pool"] = [q.id for q in bank.select(**filters)]
        if plan["first"]:
            bank.get(plan["first"])
        if not plan["pool"]:
            raise UsageError(
                "no question fits these filters", "coach bank list shows topics, kinds and companies"
            )
    return plan


def _greet(view: View, store: Store, now: float) -> None:
    """What is due, what is weak, how it went last, and what was left unfinished."""
    from coach.practice.progress import progress

    say, seen = view.say, progress(store, now)
    if not seen.answers:
        view.line(say("status_new"), "dim")
        return
    parts = [say("status_due", due=seen.due, questions=seen.due_questions)]
    if seen.timeline:
        when, _, score = seen.timeline[-1]
        parts.append(
            say("status_last", score=round(score), when=time.strftime("%m-%d", time.localtime(when)))
        )
    view.line(" · ".join(parts), "bold")
    weak = [f"{t.topic} {t.average:.0f}" for t in seen.topics[:3] if t.average < 80]
    if weak:
        view.line(say("status_weak", topics=say("comma").join(weak)))
    left = next((i for i in store.interviews() if i.ended is None), None)
    if left:
        view.line(say("status_open", id=left.id), "dim")


def _menu(reader: Reader, view: View, bank: Bank, store: Store) -> dict[str, Any]:
    """What the start screen's one line asks for; free practice for Enter. Ctrl-D leaves as Ctrl-C does.

    `t` or `c` alone lists what can follow it; Tab completes it.
    """
    from coach.practice.plan import ALSO, MOCKS

    say = view.say
    cards = store.cards(time.time())
    names = {
        "t": sorted({q.topic for q in bank}),
        "c": sorted({c for q in bank for c in q.companies}),
        "m": [*MOCKS, *ALSO],
    }
    option = {"t": "topic", "c": "company", "m": "mock"}
    view.line(say("menu", due=say("menu_due") if cards else ""))
    while True:
        line = reader.line([f"{key} {name}" for key in names for name in names[key]])
        if line is None:
            raise KeyboardInterrupt
        key, _, value = line.strip().partition(" ")
        value = value.strip()
        if not key:
            return {}
        if key == "d" and cards:
            return {"due": True}
        if value in names.get(key, ()) or (key == "c" and value and bank.select(company=value)):
            return {option[key]: value}
        if value or key not in names:
            view.line(say("menu_bad", what=line), "red")
        view.line(say("menu_topics", names=" ".join(names["t"])), "dim")
        view.line(say("menu_companies", names=" ".join(names["c"])), "dim")


def _chat(
    config: Settings, interview: Any, reader: Reader, view: View, loader: Any, bank: Bank, resumed: bool
) -> int:
    from coach.cli.chat import Chat, Hooks
    from coach.practice.exports import export
    from coach.practice.progress import weak_points

    store = interview.store
    say = view.say
    if resumed:
        turns = sum(len(store.turns(r.id)) for r in store.rounds(interview.id))
        view.line(say("continued", id=interview.id, turns=turns), "dim")
    else:
        view.line(say("welcome", id=interview.id), "dim")
    view.line(say("howto_tty" if reader.interactive else "howto_pipe"), "dim")

    def write(path: Path) -> Path:
        return export(weak_points(store, {q.id: q for q in bank}, time.time(), say), path, say)

    hooks = Hooks(write, (config.price_in, config.price_out))
    return Chat(interview, reader, view, loader, hooks, time.time).run()
