"""What every command needs: settings, a console, a progress bar, an answer from wherever it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import typer

from coach.config import MAX_ANSWER_CHARS
from coach.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from coach.config import Settings

LANG = typer.Option(None, "--lang", help="zh or en; COACH_LANG says it for good.")


def settings() -> Settings:
    from coach.config import load_settings

    return load_settings()


def console(stream: TextIO | None = None) -> Console:
    from rich.console import Console

    return Console(file=stream or sys.stdout, highlight=False, soft_wrap=False, emoji=False, markup=False)


@contextmanager
def progress(description: str, unit: str = "") -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr that appears with the first call of the yielded `report(done, total)`."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    count = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        count,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    task = None

    def report(done: int, total: int) -> None:
        nonlocal task
        if task is None:
            bar.start()
            task = bar.add_task(description, total=total)
        bar.update(task, completed=done)

    try:
        yield report
    finally:
        bar.stop()


def read_answer(argument: str | None, file: Path | None) -> str:
    """The answer from an argument, a file or standard input. UsageError for binary or wrongly encoded input."""
    if argument is not None and file is not None:
        raise UsageError("give the answer once: as an argument, with --file, or on standard input")
    if file is not None:
        try:
            return decode(file.read_bytes(), str(file))
        except OSError as e:
            raise UsageError(f"{file}: {e.strerror or e}") from e
    if argument is not None and argument != "-":
        return argument
    if argument is None and sys.stdin.isatty():
        raise UsageError(
            "there is no answer", "give it as an argument, with --file, or on standard input (-)"
        )
    return decode(sys.stdin.buffer.read(MAX_ANSWER_CHARS * 8), "standard input")


def decode(data: bytes, name: str) -> str:
    if b"\0" in data:
        raise UsageError(f"{name} is a binary file, not an answer")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise UsageError(f"{name}:{line}: not UTF-8 (byte {e.start})", "save the answer as UTF-8") from e
