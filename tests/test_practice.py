"""The interview as a state machine over its store, with a scripted judge and a clock that is told the time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coach.bank import load_bank
from coach.config import Settings, load_settings
from coach.domain import FollowUp, Grade, Question, Status, Verdict
from coach.errors import LLMUnavailable, UsageError
from coach.grade import Grader
from coach.practice import assist, coaching, plan, rows, schedule
from coach.practice.commands import COMMANDS, Call, parse
from coach.practice.intents import classify
from coach.practice.interview import Interview, NothingGraded
from coach.practice.rows import MIGRATIONS
from coach.practice.store import Store
from coach.score import score
from tests.practice_app import WordJudge, make_grader

DAY = 86400.0


def question(n: int, **more: object) -> Question:
    return Question.model_validate(
        {
            "id": f"q{n}",
            "question": f"第 {n} 题：为什么要缩放？",
            "kind": "concept",
            "topic": "t",
            "difficulty": 1 + n % 5,
            "rubric": [
                {"id": "variance", "point": "点积方差等于维度", "weight": 2},
                {"id": "saturate", "point": "饱和使梯度消失", "weight": 1},
            ],
            "pitfalls": [{"id": "explode", "claim": "防止梯度爆炸", "correction": "防的是饱和"}],
            "reference": "点积方差等于维度，数值大了会饱和，饱和使梯度消失。",
            "follow_ups": [
                {"id": "deep", "ask": "方差怎么来的？", "type": "derive", "targets": ["variance"],
                 "rubric": [{"id": "sum", "point": "逐项方差相加"}]},
                {"id": "trap", "ask": "所以是为了防止梯度爆炸吧？", "type": "false_premise", "premise": "缩放防止梯度爆炸",
                 "targets": ["explode"], "rubric": [{"id": "reject", "point": "前提错误，防的是饱和"}]},
            ],
            **more,
        }
    )  # fmt: skip


QUESTIONS = {f"q{n}": question(n) for n in range(1, 6)}
BOTH = "点积方差等于维度，饱和使梯度消失"
CONFIG = {"seed": 3, "pool": list(QUESTIONS), "follow_ups": 2, "manner": "coach"}


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "i.sqlite")
    yield made
    made.close()


@pytest.fixture
def grader(settings: Settings) -> Grader:
    return make_grader(settings)


def begin(store: Store, grader: Grader, clock: Clock, **config: object) -> Interview:
    number = store.begin(clock(), {**CONFIG, **config})
    return Interview(store, number, QUESTIONS, lambda: grader, clock)


def say(interview: Interview, text: str):  # type: ignore[no-untyped-def]
    interview.save(text)
    return interview.grade_waiting()


# ── the round ────────────────────────────────────────────────────────────────────────────────────
def test_a_round_asks_grades_follows_up_and_schedules(store: Store, grader: Grader, clock: Clock) -> None:
    interview = begin(store, grader, clock)
    assert interview.current().kind == "question"
    first = say(interview, "饱和使梯度消失")
    assert first.grade.score.value == pytest.approx(33.3) and not first.over and first.hidden == {"variance"}
    assert interview.current().text == "方差怎么来的？" and not store.cards()
    second = say(interview, "点积方差等于维度，因为逐项方差相加")
    assert second.merged.score.value == 100 and not second.over
    third = say(interview, "不对，这个前提错误，防的是饱和")
    assert third.over and interview.current().kind == "question" and interview.current().number == 2
    rated = {c.point_id: schedule.recall(c, clock() + 3 * DAY) for c in store.cards()}
    assert rated["saturate"] > rated["variance"]  # said at once is remembered better than said when asked


def test_the_asserted_pitfall_comes_first_and_is_not_corrected_before_it_is_asked(
    store: Store, grader: Grader, clock: Clock
) -> None:
    interview = begin(store, grader, clock)
    interview.current()
    outcome = say(interview, "是为了防止梯度爆炸")
    assert interview.current().turn.follow_up.type == "false_premise" and outcome.hidden == {"explode"}


def test_a_follow_up_that_cannot_be_judged_is_not_asked_again(
    store: Store, settings: Settings, clock: Clock
) -> None:
    class Deaf(WordJudge):
        def judge(self, case, on_verdict=None):  # type: ignore[no-untyped-def]
            found = super().judge(case, on_verdict)
            if case.answer != "啊":
                return found
            lost = (v.model_copy(update={"status": Status.UNJUDGED, "quote": None}) for v in found.verdicts)
            return type(found)(tuple(lost), (), found.usage)

    interview = begin(store, make_grader(settings, Deaf()), clock, follow_ups=3)
    interview.current()
    assert not say(interview, "饱和使梯度消失").over
    outcome = say(interview, "啊") if interview.current() else None
    assert outcome.grade.score is None and outcome.over and outcome.merged.score.value == pytest.approx(33.3)
    assert interview.current().kind == "question"


def test_a_generated_follow_up_is_announced_and_one_of_the_bank_is_not(
    grader: Grader, settings: Settings
) -> None:
    announced: list[str] = []
    for follow_ups in (QUESTIONS["q1"].follow_ups, ()):
        asked = QUESTIONS["q1"].model_copy(update={"follow_ups": follow_ups})
        made = grader.grade(
            asked, "饱和使梯度消失", on_asking=lambda f=follow_ups: announced.append("bank" if f else "made")
        )
        assert made.follow_up and made.follow_up.generated == (not follow_ups)
    assert announced == ["made"]


def test_help_lowers_the_rating(store: Store, grader: Grader, clock: Clock) -> None:
    ratings = {}
    for name, config in (("alone", {}), ("hinted", {"seed": 3})):
        interview = begin(store, grader, clock, follow_ups=0, **config)
        interview.current()
        if name == "hinted":
            assist.hint(interview)
        say(interview, BOTH)
        db = sqlite3.connect(store.path)
        ratings[name] = {
            r
            for (r,) in db.execute(
                "SELECT rating FROM reviews WHERE round = ?", (store.last_round(interview.id).id,)
            )
        }
        db.close()
    assert ratings == {"alone": {schedule.GOOD}, "hinted": {schedule.HARD}}


def test_an_unsure_verdict_moves_no_card() -> None:
    def v(status: Status, p: float | None) -> Verdict:
        return Verdict(point_id="a", text="a", weight=1, status=status, probability=p)

    assert schedule.agreed(v(Status.COVERED, 0.9)) and schedule.agreed(v(Status.MISSING, 0.1))
    assert not schedule.agreed(v(Status.COVERED, 0.55)) and not schedule.agreed(v(Status.MISSING, 0.45))
    assert not schedule.agreed(v(Status.UNJUDGED, None))
    seen = {"first": True, "hinted": False, "shown": False}
    assert schedule.rating(v(Status.COVERED, 0.9), **seen) == schedule.GOOD
    assert schedule.rating(v(Status.COVERED, 0.9), **{**seen, "shown": True}) == schedule.AGAIN
    assert schedule.rating(v(Status.MISSING, 0.1), **seen) == schedule.AGAIN
    assert schedule.rating(v(Status.PARTIAL, 0.5), **seen) == schedule.HARD
    assert schedule.rating(v(Status.PARTIAL, 0.25), **seen) == schedule.AGAIN  # a quarter is not recalled


def test_a_retry_keeps_the_best_and_does_not_review_twice(store: Store, grader: Grader, clock: Clock) -> None:
    interview = begin(store, grader, clock, follow_ups=0)
    interview.current()
    say(interview, "饱和使梯度消失")
    due = [c.due for c in store.cards()]
    again = assist.retry(interview)
    assert again.kind == "retry" and interview.current().turn.id == again.turn.id
    with pytest.raises(UsageError, match="already open"):
        assist.retry(interview)
    outcome = say(interview, BOTH)
    assert outcome.before.score.value == pytest.approx(33.3) and outcome.merged.score.value == 100
    assert [c.due for c in store.cards()] == due


def test_a_dispute_with_two_votes_against_it_changes_the_verdict_and_frees_the_card(
    store: Store, grader: Grader, clock: Clock, settings: Settings
) -> None:
    interview = begin(store, grader, clock, follow_ups=0)
    interview.current()
    say(interview, "饱和使梯度消失")
    assert {c.point_id for c in store.cards()} == {"variance", "saturate"}

    class Yes(WordJudge):
        def judge(self, case, on_verdict=None):  # type: ignore[no-untyped-def]
            found = super().judge(case, on_verdict)
            covered = tuple(v.model_copy(update={"status": Status.COVERED}) for v in found.verdicts)
            return type(found)(covered, (), found.usage)

    interview.grader = lambda: make_grader(settings, Yes())
    found = assist.dispute(interview, "1", "说到了")
    assert found.changed and found.votes == (Status.MISSING, Status.COVERED, Status.COVERED)
    assert store.last_round(interview.id).merged.score.value == 100
    assert {c.point_id for c in store.cards()} == {"saturate"}


def test_asking_for_evidence_too_early_or_of_no_point(store: Store, grader: Grader, clock: Clock) -> None:
    interview = begin(store, grader, clock)
    interview.current()
    for call in (assist.retry, assist.reference, assist.passages):
        with pytest.raises(NothingGraded):
            call(interview)
    say(interview, BOTH)
    with pytest.raises(UsageError, match="no single point"):
        assist.find_verdict(interview, "zzz")
    assert assist.find_verdict(interview, "sat")[1].point_id == "saturate"


@pytest.mark.parametrize("back", [-5 * DAY, 0.0, 400 * DAY])
def test_a_clock_that_jumps_loses_nothing(store: Store, grader: Grader, clock: Clock, back: float) -> None:
    interview = begin(store, grader, clock, follow_ups=0, minutes=10)
    for n in range(3):
        assert interview.current().number == n + 1
        say(interview, BOTH)
        clock.now += back if n == 1 else 0
    assert [r.ordinal for r in store.rounds(interview.id)] == [0, 1, 2]
    assert interview.time_left == 600 and all(0 <= schedule.recall(c, clock()) <= 1 for c in store.cards())
    again = begin(store, grader, clock, follow_ups=0)
    again.current()
    say(again, BOTH)
    asked = store.last_round(again.id).question.id
    assert [c.due > clock() for c in store.cards() if c.question_id == asked] == [True, True]


# ── the store ────────────────────────────────────────────────────────────────────────────────────
class Crash(BaseException):
    """The process dies here: nothing catches it."""


class Fragile(Store):
    """Dies at its n-th write: just before the commit, or just after it."""

    left = 10**9
    after = False

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        self.left -= 1
        with super()._write() as db:
            yield db
            if self.left == 0 and not self.after:
                raise Crash
        if self.left == 0:
            raise Crash


def _play(store: Store, grader: Grader, clock: Clock, script: list[str]) -> None:
    """What the chat does: grade what waits, then give the next scripted answer to whatever is open."""
    known = store.interviews()
    number = known[0].id if known else store.begin(clock(), {**CONFIG, "follow_ups": 1})
    interview = Interview(store, number, QUESTIONS, lambda: grader, clock)
    if interview.waiting:
        interview.grade_waiting()
    had = sum(t.answer is not None for r in store.rounds(number) for t in store.turns(r.id))
    for text in script[had:]:
        interview.current()
        say(interview, text)


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_write_loses_no_turn_and_doubles_none(
    tmp_path: Path, grader: Grader, clock: Clock, after: bool
) -> None:
    script = ["饱和使梯度消失", "点积方差等于维度", BOTH, "不知所云的回答"]
    runs = []
    for n in range(1, 40):
        path = tmp_path / f"{n}.sqlite"
        fragile = Fragile(path)
        fragile.left, fragile.after = n, after
        crashed = False
        try:
            _play(fragile, grader, clock, script)
        except Crash:
            crashed = True
        fragile.close()
        store = Store(path)
        _play(store, grader, clock, script)
        turns = [t for r in store.rounds(1) for t in store.turns(r.id)]
        runs.append(
            (
                [t.answer for t in turns if t.answer is not None],
                [t.prompt for t in turns if t.answer is not None],
                [(c.question_id, c.point_id, c.due) for c in store.cards()],
            )
        )
        assert (
            all(t.status == "graded" for t in turns if t.answer is not None) and len(store.interviews()) == 1
        )
        store.close()
        if not crashed:
            break
    assert not crashed and n > 10 and runs[0][0] == script
    assert all(run == runs[-1] for run in runs)


def test_an_answer_survives_a_grader_that_fails(store: Store, grader: Grader, clock: Clock) -> None:
    interview = begin(store, grader, clock)
    interview.current()

    def down() -> Grader:
        raise LLMUnavailable("down")

    interview.grader = down
    interview.save(BOTH)
    with pytest.raises(LLMUnavailable):
        interview.grade_waiting()
    with pytest.raises(UsageError, match="no grade yet"):
        interview.current()
    resumed = Interview(store, interview.id, QUESTIONS, lambda: grader, clock)
    assert resumed.waiting.answer == BOTH and resumed.grade_waiting().merged.score.value == 100


def test_an_older_file_is_migrated_and_keeps_its_rows(tmp_path: Path, grader: Grader, clock: Clock) -> None:
    path = tmp_path / "old.sqlite"
    db = sqlite3.connect(path)
    db.executescript(MIGRATIONS[0] + "PRAGMA user_version = 1;")
    db.execute('INSERT INTO interviews (started, config) VALUES (1, \'{"lang": "zh"}\')')
    db.commit()
    db.close()
    store = Store(path)
    assert store.interview(1).config == {"lang": "zh"}
    opened = store.open_round(1, 0, QUESTIONS["q1"], "", 2.0)
    turn = store.turns(opened.id)[0]
    store.draft(turn.id, "没写完")
    store.close()
    again = Store(path)
    assert again.turn(turn.id).draft == "没写完"
    again.close()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
    assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()
    with pytest.raises(UsageError, match="newer coach"):
        Store(path)


def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bad.sqlite"
    path.write_bytes(b"not a database " * 100)
    with pytest.raises(UsageError, match=r"bad\.sqlite"):
        Store(path)
    assert path.read_bytes().startswith(b"not a database")


def test_a_long_interview_asks_the_store_for_little(
    store: Store, grader: Grader, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work per turn must not grow with the interview: counted in rows read, not in seconds."""
    many = {f"q{n}": question(n) for n in range(1, 202)}
    interview = Interview(
        store,
        store.begin(clock(), {**CONFIG, "pool": list(many), "follow_ups": 0}),
        many,
        lambda: grader,
        clock,
    )
    read = 0
    real = rows.read_round

    def counted(row: sqlite3.Row):  # type: ignore[no-untyped-def]
        nonlocal read
        read += 1
        return real(row)

    per_turn = []
    monkeypatch.setattr("coach.practice.store.read_round", counted)
    for _ in range(200):
        before = read
        interview.current()
        say(interview, BOTH)
        per_turn.append(read - before)
    assert len(store.asked_ids(interview.id)) == 200 and max(per_turn[100:]) <= max(per_turn[:10])


