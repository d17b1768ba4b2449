"""The chat in a real pseudo-terminal: keys in, the screen out (drawn by pyte, a terminal emulator)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_practice_chat import FULL, HALF, ROOT, environment, start

pexpect = pytest.importorskip("pexpect")
pyte = pytest.importorskip("pyte")

SEND = "\x1b\r"  # Alt+Enter
BACKSPACE, LEFT = "\x7f", "\x1b[D"
WIDTH, HEIGHT = 80, 50


class Terminal:
    def __init__(self, home: Path, *args: str, **env: str) -> None:
        self._screen = pyte.HistoryScreen(WIDTH, HEIGHT, history=2000)
        self._stream = pyte.Stream(self._screen)
        self.process = pexpect.spawn(
            sys.executable, ["-m", "tests.practice_app", *args], env=environment(home, **env), cwd=str(ROOT),
            dimensions=(HEIGHT, WIDTH), encoding="utf8", timeout=30,
        )  # fmt: skip
        self.process.logfile_read = self

    def write(self, text: str) -> None:
        self._stream.feed(text)
        # prompt_toolkit asks where the cursor is and draws its menu below it
        if "\x1b[6n" in text:
            self.process.send(f"\x1b[{self._screen.cursor.y + 1};{self._screen.cursor.x + 1}R")

    def flush(self) -> None:
        pass

    def wait(self, text: str) -> None:
        self.process.expect_exact(text)

    def settle(self) -> None:
        """Until there is a prompt and nothing more is drawn."""
        for _ in range(40):
            try:
                while True:
                    self.process.read_nonblocking(4096, timeout=0.5)
            except pexpect.EOF:
                return
            except pexpect.TIMEOUT:
                if "> " in self.screen:
                    return

    def until(self, there: str = "", gone: str = "") -> None:
        """Read until `there` is on the screen and no character of `gone` is; a busy machine may take its time."""
        for _ in range(60):
            self.settle()
            if there in self.screen and not any(c in self.screen for c in gone):
                return
        raise AssertionError(f"wanted {there!r} without {gone!r} on the screen:\n{self.screen}")

    @property
    def screen(self) -> str:
        """The visible lines; the blank second cell of a wide character is left out."""
        return "\n".join(self._screen.display).replace("\u3000", " ")

    def send(self, keys: str) -> None:
        self.process.send(keys)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "home").mkdir()
    yield tmp_path / "home"


def test_chinese_is_typed_deleted_pasted_sent_and_graded(home: Path) -> None:
    terminal = Terminal(home, *start())
    terminal.settle()
    assert "问题 1" in terminal.screen and "Alt+Enter" in terminal.screen
    terminal.send("饱和魑魅")
    terminal.until("> 饱和魑魅")
    terminal.send(BACKSPACE * 2)
    terminal.until("> 饱和", gone="魑魅")  # a ghost would still be on the screen
    terminal.send(LEFT + "中间")
    terminal.until("> 饱中间和")
    terminal.send(BACKSPACE * 2 + "\x1b[C" + "\r")  # back to 饱和, then a new line
    terminal.send(f"\x1b[200~{HALF}\r第二段\x1b[201~")  # bracketed paste with a line break must not send
    terminal.until("第二段")
    assert "得分" not in terminal.screen
    terminal.send(SEND)
    terminal.wait("追问")
    terminal.settle()
    assert "得分 33" in terminal.screen and "最小改动" in terminal.screen
    terminal.send("/ret")
    terminal.until("/retry")  # completion
    terminal.send("ry\r")  # Enter sends a command
    terminal.wait("重答 问题 1")
    terminal.settle()
    terminal.send(FULL + "\x04")  # Ctrl+D sends, too
    terminal.wait("重答 33 → 100")
    terminal.settle()
    terminal.send("/quit\r")
    terminal.wait("本场小结")
    terminal.process.expect(pexpect.EOF)
    terminal.process.close()
    assert terminal.process.exitstatus == 0
    from coach.practice.store import Store

    store = Store(home / "interviews.sqlite")
    answers = [t.answer for t in store.turns(1) if t.answer]
    store.close()
    assert answers == [f"饱和\n{HALF}\n第二段", FULL]


def test_ctrl_c_keeps_the_draft_and_continue_brings_it_back(home: Path) -> None:
    terminal = Terminal(home, *start())
    terminal.settle()
    terminal.send("写到一半的回答")
    terminal.settle()
    terminal.send("\x03")
    terminal.wait("--continue")
    terminal.process.expect(pexpect.EOF)
    terminal.process.close()
    assert terminal.process.exitstatus == 130
    again = Terminal(home, "practice", "--continue")
    again.settle()
    assert "> 写到一半的回答" in again.screen and "草稿" in again.screen
    again.send("\x03")
    again.process.expect(pexpect.EOF)
    again.process.close()


def test_ctrl_c_while_grading_keeps_the_answer(home: Path) -> None:
    terminal = Terminal(home, *start(), PRACTICE_SLOW="30")
    terminal.settle()
    terminal.send(HALF + SEND)
    terminal.wait("回答已保存")
    terminal.send("\x03")
    terminal.process.expect(pexpect.EOF)
    terminal.process.close()
    assert terminal.process.exitstatus == 130
    again = Terminal(home, "practice", "--continue")
    again.wait("得分")
    again.settle()
    again.send("\x03")
    again.process.expect(pexpect.EOF)
    again.process.close()


def test_the_start_screen_offers_and_editor_fills_the_input(home: Path) -> None:
    editor = home / "editor.sh"
    editor.write_text('#!/bin/sh\nprintf "编辑器里写的" > "$1"\n', encoding="utf8")
    editor.chmod(0o755)
    terminal = Terminal(home, "practice", "--seed", "1", EDITOR=str(editor))
    terminal.wait("做什么？")
    terminal.settle()
    terminal.send("t 没有的主题\r")
    terminal.wait("没看懂")
    terminal.settle()
    terminal.send("t peft-lora\r")
    terminal.wait("问题 1")
    terminal.settle()
    assert "peft-lora" in terminal.screen
    terminal.send("/edit\r")
    terminal.wait("编辑器里写的")
    terminal.send("\x03")
    terminal.process.expect(pexpect.EOF)
    terminal.process.close()


OWN = """- id: own-cache
  question: 缓存为什么能加速解码？
  kind: concept
  topic: mine
  rubric:
    - {id: stored, point: 键和值存下来复用}
    - {id: memory, point: 显存随序列长度增长}
