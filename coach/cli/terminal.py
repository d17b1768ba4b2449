"""Where answers come from: a terminal with multi-line editing (prompt_toolkit), or a pipe with a scripted transcript.

Both read one *entry*: an answer, or a slash command. On a pipe a line with only `.` ends an answer, a line that starts
with a slash is an entry of its own, and the end of input sends what is there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from coach.errors import UsageError
from coach.messages import Refused
from coach.practice.commands import COMMANDS

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession


class Interrupted(KeyboardInterrupt):
    """Ctrl-C at the prompt. `draft` is what was typed so far."""

    def __init__(self, draft: str) -> None:
        super().__init__()
        self.draft = draft


class Reader(Protocol):
    interactive: bool

    def read(self, default: str = "") -> str | None:
        """One entry; None at the end of input. `default` is put into the input where there is one to edit."""

    def line(self, words: Sequence[str] = ()) -> str | None:
        """One line; None at the end of input. Tab completes `words` where there is a terminal."""


class PipeReader:
    """UsageError naming the line for bytes that are no UTF-8."""

    interactive = False

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream or sys.stdin.buffer
        self._number = 0

    def line(self, words: Sequence[str] = ()) -> str | None:
        data = self._stream.readline()
        if not data:
            return None
        self._number += 1
        if b"\0" in data:
            raise UsageError(f"standard input:{self._number}: binary data, not an answer")
        try:
            text = data.decode("utf-8-sig" if self._number == 1 else "utf8")
        except UnicodeDecodeError as e:
            raise UsageError(
                f"standard input:{self._number}: not UTF-8 (byte {e.start})", "save the transcript as UTF-8"
            ) from e
        return text.rstrip("\r\n")

    def read(self, default: str = "") -> str | None:
        lines: list[str] = []
        while True:
            line = self.line()
            if line is None:
                return "\n".join(lines) if lines else None
            if line.strip() == ".":
                return "\n".join(lines)
            if not lines and line.startswith("/") and line[1:].split(" ")[0] in COMMANDS:
                return line
            lines.append(line)


class TerminalReader:
    """Enter is a newline, Alt+Enter or Ctrl+D sends; a one-line slash command is sent by Enter."""

    interactive = True

    def __init__(self, history: Path, toolbar: Callable[[], str], describe: Callable[[str], str]) -> None:
        history.parent.mkdir(parents=True, exist_ok=True)
        self._history = history
        self._toolbar = toolbar
        self._describe = describe
        self._session: PromptSession[str] | None = None

    def _open(self) -> PromptSession[str]:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import CompleteEvent, Completer, Completion
        from prompt_toolkit.document import Document
        from prompt_toolkit.history import FileHistory
        from prompt_toolkit.key_binding import KeyBindings

        describe = self._describe

        class Slash(Completer):
            def get_completions(self, document: Document, event: CompleteEvent) -> Any:
                text = document.text
                if text.startswith("/") and " " not in text and "\n" not in text:
                    for name in COMMANDS:
                        if name.startswith(text[1:].lower()):
                            yield Completion(f"/{name}", -len(text), display_meta=describe(name))

        keys = KeyBindings()

        def send(event: Any) -> None:
            event.current_buffer.validate_and_handle()

        @keys.add("enter")
        def _enter(event: Any) -> None:
            text = event.current_buffer.text
            command = text.strip()[1:].split(" ")[0] if text.startswith("/") and "\n" not in text else None
            if command in COMMANDS:
                send(event)
            else:
                event.current_buffer.insert_text("\n")

        keys.add("escape", "enter")(send)

        @keys.add("c-d")
        def _end(event: Any) -> None:
            if event.current_buffer.text.strip():
                send(event)
            else:
                event.app.exit(exception=EOFError)

        return PromptSession(
            multiline=True,
            key_bindings=keys,
            history=FileHistory(str(self._history)),
            completer=Slash(),
            complete_while_typing=True,
            bottom_toolbar=self._toolbar,
            prompt_continuation="  ",
        )

    def read(self, default: str = "") -> str | None:
        self._session = self._session or self._open()
        try:
            return self._session.prompt("> ", default=default)
        except EOFError:
            return None
        except KeyboardInterrupt:
            raise Interrupted(self._session.default_buffer.text) from None

    def line(self, words: Sequence[str] = ()) -> str | None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import WordCompleter

        try:
            return PromptSession[str](completer=WordCompleter(list(words), sentence=True)).prompt("> ")
        except EOFError:
            return None


def edit(text: str) -> str | None:
    """The text after the user's editor; None when it was left unsaved. Refused when there is no editor to start."""
    import os
    import shlex
    import subprocess
    import tempfile

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answer.md"
        path.write_text(text, encoding="utf8")
        before = path.stat().st_mtime_ns
        try:
            done = subprocess.run([*shlex.split(editor), str(path)], check=False)
        except OSError as e:
            raise Refused("no_editor", editor=editor, error=e.strerror) from e
        if done.returncode or path.stat().st_mtime_ns == before:
            return None
        return path.read_text(encoding="utf8").rstrip("\n")