# ── plans ────────────────────────────────────────────────────────────────────────────────────────
def test_a_mock_interview_has_its_stages_in_order_and_no_question_twice() -> None:
    bank = list(load_bank(load_settings({}).knowledge / "questions"))
    for name, mock in plan.MOCKS.items():
        made = plan.mock_plan(name, bank, 5)
        assert made == plan.mock_plan(name, bank, 5) != plan.mock_plan(name, bank, 6)
        ids = [i for _, i in made]
        assert len(set(ids)) == len(ids)
        assert list(dict.fromkeys(s for s, _ in made)) == [s.name for s in mock.stages] + ["反问"]
        assert len(made) == sum(s.count for s in mock.stages) + 1
    with pytest.raises(UsageError, match="no mock interview"):
        plan.mock_name("三面")
    assert [plan.mock_name(n) for n in ("一面", "Second", "hr")] == ["一面", "二面", "HR"]
    kuaishou = plan.mock_plan("一面", bank, 5, "快手")
    by_id = {q.id: q for q in bank}
    assert sum("快手" in by_id[i].companies for _, i in kuaishou) >= 5


def test_out_of_time_leads_to_the_closing_stage_only(store: Store, grader: Grader, clock: Clock) -> None:
    stages = [["八股", "q1"], ["八股", "q2"], ["八股", "q3"], ["反问", "q4"]]
    interview = begin(store, grader, clock, plan=stages, minutes=1)
    interview.current()
    clock.now += 61
    assert say(interview, "饱和使梯度消失").over
    closing = interview.current()
    assert closing.round.question.id == "q4" and closing.round.stage == "反问"
    interview.skip()
    assert interview.current() is None


