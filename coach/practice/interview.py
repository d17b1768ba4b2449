"""An interview as a state machine over the store. Prints nothing; clock, grader and questions come from outside.

    current → (answer → grade) → current → …        every step is on disk before the next one begins

There is no state in memory that the store does not have, so a killed interview goes on from where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from coach.domain import Grade, Question, Status, Usage
from coach.grade import Grader, OnAsking, asked_text, check_answer
from coach.judge.base import OnVerdict
from coach.messages import Refused
from coach.practice import plan, schedule
from coach.practice.rows import CardRow, RoundRow, TurnRow
from coach.practice.store import Store
from coach.score import merge, score

Clock = Callable[[], float]


class NothingGraded(Refused):
    """Asked for evidence, a reference or a retry before any answer has a grade."""

    def __init__(self) -> None:
        super().__init__("nothing_graded")


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the candidate is asked now. `number` is the position of the question, 1-based."""

    kind: Literal["question", "follow_up", "retry"]
    round: RoundRow
    turn: TurnRow
    number: int

    @property
    def text(self) -> str:
        return self.turn.prompt

    @property
    def judged_as(self) -> str:
        """What the answer is judged as an answer to: for a follow-up the question and it."""
        return asked_text(self.round.question, self.turn.follow_up)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One graded turn. `hidden` are point ids that the next follow-up asks for: showing them would answer it."""

    turn: TurnRow
    round: RoundRow
    grade: Grade
    merged: Grade
    over: bool
    hidden: frozenset[str]
    assisted: frozenset[str]
    before: Grade | None = None


class Interview:
    """`grader` is called when the first grade is needed: it may still be loading while the candidate types."""

    def __init__(
        self,
        store: Store,
        interview: int,
        questions: Mapping[str, Question],
        grader: Callable[[], Grader],
        clock: Clock,
    ) -> None:
        self.store = store
        self.id = interview
        self.grader = grader
        self.clock = clock
        row = store.interview(interview)
        self.config: dict[str, Any] = row.config
        self.ended = row.ended is not None
        own = [Question.model_validate(q) for q in self.config.get("questions", ())]
        self._questions = {**questions, **{q.id: q for q in own}}

    # ── what is asked ────────────────────────────────────────────────────────────────────────────
    def current(self) -> Prompt | None:
        """The open prompt, asking the next one when none is open; None when the interview is over.

        Refused while an answer still waits for its grade: what comes next depends on it.
        """
        if self.ended:
            return None
        if self.waiting is not None:
            raise Refused("waits_for_grade")
        turn = self.store.waiting(self.id, "asked")
        if turn is not None:
            return self.prompt(self.store.round(turn.round), turn)
        last = self.store.last_round(self.id)
        if last and last.state == "open" and last.merged and last.merged.follow_up:
            follow_up = last.merged.follow_up
            return self.prompt(last, self.store.ask(last.id, follow_up, follow_up.ask, self.clock()))
        ordinal = last.ordinal + 1 if last else 0
        if self.time_left == 0 and self.config.get("plan"):
            ordinal = max(
                ordinal, len(self.config["plan"]) - 1
            )  # out of time: only the closing stage is left
        chosen = plan.choose(self._questions, self.config, ordinal, self.store.asked_ids(self.id))
        if chosen is None:
            return None
        stage, question = chosen
        opened = self.store.open_round(self.id, ordinal, question, stage, self.clock())
        return self.prompt(opened, self.store.turns(opened.id)[0])

    def prompt(self, round_: RoundRow, turn: TurnRow) -> Prompt:
        kind: Literal["question", "follow_up", "retry"] = (
            "follow_up" if turn.follow_up else "retry" if turn.attempt > 1 else "question"
        )
        return Prompt(kind, round_, turn, round_.ordinal + 1)

    @property
    def time_left(self) -> float | None:
        """Seconds of answering time left in [0, …], None without a limit. A clock that jumps back costs nothing."""
        minutes = self.config.get("minutes")
        if minutes is None:
            return None
        used = sum(max(0.0, answered - asked) for asked, answered in self.store.times(self.id))
        return max(0.0, 60.0 * float(minutes) - used)

    # ── answering ────────────────────────────────────────────────────────────────────────────────
    def save(self, text: str, guess: float | None = None) -> None:
        """Keep `text` as the answer to the open prompt; `grade_waiting` grades it, now or after a crash."""
        prompt = self.current()
        if prompt is None:
            raise Refused("over")
        check_answer(text)
        if not text.strip():
            raise Refused("empty_answer")
        self.store.answered(prompt.turn.id, text, self.clock(), guess)

    @property
    def waiting(self) -> TurnRow | None:
        """An answer that is saved and not graded yet."""
        return self.store.waiting(self.id, "answered")

    def grade_waiting(
        self, on_verdict: OnVerdict | None = None, on_asking: OnAsking | None = None
    ) -> Outcome | None:
        """Grade the newest saved answer that has no grade; None when there is none. Raises LLMError as grading does."""
        turn = self.waiting
        if turn is None:
            return None
        round_ = self.store.round(turn.round)
        turns = self.store.turns(round_.id)
        asked = [t.follow_up.id for t in turns if t.follow_up and t.id < turn.id]
        text = turn.answer or ""
        before = round_.merged
        grader = self.grader()
        if turn.follow_up and before:
            result = grader.grade_follow_up(
                round_.question, before, turn.follow_up, text,
                asked=asked, on_verdict=on_verdict, on_asking=on_asking,
            )  # fmt: skip
            own, merged = result.own, result.merged
            asked.append(turn.follow_up.id)
            # It could not be judged: go on rather than ask the same again.
            if merged.follow_up and merged.follow_up.id in asked:
                merged = merged.model_copy(update={"follow_up": None})
        else:
            own = grader.grade(
                round_.question, text,
                asked=asked, on_verdict=on_verdict, on_asking=on_asking, follow_up=before is None,
            )  # fmt: skip
            merged = own if before is None else _merged_retry(before, own)
        retry = turn.attempt > 1
        more = (
            bool(
                merged.score
                and merged.follow_up
                and len(asked) < self.config.get("follow_ups", plan.MAX_FOLLOW_UPS)
            )
            and self.time_left != 0
        )
        over = round_.state != "open" if retry else not more
        if over and not retry:
            merged = merged.model_copy(update={"follow_up": None})
        if own.score is None and turn.follow_up is None and own.status != "ok":
            over = True
        first = turns[0].grade if turns[0].id != turn.id else own
        cards = self._cards(round_, merged, first) if over and not retry else []
        state = "done" if over else "open"
        self.store.graded(turn.id, own, round_.id, merged, state, cards, self.clock())
        round_ = self.store.round(round_.id)
        hinted, shown, _ = self._help(round_.id)
        hidden = frozenset(merged.follow_up.targets) if merged.follow_up and not over else frozenset()
        return Outcome(
            self.store.turn(turn.id), round_, own, merged, over, hidden, frozenset(hinted | shown), before
        )

    def _help(self, round_id: int) -> tuple[set[str], set[str], set[str]]:
        """Point ids (hinted, shown, disputed) in this round."""
        found: dict[str, set[str]] = {"hint": set(), "shown": set(), "dispute": set()}
        for event in self.store.events(self.id, round_id):
            if event.kind in found:
                found[event.kind] |= {p for p in event.data.get("points", ()) if p}
        return found["hint"], found["shown"], found["dispute"]

    def _cards(self, round_: RoundRow, merged: Grade, first: Grade | None) -> list[tuple[CardRow, int]]:
        hinted, shown, disputed = self._help(round_.id)
        said = {v.point_id for v in first.verdicts if v.status is Status.COVERED} if first else set()
        return schedule.reviews(
            round_.question,
            merged.verdicts,
            first=said,
            hinted=hinted,
            shown=shown - said,
            disputed=disputed,
            known=self._known(round_.question),
            now=self.clock(),
        )

    def _known(self, question: Question) -> dict[str, CardRow]:
        rows = (self.store.card(question.id, p.id) for p in question.rubric)
        return {r.point_id: r for r in rows if r}

    def shown(self, round_id: int, points: frozenset[str] | set[str]) -> None:
        """The candidate has now read these points: covering them later is no evidence of memory."""
        if points:
            self.record(round_id, "shown", points=sorted(points))

    # ── moving on without a grade ────────────────────────────────────────────────────────────────
    def skip(self) -> None:
        """Leave the open question unscored; a skipped follow-up leaves the grade of its question as it is."""
        prompt = self.current()
        if prompt is None:
            return
        if prompt.kind == "retry":
            self.store.set_status(prompt.turn.id, "skipped")
            return
        merged = prompt.round.merged
        cards = (
            self._cards(prompt.round, merged, self.store.turns(prompt.round.id)[0].grade) if merged else []
        )
        self.record(prompt.round.id, "skip")
        self.store.settle(prompt.round.id, merged, "done" if merged else "skipped", cards, self.clock())

    def postpone(self) -> None:
        """Go on although the last answer could not be graded; it stays gradable from the history."""
        turn = self.waiting
        if turn is not None:
            self.store.set_status(turn.id, "deferred")
            round_ = self.store.round(turn.round)
            self.store.settle(round_.id, round_.merged, "done", [], self.clock())

    def give_up(self) -> bool:
        """不会: True when the round closes — the second time at this prompt — and its open points come back soon."""
        prompt = self.current()
        if prompt is None:
            return True
        tries = [e for e in self.store.events(self.id, prompt.round.id) if e.kind == "gave_up"]
        self.record(prompt.round.id, "gave_up", turn=prompt.turn.id)
        if prompt.kind == "retry" or any(e.data.get("turn") == prompt.turn.id for e in tries):
            self._give_up(prompt)
            return True
        return False

    def _give_up(self, prompt: Prompt) -> None:
        if prompt.kind != "question":
            self.skip()
            return
        # The candidate said so: the surest verdict there is. No score is made of it.
        known, now = self._known(prompt.round.question), self.clock()
        question = prompt.round.question
        cards = [
            (schedule.review(question, p.id, p.text, schedule.AGAIN, known.get(p.id), now), schedule.AGAIN)
            for p in question.rubric
        ]
        self.store.settle(prompt.round.id, None, "skipped", cards, now)

    def adjust(self, step: int) -> int:
        """Harder (+1) or easier (−1) from the next question on; returns the difficulty aimed at, 1–5."""
        last = self.store.last_round(self.id)
        base = self.config.get("difficulty_now") or (last.question.difficulty if last else 3)
        self.config["difficulty_now"] = min(5, max(1, base + step))
        self.store.configure(self.id, self.config)
        return int(self.config["difficulty_now"])

    def end(self) -> None:
        """The interview is over. A round with a grade is settled, so that its points are scheduled."""
        last = self.store.last_round(self.id)
        if last and last.state == "open" and self.waiting is None:
            merged = last.merged
            cards = self._cards(last, merged, self.store.turns(last.id)[0].grade) if merged else []
            self.store.settle(last.id, merged, "done" if merged else "left", cards, self.clock())
        self.store.end(self.id, self.clock())
        self.ended = True

    def reviewed(self) -> RoundRow:
        """The newest round that has a grade: what /why, /source, /answer, /retry and /dispute are about."""
        for round_ in reversed(self.store.rounds(self.id)[-3:]):
            if round_.merged:
                return round_
        raise NothingGraded

    def cost(self) -> Usage:
        """Usage of every grade of this interview."""
        total = Usage()
        for round_ in self.store.rounds(self.id):
            for turn in self.store.turns(round_.id):
                total += turn.grade.usage if turn.grade else Usage()
        return total

    def record(self, round_id: int | None, kind: str, **data: Any) -> None:
        self.store.record(self.id, round_id, self.clock(), kind, data)


def _merged_retry(before: Grade, own: Grade) -> Grade:
    """Best verdict per point; pitfalls are those of the newest attempt, which is what the candidate now says."""
    if own.score is None:
        return before
    verdicts = merge(before.verdicts, own.verdicts)
    return before.model_copy(
        update={
            "verdicts": verdicts,
            "pitfalls": own.pitfalls,
            "score": score(verdicts, own.pitfalls),
            "usage": before.usage + own.usage,
        }
    )
