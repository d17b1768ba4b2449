"""Help during an interview: hints, a second attempt, the evidence behind a verdict, and a dispute.

Whatever gives something away is recorded, so that the schedule knows what was remembered and what was read.
"""

from __future__ import annotations

from dataclasses import dataclass

from coach.domain import Grade, Passage, Status, Verdict
from coach.messages import Refused
from coach.practice import coaching, schedule
from coach.practice.interview import Interview, Prompt
from coach.practice.rows import RoundRow
from coach.score import score


@dataclass(frozen=True, slots=True)
class Dispute:
    """`votes` are statuses, the disputed one first; `changed` when the majority disagrees with it."""

    before: Verdict
    after: Verdict
    votes: tuple[Status, ...]
    changed: bool
    merged: Grade


def hint(interview: Interview) -> coaching.Hint:
    prompt = interview.current()
    if prompt is None:
        raise Refused("over")
    question, merged, follow_up = prompt.round.question, prompt.round.merged, prompt.turn.follow_up
    if follow_up and follow_up.rubric:
        left = list(follow_up.rubric)
        aimed = set(follow_up.targets)
    else:
        covered = {v.point_id for v in merged.verdicts if v.status is Status.COVERED} if merged else set()
        left, aimed = [p for p in question.rubric if p.id not in covered], set()
    events = interview.store.events(interview.id, prompt.round.id)
    given = sum(1 for e in events if e.kind == "hint" and e.data.get("turn") == prompt.turn.id)
    found = coaching.hint(question, left, given + 1 if follow_up else given)
    # A direction helps with everything that is open; a cloze with one point.
    points = {found.point} | aimed if found.point else {p.id for p in left}
    said = found.text or " ".join(found.headings)
    interview.record(prompt.round.id, "hint", turn=prompt.turn.id, points=sorted(points), text=said)
    return found


def retry(interview: Interview) -> Prompt:
    """Ask the last graded question once more. Refused before there is one."""
    round_ = interview.reviewed()
    turns = interview.store.turns(round_.id)
    if any(t.status == "asked" and t.attempt > 1 for t in turns):
        raise Refused("retry_open")
    attempt = 1 + max(t.attempt for t in turns)
    turn = interview.store.ask(round_.id, None, round_.question.question, interview.clock(), attempt)
    return interview.prompt(round_, turn)


def find_verdict(interview: Interview, ref: str) -> tuple[RoundRow, Verdict]:
    """A verdict of the last graded question by number as printed, id, or beginning of the id."""
    round_ = interview.reviewed()
    assert round_.merged is not None
    verdicts = round_.merged.verdicts
    if ref.isdecimal() and 1 <= int(ref) <= len(verdicts):
        found = [verdicts[int(ref) - 1]]
    else:
        found = [v for v in verdicts if v.point_id == ref] or [
            v for v in verdicts if v.point_id.startswith(ref)
        ]
    if len(found) != 1:
        ids = ", ".join(f"{i} {v.point_id}" for i, v in enumerate(verdicts, 1))
        raise Refused("no_point", ids, ref=ref)
    interview.shown(round_.id, {found[0].point_id})
    return round_, found[0]


def passages(interview: Interview) -> tuple[Passage, ...]:
    round_ = interview.reviewed()
    assert round_.merged is not None
    interview.shown(round_.id, {p.id for p in round_.question.rubric})
    return round_.merged.passages


def reference(interview: Interview) -> str:
    """The reference answer of the last graded question: never before an attempt."""
    round_ = interview.reviewed()
    interview.shown(round_.id, {p.id for p in round_.question.rubric})
    return round_.question.reference


def dispute(interview: Interview, ref: str, view: str = "") -> Dispute:
    """Judge one point twice more — alone, and with the rubric reversed — and let the majority of three decide.

    Outcome and the candidate's view are stored. Either way the point no longer moves the schedule.
    """
    round_, old = find_verdict(interview, ref)
    assert round_.merged is not None
    merged, question = round_.merged, round_.question
    point = next(p for p in question.rubric if p.id == old.point_id)
    text = "\n".join(t.answer for t in interview.store.turns(round_.id) if t.answer and t.grade)
    alone = question.model_copy(update={"rubric": (point,), "pitfalls": (), "follow_ups": ()})
    reversed_ = alone.model_copy(update={"rubric": tuple(reversed(question.rubric))})
    grader = interview.grader()
    again = [
        next(v for v in grader.grade(q, text, follow_up=False).verdicts if v.point_id == point.id)
        for q in (alone, reversed_)
    ]
    votes = (old.status, *(v.status for v in again))
    readable = [s for s in votes if s is not Status.UNJUDGED]
    winner = next((s for s in readable if readable.count(s) * 2 > len(votes)), old.status)
    new = old if winner is old.status else next(v for v in again if v.status is winner)
    changed = new is not old
    if changed:
        new = new.model_copy(update={"citation": new.citation or old.citation})
        verdicts = tuple(new if v.point_id == point.id else v for v in merged.verdicts)
        merged = merged.model_copy(update={"verdicts": verdicts, "score": score(verdicts, merged.pitfalls)})
        interview.store.settle(round_.id, merged, round_.state, [], interview.clock())
    interview.record(
        round_.id, "dispute", points=[point.id], votes=[v.value for v in votes],
        before=old.status.value, after=new.status.value, view=view,
    )  # fmt: skip
    interview.store.unreview(round_.id, question.id, point.id, schedule.due_of)
    return Dispute(old, new, votes, changed, merged)


def note(interview: Interview, text: str) -> None:
    last = interview.store.last_round(interview.id)
    interview.record(last.id if last else None, "note", text=text)
