"""Bytes → numbered lines of text: encodings guessed once per file, endless lines cut, bad bytes kept visible."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO

from coach.errors import UsageError

MAX_LINE_BYTES = 8 * 1024 * 1024
_SAMPLE = 256 * 1024
_WIDE = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def _bad_lines(lines: list[bytes], encoding: str) -> int:
    bad = 0
    for line in lines:
        try:
            line.decode(encoding)
        except UnicodeDecodeError:
            bad += 1
    return bad


def guess_encoding(sample: bytes) -> str:
    """UTF-8 unless most of the lines that are not ASCII say otherwise and GB18030 reads them.

    Deciding by majority keeps one broken byte in a UTF-8 file from turning the whole file into wrong characters.
    """
    for bom, name in _WIDE.items():
        if sample.startswith(bom):
            return name
    lines = [line for line in sample.split(b"\n")[:-1] or [sample] if not line.isascii()]
    bad = _bad_lines(lines, "utf-8")
    if lines and bad > len(lines) / 2 and _bad_lines(lines, "gb18030") < bad:
        return "gb18030"
    return "utf-8"


def read_lines(stream: BinaryIO, name: str, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """(line number, text with its line end). Bytes that do not decode become lone surrogates.

    A line over MAX_LINE_BYTES is cut there and its rest skipped, so that memory stays bounded.
    """
    head = stream.read(_SAMPLE)
    if encoding is None:
        encoding = guess_encoding(head)
    try:
        codecs.lookup(encoding)
    except LookupError as e:
        raise UsageError(f"unknown encoding {encoding!r}", "e.g. --encoding gb18030") from e
    if encoding.startswith("utf-16"):
        yield from _wide_lines(head, stream, encoding)
        return
    if b"\0" in head:
        raise UsageError(f"{name} is a binary file, not a table of answers")
    for number, line in enumerate(_byte_lines(head, stream), 1):
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        yield number, line.decode(encoding, errors="surrogateescape")


def _byte_lines(head: bytes, stream: BinaryIO) -> Iterator[bytes]:
    rest = head
    dropping = False
    while True:
        parts = rest.split(b"\n")
        for part in parts[:-1]:
            if not dropping:
                yield part + b"\n"
            dropping = False
        rest = parts[-1]
        if len(rest) > MAX_LINE_BYTES and not dropping:
            yield rest[:MAX_LINE_BYTES] + b"\n"
            dropping = True
        if dropping:
            rest = b""
        block = stream.read(1 << 20)
        if not block:
            break
        rest += block
    if rest and not dropping:
        yield rest


def _wide_lines(head: bytes, stream: BinaryIO, encoding: str) -> Iterator[tuple[int, str]]:
    decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    rest, number, block = "", 0, head
    while block:
        rest += decoder.decode(block)
        parts = rest.split("\n")
        rest = parts.pop()
        for part in parts:
            number += 1
            yield number, (part.removeprefix("\ufeff") if number == 1 else part) + "\n"
        block = stream.read(1 << 20)
    rest += decoder.decode(b"", final=True)
    if rest:
        yield number + 1, rest.removeprefix("\ufeff") if number == 0 else rest
