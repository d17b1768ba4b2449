"""grades.jsonl: one line per row, appended as rows finish; what is torn is cut off, what is whole is kept.

Durability: every line is handed to the operating system at once, so a killed process loses nothing. `fsync` says
when it reaches the disk: "always" after every line, "interval" (default) at most a second later, "never" when the
system likes. Power loss costs at most the lines of that second; the next run grades those rows again.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from coach.batch.records import Record, encode
from coach.errors import CoachError

FSYNC = ("always", "interval", "never")
_INTERVAL = 1.0


class StoreError(CoachError):
    """The output cannot be written; what was finished before is kept."""

    exit_code = 4


def scan(path: Path) -> Iterator[tuple[int, int, Record | None]]:
    """(offset, length, record) of every line; None for a line that is no record (a power cut leaves such)."""
    if not path.exists():
        return
    offset = 0
    with path.open("rb") as f:
        for line in f:
            record: Any = None
            if line.endswith(b"\n"):
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
            whole = isinstance(record, dict) and {"key", "id", "status", "retry"} <= record.keys()
            yield offset, len(line), record if whole else None
            offset += len(line)


class Store:
    """Appends records; use as a context manager. StoreError when the disk is full or the folder cannot be written."""

    def __init__(
        self, path: Path, fsync: str = "interval", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._fsync = fsync
        self._clock = clock
        self._synced = clock()
        self._dirty = False
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            self._end = self._mend()
        except OSError as e:
            raise StoreError(f"{path}: {e.strerror or e}", "choose another folder with -o") from e

    def _mend(self) -> int:
        """Cut a torn last line off; returns the end of what is whole."""
        size = os.fstat(self._fd).st_size
        end = size
        while end > 0:
            start = max(0, end - 65536)
            os.lseek(self._fd, start, os.SEEK_SET)
            at = os.read(self._fd, end - start).rfind(b"\n")
            if at >= 0:
                end = start + at + 1
                break
            end = start
        if end < size:
            os.ftruncate(self._fd, end)
        os.lseek(self._fd, end, os.SEEK_SET)
        return end

    def append(self, record: Record) -> tuple[int, int]:
        """(offset, length) of the new line."""
        data = encode(record)
        offset = self._end
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
            self._end += len(data)
            self._dirty = True
            if self._fsync == "always" or (
                self._fsync == "interval" and self._clock() - self._synced >= _INTERVAL
            ):
                self.sync()
        except OSError as e:
            with contextlib.suppress(OSError):  # half a line must not stand before the next run's first
                os.ftruncate(self._fd, offset)
            raise StoreError(
                f"{self._path}: {e.strerror or e}", "make room and run the same command again"
            ) from e
        return offset, len(data)

    def idle(self) -> None:
        """Called between rows: syncs what has waited long enough."""
        if self._dirty and self._fsync == "interval" and self._clock() - self._synced >= _INTERVAL:
            self.sync()

    def sync(self) -> None:
        os.fsync(self._fd)
        self._synced = self._clock()
        self._dirty = False

    def read(self, offset: int, length: int) -> Record:
        os.lseek(self._fd, offset, os.SEEK_SET)
        data = b""
        while len(data) < length and (part := os.read(self._fd, length - len(data))):
            data += part
        os.lseek(self._fd, self._end, os.SEEK_SET)
        record: Record = json.loads(data)
        return record

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            if self._dirty and self._fsync != "never":
                with contextlib.suppress(OSError):
                    self.sync()
        finally:
            os.close(self._fd)


def replace_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """`write` fills a temporary file beside `path`, which is synced and then takes its name."""
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    try:
        write(temporary)
        with temporary.open("rb+") as f:
            os.fsync(f.fileno())
        temporary.replace(path)
    except OSError as e:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise StoreError(f"{path}: {e.strerror or e}", "make room, or close the file, and run again") from e
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def compact(path: Path, history: Path, keep: Callable[[int, Record], bool]) -> tuple[int, int]:
    """Move records that are no row's last word to `history`; (kept, moved). Killed anywhere, no record is lost."""
    with history.open("ab") as old:
        moved = 0
        for offset, _, record in scan(path):
            if record is not None and not keep(offset, record):
                old.write(encode(record))
                moved += 1
        old.flush()
        os.fsync(old.fileno())
    kept = 0

    def write(temporary: Path) -> None:
        nonlocal kept
        with temporary.open("wb") as new:
            for offset, _, record in scan(path):
                if record is not None and keep(offset, record):
                    new.write(encode(record))
                    kept += 1

    replace_atomically(path, write)
    return kept, moved


def write_text(path: Path, text: str) -> None:
    replace_atomically(path, lambda p: _write_chunks(p, [text]))


def _write_chunks(path: Path, chunks: Iterable[str]) -> None:
    with path.open("w", encoding="utf8", newline="") as f:
        f.writelines(chunks)