"""


def test_while_a_follow_up_is_made_the_screen_says_so_and_shows_none_of_it(home: Path) -> None:
    (home / "bank").mkdir()
    (home / "bank" / "own.yaml").write_text(OWN, encoding="utf8")  # no follow-ups: one has to be generated
    terminal = Terminal(home, "practice", "--id", "own-cache", PRACTICE_THINK="2")
    terminal.settle()
    terminal.send("键和值存下来复用" + SEND)
    terminal.wait("正在想追问")
    assert "追问  " not in terminal.screen and "得分" not in terminal.screen
    terminal.until("追问  ")
    assert "正在想追问" not in terminal.screen and "得分 50" in terminal.screen
    terminal.send("\x03")
    terminal.process.expect(pexpect.EOF)
    terminal.process.close()


def test_the_start_screen_lists_completes_and_can_be_left(home: Path) -> None:
    terminal = Terminal(home, "practice", "--seed", "1", "--lang", "en")
    terminal.wait("What next?")
    terminal.settle()
    assert "m first|second|HR" in terminal.screen
    terminal.send("c\r")
    terminal.wait("companies: ")
    terminal.settle()
    terminal.send("m sec")
    terminal.until("m second")  # the menu; a Tab pressed while it is being made would be lost
    terminal.send("\t")
    terminal.until("> m second")
    terminal.send("\x15\x04")  # the line is cleared, then Ctrl+D
    terminal.process.expect(pexpect.EOF)
    terminal.process.close()
    assert terminal.process.exitstatus == 130
    from coach.practice.store import Store

    store = Store(home / "interviews.sqlite")
    assert not store.interviews()
    store.close()