def test_due_points_bring_their_questions_back(store: Store, grader: Grader, clock: Clock) -> None:
    interview = begin(store, grader, clock, follow_ups=0)
    for text in ("天气很好", BOTH):
        interview.current()
        say(interview, text)
    weak, strong = (r.question.id for r in store.rounds(interview.id))
    assert plan.due_plan(store.cards(clock()), QUESTIONS) == []
    clock.now += 1.1 * DAY
    assert [i for _, i in plan.due_plan(store.cards(clock()), QUESTIONS)] == [weak]
    clock.now += 60 * DAY
    assert {i for _, i in plan.due_plan(store.cards(clock()), QUESTIONS)} == {weak, strong}


def test_harder_and_easier_steer_the_next_question(store: Store, grader: Grader, clock: Clock) -> None:
    interview = begin(store, grader, clock, follow_ups=0)
    now = interview.current().round.question.difficulty
    wanted = interview.adjust(1 if now < 5 else -1)
    interview.skip()
    assert interview.current().round.question.difficulty == wanted


# ── words ────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("不会", "dont_know"), ("嗯，这个我真的不太清楚。", "dont_know"), ("没了解过", "dont_know"), ("I don't know.", "dont_know"),
        ("再说一遍", "repeat"), ("可以再重复一下问题吗？", "repeat"), ("没听清", "repeat"), ("什么意思", "repeat"),
        ("给点提示", "hint"), ("能不能给个提示？", "hint"), ("提示一下", "hint"), ("give me a hint", "hint"),
        ("跳过", "skip"), ("下一题吧", "skip"), ("换一题", "skip"), ("看答案", "reveal"), ("答案是什么？", "reveal"),
        ("退出", "quit"), ("今天就到这里吧", "quit"),
        ("不会梯度爆炸", "answer"), ("模型不知道位置信息", "answer"), ("没有", "answer"), ("会", "answer"), ("", "answer"),
        ("跳过连接让梯度直达浅层", "answer"), ("提示词工程", "answer"), ("不需要重新计算", "answer"), ("过拟合", "answer"),
    ],
)  # fmt: skip
def test_what_a_short_reply_means(text: str, intent: str) -> None:
    assert classify(text) == intent


