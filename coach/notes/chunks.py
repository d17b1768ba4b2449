"""Notes → chunks: one per section where it fits, with exact line ranges.

langchain's MarkdownHeaderTextSplitter drops line numbers, on which every citation rests, so sections are found
here; only a section that is too long for the embedder goes through langchain's RecursiveCharacterTextSplitter,
with code blocks, tables and formulas kept whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from coach.domain import Chunk
from coach.notes.model import Unit
from coach.notes.readers import read_text
from coach.notes.sets import SUFFIX, read_units
from coach.text import sha256

CHUNKER_VERSION = "4"
# e5 reads 512 tokens; Chinese needs about 0.7 tokens a character, and the heading rides along.
MAX_CHARS = 620
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"^\s*(```|~~~)")


@dataclass(frozen=True, slots=True)
class _Block:
    """Lines that must not be separated: a fenced block, a table, a formula, or one ordinary line."""

    first: int
    lines: tuple[str, ...]

    @property
    def size(self) -> int:
        return sum(len(line) + 1 for line in self.lines)


def _blocks(lines: list[str], first: int) -> list[_Block]:
    out: list[_Block] = []
    i = 0
    while i < len(lines):
        j = i + 1
        fence = _FENCE.match(lines[i])
        if fence or lines[i].strip() == "$$":
            end = fence[1] if fence else "$$"
            while j < len(lines) and not lines[j].strip().startswith(end):
                j += 1
            j += 1
        elif lines[i].lstrip().startswith("|"):
            while j < len(lines) and lines[j].lstrip().startswith("|"):
                j += 1
        out.append(_Block(first + i, tuple(lines[i:j])))
        i = j
    return out


def _long_line(block: _Block) -> list[_Block]:
    """One over-long paragraph line, cut at sentence ends; every piece still cites that line."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter(
        chunk_size=MAX_CHARS,
        chunk_overlap=0,
        separators=["。", "；", "！", "？", ". ", "，", " ", ""],
        keep_separator="end",
    )
    return [_Block(block.first, (piece,)) for piece in splitter.split_text(block.lines[0])]


def _packed(blocks: list[_Block]) -> list[list[_Block]]:
    """Blocks in order, filled up to MAX_CHARS; a single larger block stands alone."""
    if sum(b.size for b in blocks) <= MAX_CHARS:
        return [blocks]
    pieces: list[_Block] = []
    for block in blocks:
        pieces.extend(_long_line(block) if len(block.lines) == 1 and block.size > MAX_CHARS else [block])
    # Even shares read better than one full chunk and a stub.
    total = sum(b.size for b in pieces)
    share = total / -(-total // MAX_CHARS)
    groups: list[list[_Block]] = [[]]
    filled = 0
    for block in pieces:
        if groups[-1] and (filled + block.size > MAX_CHARS or filled >= share):
            groups.append([])
            filled = 0
        groups[-1].append(block)
        filled += block.size
    return groups


def sections(text: str) -> list[tuple[str, int, list[str]]]:
    """(heading path, first body line, body lines) of every section with content; ATX headings outside fences."""
    out: list[tuple[str, int, list[str]]] = []
    path: list[tuple[int, str]] = []
    body: list[str] = []
    start = 1
    fence: str | None = None
    lines = text.split("\n")

    def close() -> None:
        if any(line.strip() for line in body):
            out.append((" › ".join(h for _, h in path), start, list(body)))

    for number, line in enumerate(lines, 1):
        mark = _FENCE.match(line)
        if mark:
            fence = mark[1] if fence is None else (None if mark[1] == fence else fence)
        heading = None if fence or mark else _HEADING.match(line)
        if heading:
            close()
            level = len(heading[1])
            path = [*(p for p in path if p[0] < level), (level, heading[2])]
            body, start = [], number + 1
        else:
            body.append(line)
    close()
    return out


def chunk_note(file: str, text: str) -> list[Chunk]:
    """Chunks of one note. Embedded text is heading path + body; `first_line`…`last_line` are the body's lines."""
    return _chunked(file, [(heading, first, lines, "", "") for heading, first, lines in sections(text)])


def chunk_units(file: str, units: Sequence[Unit]) -> list[Chunk]:
    """Chunks of imported units, at the lines of the original source. A question without an answer is no passage."""
    answered = [
        u for u in units if u.kind == "prose" or u.answer in ("full", "partial", "outline", "truncated")
    ]
    return _chunked(file, [(u.heading, u.first_line, list(u.lines), u.question, u.context) for u in answered])


def chunk_file(file: str, path: Path) -> list[Chunk]:
    """Chunks of what the index finds at `path`: a note, or the units of an imported source. NoteError as the readers."""
    if path.suffix == SUFFIX:
        return chunk_units(file, read_units(path).units)
    return chunk_note(file, read_text(path))


def _chunked(file: str, pieces: Iterable[tuple[str, int, list[str], str, str]]) -> list[Chunk]:
    chunks: list[Chunk] = []
    seen: dict[str, int] = {}
    for heading, first, lines, question, context in pieces:
        for group in _packed(_blocks(lines, first)):
            while group and not "".join(group[0].lines).strip():
                group = group[1:]
            while group and not "".join(group[-1].lines).strip():
                group = group[:-1]
            if not group:
                continue
            body = "\n".join(line for block in group for line in block.lines).strip("\n")
            digest = sha256(f"{heading}\n{body}")
            identity = sha256(f"{file}\0{digest}")[:20]
            copy = seen[identity] = seen.get(identity, 0) + 1
            chunks.append(
                Chunk(
                    id=identity if copy == 1 else f"{identity}.{copy}",
                    file=file,
                    heading=heading,
                    first_line=group[0].first,
                    last_line=group[-1].first + len(group[-1].lines) - 1,
                    text=body,
                    content_hash=digest,
                    question=question,
                    context=context,
                )
            )
    return chunks


def embedding_text(chunk: Chunk) -> str:
    """What the embedder sees: LaTeX marks cost tokens and carry no meaning."""
    body = re.sub(r"\\(?:text|mathrm|mathbf|mathcal|operatorname)\{([^}]*)\}", r"\1", chunk.text)
    body = re.sub(r"\\([a-zA-Z]+)", r" \1 ", body).replace("$", "").replace("{", "").replace("}", "")
    return f"{chunk.heading}\n{body}"
