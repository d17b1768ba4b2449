"""The chat by its whole transcript: what is typed, what is printed, what is stored."""

from __future__ import annotations

import io
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.cells import cell_len

from coach.messages import CATALOGUE
from coach.practice.store import Store

ROOT = Path(__file__).resolve().parent.parent
QUESTION = "attention-scaling-sqrt-dk"
HALF = "各分量独立且均值 0、方差 1 时，q 与 k 的点积方差等于 d_k"
FULL = (
    HALF + "。点积分数过大会使 softmax 饱和，接近 one-hot。softmax 饱和时梯度趋近于 0，训练困难。"
    "除以 √d_k 后分数的方差恢复到 1 左右。"
)


def environment(home: Path, **env: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COACH_", "OPENAI_", "PRACTICE_"))}
    return {
        **kept, "COACH_HOME": str(home), "COACH_LLM": "x", "COACH_BASE_URL": "http://127.0.0.1:9",
        "COLUMNS": "80", "PYTHONPATH": str(ROOT), "TERM": "xterm", **env,
    }  # fmt: skip


def coach(home: Path, *args: str, typed: str | bytes = "", **env: str) -> subprocess.CompletedProcess[str]:
    data = typed.encode() if isinstance(typed, str) else typed
    done = subprocess.run(
        [sys.executable, "-m", "tests.practice_app", *args],
        input=data, capture_output=True, timeout=120, env=environment(home, **env), cwd=home,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def start(*extra: str) -> list[str]:
    return ["practice", "--id", QUESTION, "--seed", "1", *extra]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_a_whole_round_through_a_pipe(home: Path) -> None:
    typed = f"{HALF}\n.\n/why 1\n/answer\n没想清楚，分布更平\n.\n/retry\n{FULL}\n.\n/cost\n/note 复习饱和\n/quit\n"
    done = coach(home, *start(), typed=typed)
    assert done.returncode == 0, done.stderr
    out = done.stdout
    # feedback: verdicts with evidence, a score that can be added up again, the smallest fix, then the follow-up
    assert re.search(r"1 ✔ 3/3", out) and "（追问里见）" in out and "「" in out
    value, terms, total = re.search(r"得分 (\d+) ± \d+ = 100 × \(([\d. +]+)\) ÷ (\d+)", out).groups()
    assert round(100 * sum(map(float, terms.split("+"))) / float(total)) == int(value) == 33
    before, after = map(int, re.search(r"最小改动.*?(\d+) → (\d+)", out).groups())
    assert before == 33 < after
    assert out.index("最小改动") < out.index("追问  ")
    assert "概率 0.98" in out and "参考答案" in out and "本题累计" in out
    assert "重答 33 → 100，转绿：2 " in out and "次调用" in out and "本场小结" in out
    assert all(cell_len(line) <= 80 for line in out.splitlines())
    shown = coach(home, "history", "1").stdout
    assert HALF[:20] in shown and "没想清楚" in shown and "✎ 复习饱和" in shown
    stored = json.loads(coach(home, "history", "1", "--json").stdout)
    assert [t["status"] for t in stored["rounds"][0]["turns"]] == ["graded", "graded", "skipped", "graded"]


def test_what_the_follow_up_asks_for_is_not_given_away(home: Path) -> None:
    out = coach(home, *start(), typed=f"{HALF}\n.\n/quit\n").stdout
    before_follow_up = out[: out.index("追问  ")]
    assert "方差恢复到 1 左右" not in before_follow_up


def test_intents_are_understood_and_never_graded(home: Path) -> None:
    typed = "再说一遍\n.\n能给点提示吗？\n.\n不会\n.\n不会\n.\n跳过\n.\n退出\n.\n"
    done = coach(home, *start(), typed=typed)
    out = done.stdout
    assert done.returncode == 0 and not re.search(r"得分 \d", out)
    assert out.count("为什么要除以") == 3  # asked, repeated, and in the summary
    assert out.count("提示  ") == 2 and "这题先放下" in out and "跳过，不计分" in out
    with sqlite3.connect(home / "interviews.sqlite") as db:
        assert {r for (r,) in db.execute("SELECT rating FROM reviews")} == {1}
        assert db.execute("SELECT count(*) FROM turns WHERE grade IS NOT NULL").fetchone() == (0,)
    db.close()


def test_nothing_is_revealed_before_an_attempt(home: Path) -> None:
    out = coach(home, *start(), typed="/why 1\n/answer\n/source\n/retry\n/dispute 1\n/quit\n").stdout
    assert out.count("还没有评分") == 5 and "方差等于" not in out


def test_pressure_says_nothing_until_the_end(home: Path) -> None:
    typed = f"{HALF}\n.\n/hint\n/answer\n更平了\n.\n/skip\n/quit\n"
    out = coach(home, *start("--pressure", "--follow-ups", "2"), typed=typed).stdout
    during, end = out.split("本场小结")[0], out
    assert during.count("我们继续") == 2
    assert out.index("得分") > out.index("追问") and out.count("得分") == 1 and "✔ 3/3" in end
    last_prompt = out.rindex("问题 2  ")
    assert "✔" not in out[:last_prompt]


def test_a_dispute_is_judged_again_and_stored(home: Path) -> None:
    typed = f"{HALF}\n.\n/dispute 2 我觉得我说到了\n/quit\n"
    out = coach(home, *start(), typed=typed).stdout
    assert "三票：缺 / 缺 / 缺" in out and "维持原判" in out
    events = json.loads(coach(home, "history", "1", "--json").stdout)["events"]
    dispute = next(e for e in events if e["kind"] == "dispute")
    assert dispute["view"] == "我觉得我说到了" and dispute["votes"] == ["missing"] * 3


def test_a_wrong_command_says_which_exist(home: Path) -> None:
    out = coach(home, *start(), typed="/hnt\n.\n/why\n/guess abc\n/guess 50\n" + f"{HALF}\n.\n/quit\n").stdout
    assert (
        "没有 /hnt 这个命令（/hint）" in out
        and "/why 后面要写内容" in out
        and "0 到 100" in out
        and "自评 50，差 +17" in out
    )
    progress = json.loads(coach(home, "progress", "--json").stdout)
    assert progress["guess_bias"] == pytest.approx(50 - 100 * 3 / 9, abs=0.1)


def test_bad_input_on_the_pipe_names_the_line(home: Path) -> None:
    done = coach(home, *start(), typed="好\n".encode() + "问题".encode("gb18030") + b"\n.\n")
    assert done.returncode == 2 and "standard input:2: not UTF-8" in done.stderr
    done = coach(home, *start(), typed="字" * 20001 + "\n.\n/quit\n")
    assert done.returncode == 0 and "20,000" in done.stdout


def test_english_has_the_same_keys_and_placeholders(home: Path) -> None:
    fields = lambda text: set(re.findall(r"{(\w+)", text))  # noqa: E731
    zh, en = CATALOGUE["zh"], CATALOGUE["en"]
    assert zh.keys() == en.keys()
    assert {k: fields(v) for k, v in zh.items()} == {k: fields(v) for k, v in en.items()}
    out = coach(home, *start("--lang", "en"), typed="I don't know\n.\n/help\n/quit\n").stdout
    assert "Question 1" in out and "Hint" in out and "ask for a hint" in out


# ── nothing is lost ──────────────────────────────────────────────────────────────────────────────
def test_an_endpoint_that_drops_keeps_the_answer(home: Path) -> None:
    done = coach(home, *start(), typed=f"{HALF}\n.\n/regrade\n", PRACTICE_FAKE="down:0")
    assert done.returncode == 5 and done.stdout.count("评分没有完成") == 2 and "得分" not in done.stdout
    done = coach(home, "practice", "--continue", typed="/quit\n")
    assert done.returncode == 0 and "得分 33" in done.stdout


def test_an_ungraded_answer_is_graded_later_from_the_history(home: Path) -> None:
    done = coach(home, *start(), typed=f"{HALF}\n.\n/skip\n/quit\n", PRACTICE_FAKE="down:0")
    assert done.returncode == 0 and "得分" not in done.stdout
    assert "未评分" in coach(home, "history", "1").stdout
    failed = coach(home, "history", "1", "--regrade", PRACTICE_FAKE="down:0")
    assert failed.returncode == 5 and "剩 1 个" in failed.stdout
    again = coach(home, "history", "1", "--regrade").stdout
    assert "已补评 1 个回答" in again and "得分 33" in again


def test_continue_goes_on_with_the_open_question_and_its_past(home: Path) -> None:
    command = [sys.executable, "-m", "tests.practice_app", *start()]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(home), cwd=home
    )
    assert process.stdin and process.stdout
    process.stdin.write(f"{HALF}\n.\n".encode())
    process.stdin.flush()
    seen = b""
    while "追问  ".encode() not in seen:
        seen += process.stdout.readline()
    other = coach(home, "practice", "--continue")
    assert other.returncode == 2 and "open in another window" in other.stderr
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    done = coach(home, "practice", "--continue", typed="更平\n.\n/quit\n")
    assert done.returncode == 0 and "本题累计" in done.stdout and "问题 1" not in done.stdout
    assert coach(home, "practice", "--continue").returncode == 2
    assert "leave the other options out" in coach(home, "practice", "--continue", "--due").stderr


SCRIPT = [f"回答{n}：{HALF}" if n % 3 else f"回答{n}：{FULL}" for n in range(1, 7)]


def _answers(home: Path) -> list[str]:
    store = Store(home / "interviews.sqlite")
    try:
        return [t.answer for r in store.rounds(1) for t in store.turns(r.id) if t.answer is not None]
    finally:
        store.close()


def test_kill_9_at_random_moments_loses_no_turn_and_doubles_none(home: Path) -> None:
    """Every process is killed after a random time; the next one is fed what the store does not have yet."""
    rng = random.Random(int(os.environ.get("KILL_SEED", "0")))
    args, kills = start("--follow-ups", "1"), 0
    while kills < int(os.environ.get("KILLS", "4")):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.practice_app", *args],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env=environment(home, PRACTICE_SLOW="0.05"), cwd=home,
        )  # fmt: skip
        assert process.stdin
        had = len(_answers(home)) if (home / "interviews.sqlite").exists() else 0
        process.stdin.write("".join(f"{a}\n.\n" for a in SCRIPT[had:]).encode())
        process.stdin.flush()
        time.sleep(rng.uniform(0.5, 2.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdin.close()
        kills += 1
        if (home / "interviews.sqlite").exists():
            answers = _answers(home)
            assert answers == SCRIPT[: len(answers)]
            store = Store(home / "interviews.sqlite")
            if store.interviews():
                args = ["practice", "--continue"]
            store.close()
    had = len(_answers(home))
    done = coach(home, *args, typed="".join(f"{a}\n.\n" for a in SCRIPT[had:]) + "/quit\n")
    assert done.returncode == 0, done.stderr
    assert _answers(home) == SCRIPT
    with sqlite3.connect(home / "interviews.sqlite") as db:
        assert db.execute(
            "SELECT count(*) FROM turns WHERE answer IS NOT NULL AND grade IS NULL"
        ).fetchone() == (0,)
        assert db.execute("SELECT count(*) FROM interviews").fetchone() == (1,)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()


def test_two_practices_at_once_on_one_store(home: Path) -> None:
    run = lambda: subprocess.Popen(  # noqa: E731
        [sys.executable, "-m", "tests.practice_app", *start("--follow-ups", "0")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(home), cwd=home,
    )  # fmt: skip
    both = [run(), run()]
    typed = (f"{HALF}\n.\n" * 4 + "/quit\n").encode()
    for process in both:
        out, err = process.communicate(typed, timeout=120)
        assert process.returncode == 0, err.decode()
        assert out.decode().count("得分") == 4
    rows = json.loads(coach(home, "history", "--json").stdout)
    assert [r["questions"] for r in rows] == [4, 4]


def test_the_reader_on_a_pipe() -> None:
    from coach.cli.terminal import PipeReader

    reader = PipeReader(io.BytesIO("\ufeff第一行\n第二行\n.\n/hint\n/home/x 是路径\n最后".encode()))
    assert [reader.read() for _ in range(4)] == ["第一行\n第二行", "/hint", "/home/x 是路径\n最后", None]