@given(st.text(max_size=60))
def test_no_text_breaks_intents_or_commands(text: str) -> None:
    assert classify(text) in ("answer", "dont_know", "repeat", "hint", "skip", "reveal", "quit")
    try:
        call = parse(text)
    except UsageError:
        return
    assert call is None or call.name in COMMANDS


@given(st.sampled_from("不会啊嗯这个我真的，。 ").flatmap(lambda c: st.integers(1, 24).map(lambda n: c * n)))
def test_repeated_fillers_are_classified_at_once(text: str) -> None:
    assert classify(text + "x") == "answer"


def test_commands_are_parsed_and_paths_are_not_commands() -> None:
    assert parse("/why  variance ") == Call("why", "variance") and parse("/HELP") == Call("help", "")
    assert (
        parse("/home/x/y.txt 是文件") is None and parse("/why a\nb") is None and parse("答案 /quit") is None
    )
    with pytest.raises(UsageError, match="/dispute needs"):
        parse("/dispute")


# ── help ─────────────────────────────────────────────────────────────────────────────────────────
def _graded(*statuses: Status) -> Grade:
    verdicts = tuple(
        Verdict(point_id=p.id, text=p.text, weight=p.weight, status=s)
        for p, s in zip(QUESTIONS["q1"].rubric, statuses, strict=True)
    )
    return Grade(
        question_id="q1", question="?", answer="x", status="ok", verdicts=verdicts, score=score(verdicts)
    )


