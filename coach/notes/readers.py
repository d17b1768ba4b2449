"""One reader per note format. A reader turns bytes into lines; line numbers of the source stay true."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coach.errors import NoteError

MAX_NOTE_BYTES = 20 * 1024 * 1024


def read_text(path: Path) -> str:
    """Text of a UTF-8 note; NoteError for binary, wrongly encoded, unreadable or huge files."""
    try:
        size = path.stat().st_size
        if size > MAX_NOTE_BYTES:
            raise NoteError(f"{path}: {size // 2**20} MiB is too large for a note", "split the file")
        data = path.read_bytes()
    except OSError as e:
        raise NoteError(f"{path}: {e.strerror or e}") from e
    if b"\0" in data[:8192]:
        raise NoteError(f"{path}: this is a binary file, not a note")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        raise NoteError(f"{path}:{line}: not UTF-8 (byte {e.start})", "save the file as UTF-8") from e
    return text.replace("\r\n", "\n").replace("\r", "\n")


READERS: dict[str, Callable[[Path], str]] = {
    ".md": read_text,
    ".markdown": read_text,
    ".txt": read_text,
    ".units": read_text,  # an imported source, see `sets`
}


def note_files(root: Path) -> list[Path]:
    """Files below `root` (or `root` itself) that have a reader, in path order; hidden folders are left out."""
    if root.is_file():
        if root.suffix.lower() not in READERS:
            raise NoteError(
                f"{root}: no reader for {root.suffix or 'files without a suffix'}",
                f"readable: {', '.join(READERS)}",
            )
        return [root]
    if not root.is_dir():
        raise NoteError(f"no such file or folder: {root}")
    return sorted(
        p
        for p in root.rglob("*")
        if p.suffix.lower() in READERS
        and p.is_file()
        and not any(part.startswith(".") for part in p.relative_to(root).parts)
    )
