"""What the candidate reads during an interview. Lines fit the console's width, Chinese counted double."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from coach.domain import Grade, Passage, Status, Verdict
from coach.messages import Messages
from coach.practice import coaching
from coach.practice.assist import Dispute
from coach.practice.interview import Outcome, Prompt
from coach.practice.progress import Summary
from coach.report import MARK, flag_lines, interval_line, pitfall_lines, score_line, verdict_lines


class View:
    """Prints; decides nothing."""

    def __init__(self, console: Console, messages: Messages) -> None:
        self.console = console
        self.say = messages

    def line(self, text: str = "", style: str = "") -> None:
        self.console.print(Text(text, style=style))

    def prompt(self, prompt: Prompt, time_left: float | None) -> None:
        question = prompt.round.question
        if prompt.kind != "follow_up":
            meta = self.say("meta", topic=question.topic, kind=question.kind, difficulty=question.difficulty)
            parts = [self.say.stage(prompt.round.stage), meta]
            if time_left is not None:
                parts.append(self.say("time_left", minutes=round(time_left / 60)))
            self.line()
            self.console.rule(Text(" · ".join(p for p in parts if p)), style="dim")
        label = {"question": "question", "retry": "retry", "follow_up": "follow_up"}[prompt.kind]
        self.line()
        self.console.print(
            Text.assemble((self.say(label, n=prompt.number), "bold green"), "  ", (prompt.text, "bold"))
        )
        if question.coding and prompt.kind == "question":
            self.console.print(Padding(Text(question.coding.statement.strip()), (0, 0, 0, 2)))

    # ── grades ───────────────────────────────────────────────────────────────────────────────────
    def verdicts(
        self,
        verdicts: Sequence[Verdict],
        hidden: Collection[str] = (),
        assisted: Collection[str] = (),
        only_open: bool = False,
    ) -> None:
        for n, verdict in enumerate(verdicts, 1):
            if only_open and verdict.status is Status.COVERED:
                continue
            if verdict.point_id in hidden and verdict.status is not Status.COVERED:
                mark, style = MARK[verdict.status]
                self.console.print(
                    Text.assemble(
                        (f"{n} ", "dim"),
                        (f"{mark} ", style),
                        f"?/{verdict.weight}".ljust(5),
                        self.say("hidden"),
                    )
                )
                continue
            lines = verdict_lines(verdict, self.say)
            help_ = self.say("assisted") if verdict.point_id in assisted else ""
            self.console.print(Text.assemble((f"{n} ", "dim"), lines[0], (help_, "dim")))  # type: ignore[arg-type]
            for line in lines[1:]:
                self.console.print(line)

    def outcome(self, outcome: Outcome, guess: float | None) -> None:
        """The grade of one answer, then what may be said about it before the next question."""
        turn, grade, merged = outcome.turn, outcome.grade, outcome.merged
        self.line()
        follow_up = turn.follow_up
        self.verdicts(grade.verdicts, () if follow_up else outcome.hidden, outcome.assisted)
        for hit in () if follow_up else grade.pitfalls:
            for line in pitfall_lines(hit, self.say, hit.pitfall_id in outcome.hidden):
                self.console.print(line)
        for flag in flag_lines(grade, self.say):
            self.console.print(flag)
        self.line()
        if grade.score is None and not (follow_up and merged.score):
            self.line(self.say.reason(grade.note), "bold red")
            return
        if follow_up and follow_up.type == "false_premise" and grade.score is not None:
            kept = grade.score.value >= 50
            self.line(self.say("resisted") if kept else self.say("gave_in", premise=follow_up.premise))
        if turn.attempt > 1 and outcome.before:
            self._retry(outcome.before, merged)
        self.score(merged if follow_up or turn.attempt > 1 else grade, bool(follow_up), guess)
        if follow_up and outcome.over:
            left = coaching.open_verdicts(merged.verdicts)
            if left:
                self.line(self.say("still_open"), "bold")
                self.verdicts(merged.verdicts, only_open=True)
        if outcome.over or not follow_up:
            self.fix(outcome)

    def score(self, grade: Grade, total: bool = False, guess: float | None = None) -> None:
        if grade.score is None:
            return
        self.console.print(
            Text.assemble(
                self.say("total" if total else "score"), " ", (score_line(grade.score, self.say), "bold")
            )
        )
        text = interval_line(grade, self.say)
        if guess is not None:
            text += " · " + self.say("guess", guess=guess, gap=guess - grade.score.value)
        self.line(f"     {text}", "dim")

    def _retry(self, before: Grade, after: Grade) -> None:
        if not before.score or not after.score:
            return
        old = {v.point_id: v.status for v in before.verdicts}
        turned = [
            f"{n} {v.text[:16]}"
            for n, v in enumerate(after.verdicts, 1)
            if v.status is Status.COVERED and old.get(v.point_id) is not Status.COVERED
        ]
        tail = (
            self.say("retry_turned", points=self.say("comma").join(turned))
            if turned
            else self.say("retry_none")
        )
        self.line(self.say("retry_result", before=before.score.value, after=after.score.value) + tail, "bold")

    def fix(self, outcome: Outcome) -> None:
        found = coaching.smallest_fix(outcome.round.question, outcome.merged, outcome.hidden)
        if found is None:
            return
        ids = [v.point_id for v in outcome.merged.verdicts]
        numbers = self.say("comma").join(str(ids.index(p) + 1) for p in found.points)
        self.line()
        self.console.print(
            Text.assemble(
                (self.say("fix"), "bold yellow"),
                ("  " + self.say("fix_gain", points=numbers, before=found.before, after=found.after), "dim"),
            )
        )
        for sentence in found.sentences:
            self.console.print(Padding(Text(f"＋ {sentence}", style="green"), (0, 0, 0, 2), expand=False))

    # ── help ─────────────────────────────────────────────────────────────────────────────────────
    def hint(self, found: coaching.Hint) -> None:
        text = found.text
        if found.kind == "direction":
            quoted = (self.say("quote", text=h) for h in found.headings)
            text = self.say("comma").join(quoted) or self.say("hint_anywhere")
        self.line(
            f"{self.say('hint')}  {self.say(f'hint_{found.kind}', text=text, n=found.points)}", "yellow"
        )

    def why(self, verdict: Verdict) -> None:
        for line in verdict_lines(verdict, self.say):
            self.console.print(line)
        if verdict.quote is None:
            self.line("       " + self.say("why_no_quote"), "dim")
        if verdict.probability is not None:
            self.line("       " + self.say("why_probability", p=verdict.probability), "dim")

    def passages(self, passages: Sequence[Passage]) -> None:
        if not passages:
            self.line(self.say("source_none"))
        for passage in passages[:3]:
            self.console.print(Text(f"{passage.chunk.ref}  {passage.chunk.heading}", style="bold"))
            self.console.print(Padding(Text(passage.chunk.text.strip()), (0, 0, 1, 2)))

    def dispute(self, found: Dispute) -> None:
        name = {s: self.say(f"status_{s.value}") for s in Status}
        self.line(
            f"{self.say('dispute')}  "
            + self.say("dispute_votes", votes=" / ".join(name[v] for v in found.votes))
        )
        if found.changed:
            score = f"{found.merged.score.value:.0f}" if found.merged.score else "–"
            self.line(
                self.say(
                    "dispute_changed",
                    before=name[found.before.status],
                    after=name[found.after.status],
                    score=score,
                ),
                "bold",
            )
        else:
            self.line(self.say("dispute_kept", before=name[found.before.status]))
        self.line(self.say("dispute_stored"), "dim")

    def summary(self, summary: Summary, interview: int, when_due: tuple[str, int] | None) -> None:
        self.line()
        self.console.rule(Text(self.say("summary")), style="dim")
        for n, row in enumerate(summary.rows, 1):
            score = (
                f"{row.score:3.0f}"
                if row.score is not None
                else self.say("summary_skipped" if row.skipped else "summary_ungraded")
            )
            text = self.say("summary_row", n=n, score=score, question=row.question)
            shown = Text(text)
            shown.truncate(self.console.width, overflow="ellipsis")
            self.console.print(shown)
        parts = []
        if summary.average is not None:
            parts.append(self.say("average", score=summary.average, n=summary.scored))
        if summary.premises:
            parts.append(self.say("resistance", kept=summary.resisted, asked=summary.premises))
        if when_due:
            parts.append(self.say("next_due", when=when_due[0], n=when_due[1]))
        if parts:
            self.line(" · ".join(parts), "bold")
        self.line(self.say("next_step", id=interview), "dim")
