"""The conversation: reads entries, drives the interview, shows outcomes. Decides nothing about grades."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coach.cli.feedback import View
from coach.cli.loading import Loader
from coach.cli.terminal import Interrupted, Reader, edit
from coach.domain import Status, Verdict
from coach.errors import CoachError, UsageError
from coach.practice import assist
from coach.practice.commands import COMMANDS, Call, parse
from coach.practice.intents import classify
from coach.practice.interview import Interview, NothingGraded, Outcome
from coach.practice.progress import summary

if TYPE_CHECKING:
    from coach.grade import OnAsking
    from coach.judge.base import OnVerdict


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the chat needs from outside: writing weak points to a file, and prices per million tokens."""

    export: Callable[[Path], Path]
    prices: tuple[float | None, float | None] = (None, None)


class Chat:
    def __init__(
        self,
        interview: Interview,
        reader: Reader,
        view: View,
        loader: Loader,
        hooks: Hooks,
        now: Callable[[], float],
    ) -> None:
        self.interview = interview
        self.reader = reader
        self.view = view
        self.say = view.say
        self.loader = loader
        self.hooks = hooks
        self.now = now
        self.pressure = interview.config.get("manner") == "pressure"
        self._shown: int | None = None
        self._guess: float | None = None
        self._default = ""

    def run(self) -> int:
        """Exit code: 0, or that of the error that left the last answer without a grade."""
        try:
            return self._run()
        except KeyboardInterrupt as e:
            prompt = None if self.interview.waiting else self.interview.current()
            if prompt and isinstance(e, Interrupted) and e.draft.strip():
                self.interview.store.draft(prompt.turn.id, e.draft)
            self.view.line(self.say("left"), "dim")
            raise

    def _run(self) -> int:
        failed: CoachError | None = self._grade() if self.interview.waiting else None
        while True:
            if failed is None and not self.interview.waiting:
                prompt = self.interview.current()
                if prompt is None:
                    if self.interview.time_left == 0:
                        self.view.line(self.say("time_over"), "bold")
                    elif not self.interview.ended and not self.interview.config.get("plan"):
                        self.view.line(self.say("no_more"))
                    break
                if prompt.turn.id != self._shown:
                    self._show()
            self.loader.start()
            entry = self.reader.read(self._default)
            self._default = ""
            if entry is None:
                if failed is not None:
                    return failed.exit_code
                break
            try:
                call = parse(entry)
                if call is not None and call.name == "quit":
                    if failed is not None:
                        self.view.line(self.say("left"), "dim")
                        return failed.exit_code
                    break
                if call is not None:
                    failed = self._command(call, failed)
                elif failed is not None:
                    self.view.line(self.say("failed_next"))
                    self._default = entry if self.reader.interactive else ""
                elif not self._intent(entry):
                    break
                elif self.interview.waiting:
                    failed = self._grade()
            except NothingGraded as e:
                self.view.line(self.say.error(e), "dim")
            except UsageError as e:
                self.view.line(self.say.error(e), "red")
        self._finish()
        return 0

    def _show(self) -> None:
        prompt = self.interview.current()
        assert prompt is not None
        self.interview.store.touch(prompt.turn.id, self.now())
        self.view.prompt(prompt, self.interview.time_left)
        self.loader.prepare(prompt.judged_as)
        self._shown = prompt.turn.id
        if prompt.turn.draft and self.reader.interactive:
            self._default = prompt.turn.draft
            self.view.line(self.say("draft"), "dim")

    # ── entries ──────────────────────────────────────────────────────────────────────────────────
    def _intent(self, text: str) -> bool:
        """Act on what the reply means; False when the candidate wants to leave. An answer is saved, not yet graded."""
        intent = classify(text)
        interview, view = self.interview, self.view
        if not text.strip():
            view.line(self.say("empty"), "dim")
        elif intent == "answer":
            if self.reader.interactive and interview.config.get("ask_guess") and self._guess is None:
                view.line(self.say("guess_ask"), "dim")
                self._set_guess(self.reader.line() or "", quiet=True)
            interview.save(text, self._guess)
        elif intent == "repeat":
            self._show()
        elif intent == "skip":
            self._command(Call("skip", ""), None)
        elif intent == "quit":
            return False
        elif intent == "dont_know":
            if interview.give_up():
                view.line(self.say("noted" if self.pressure else "gave_up"), "dim")
            elif self.pressure:
                view.line(self.say("go_on"))
            else:
                view.line(self.say("gave_up_hint"))
                view.hint(assist.hint(interview))
        else:
            self._command(Call({"hint": "hint", "reveal": "answer"}[intent], ""), None)
        return True

    def _set_guess(self, text: str, quiet: bool = False) -> None:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if 0 <= value <= 100:
            self._guess = value
            self.view.line(self.say("guessed", guess=value), "dim")
        elif not quiet:
            raise UsageError(self.say("guess_bad"))

    def _command(self, call: Call, failed: CoachError | None) -> CoachError | None:
        """Do a slash command; returns the failure that is still open after it."""
        interview, view, name, argument = self.interview, self.view, call.name, call.argument
        if self.pressure and COMMANDS[name].reveals:
            view.line(self.say("go_on"))
        elif name == "help":
            for command in COMMANDS:
                view.line(f"  /{command:<8} {self.say('help_' + command)}")
        elif name == "regrade":
            if interview.waiting is None:
                view.line(self.say("nothing_waiting"))
            else:
                return self._grade()
        elif name == "skip" and interview.waiting is not None:
            interview.postpone()
            view.line(self.say("skipped"), "dim")
            return None
        elif name == "skip":
            interview.skip()
            view.line(self.say("skipped"), "dim")
        elif name == "hint":
            view.hint(assist.hint(interview))
        elif name == "repeat":
            self._show()
        elif name in ("harder", "easier"):
            view.line(self.say(name, level=interview.adjust(1 if name == "harder" else -1)), "dim")
        elif name == "why":
            view.why(assist.find_verdict(interview, argument)[1])
        elif name == "source":
            view.passages(assist.passages(interview))
        elif name == "answer":
            view.line(self.say("reference"), "bold")
            view.line(assist.reference(interview).strip())
        elif name == "retry":
            assist.retry(interview)
        elif name == "dispute":
            ref, _, why = argument.partition(" ")
            with self._busy():
                found = assist.dispute(interview, ref, why)
            view.dispute(found)
        elif name == "guess":
            self._set_guess(argument)
        elif name == "note":
            assist.note(interview, argument)
            view.line(self.say("note"), "dim")
        elif name == "cost":
            self._cost()
        elif name == "export":
            path = self.hooks.export(Path(argument or f"weak-points-{interview.id}.md"))
            view.line(self.say("exported", path=path))
        elif name == "edit":
            if not self.reader.interactive:
                raise UsageError(self.say("unsupported", name=name))
            self._default = edit(argument) or ""
        return failed

    def _cost(self) -> None:
        used = self.interview.cost()
        text = self.say(
            "cost", calls=used.calls, prompt=used.prompt_tokens, cached=used.cached_share,
            completion=used.completion_tokens, seconds=used.seconds,
        )  # fmt: skip
        price_in, price_out = self.hooks.prices
        if price_in is not None and price_out is not None:
            price = (used.prompt_tokens * price_in + used.completion_tokens * price_out) / 1e6
            text += self.say("price", price=price)
        self.view.line(text, "dim")

    # ── grading ──────────────────────────────────────────────────────────────────────────────────
    @contextmanager
    def _busy(self) -> Iterator[tuple[OnVerdict, OnAsking]]:
        """On a terminal: what was recognised so far, gone when the grade is shown. Never what is missing.

        Yields what to call with each verdict, and before a follow-up is generated.
        """
        if not self.reader.interactive:
            yield (lambda verdict, done, total: None), (lambda: None)
            return
        from rich.live import Live
        from rich.text import Text

        recognised: list[str] = []
        state = self.say("saved")

        def draw() -> Text:
            # Until the model has loaded that is what takes the time; asked anew at every refresh.
            now = f"{state} · {self.say('loading')}" if self.loader.loading else state
            return Text("\n".join([*recognised, now + " …"]), style="dim")

        def seen(verdict: Verdict, done: int, total: int) -> None:
            nonlocal state
            if verdict.status is Status.COVERED and not self.pressure:
                recognised.append(f"✔ {verdict.text}")
            state = self.say("judged", done=done, total=total)
            live.refresh()

        def asking() -> None:
            nonlocal state
            state = self.say("asking")
            live.refresh()

        with Live(get_renderable=draw, console=self.view.console, transient=True) as live:
            yield seen, asking

    def _grade(self) -> CoachError | None:
        """Grade the saved answer and show it; the error when that fails, with the answer kept."""
        try:
            with self._busy() as (seen, asking):
                outcome = self.interview.grade_waiting(seen, asking)
        except CoachError as e:
            self.view.line()
            self.view.line(self.say("failed", error=e.message), "red")
            if e.hint:
                self.view.line(e.hint, "dim")
            self.view.line(self.say("failed_next"), "dim")
            return e
        self._guess = None
        if outcome:
            self._outcome(outcome)
        return None

    def _outcome(self, outcome: Outcome) -> None:
        if self.pressure:
            self.view.line(self.say("noted"), "dim")
            return
        self.view.outcome(outcome, outcome.turn.guess)
        left = {v.point_id for v in outcome.merged.verdicts if v.status is not Status.COVERED}
        self.interview.shown(outcome.round.id, left - outcome.hidden)

    def _finish(self) -> None:
        interview = self.interview
        interview.end()
        rounds = interview.store.rounds(interview.id)
        if not rounds:
            return
        if self.pressure:
            for number, round_ in enumerate(rounds, 1):
                if round_.merged:
                    self.view.line()
                    self.view.line(f"{self.say('question', n=number)}  {round_.question.question}", "bold")
                    self.view.verdicts(round_.merged.verdicts)
                    self.view.score(round_.merged)
        upcoming = [c for c in interview.store.cards() if c.due > self.now()]
        when = None
        if upcoming:
            day = time.strftime("%m-%d", time.localtime(upcoming[0].due))
            same = sum(time.strftime("%m-%d", time.localtime(c.due)) == day for c in upcoming)
            when = (day, same)
        self.view.summary(summary(interview.store, interview.id), interview.id, when)