def test_the_smallest_fix_is_one_sentence_when_one_turns_everything() -> None:
    fix = coaching.smallest_fix(QUESTIONS["q1"], _graded(Status.MISSING, Status.MISSING))
    assert fix.sentences == ("点积方差等于维度，数值大了会饱和，饱和使梯度消失。",)
    assert fix.points == ("variance", "saturate") and (fix.before, fix.after) == (0, 100)


def test_the_smallest_fix_never_says_what_will_be_asked() -> None:
    grade = _graded(Status.MISSING, Status.MISSING)
    fix = coaching.smallest_fix(QUESTIONS["q1"], grade, {"variance"})
    assert fix.points == ("saturate",) and "方差" not in "".join(fix.sentences)
    assert coaching.smallest_fix(QUESTIONS["q1"], _graded(Status.COVERED, Status.COVERED)) is None
    assert coaching.smallest_fix(QUESTIONS["q1"], grade, {"variance", "saturate"}) is None


def test_no_question_of_the_bank_gets_a_hint_that_states_a_point() -> None:
    bank = list(load_bank(load_settings({}).knowledge / "questions"))[::7]
    for q in bank:
        for so_far in range(3):
            found = coaching.hint(q, q.rubric, so_far)
            claims = [p.point for p in q.rubric if p.point]
            assert not any(c in found.text for c in claims), (q.id, found.text)
            assert (found.point is None) == (so_far == 0)


def test_follow_ups_go_deeper_in_order_and_end_with_the_false_premise(settings: Settings) -> None:
    from coach.followups import choose

    def ups(*types: str) -> tuple[FollowUp, ...]:
        return tuple(
            FollowUp(
                id=t.replace("_", "-"), ask=f"{t}？", type=t, premise="x" if t == "false_premise" else None
            )
            for t in types
        )

    q = QUESTIONS["q1"].model_copy(
        update={"follow_ups": ups("false_premise", "production", "derive", "boundary", "why")}
    )
    asked: list[str] = []
    while chosen := choose(q, _graded(Status.COVERED, Status.COVERED).verdicts, [], asked):
        asked.append(chosen.id)
    assert asked == ["why", "derive", "boundary", "production", "false-premise"]
