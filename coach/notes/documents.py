"""Sources → numbered rows of text, one reader per format; a broken file is one clear NoteError.

Row numbers are what a citation will show: source lines for text and HTML, lines of the extracted text for PDF
(one form-feed heading per page), paragraphs and table rows for docx.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coach.errors import NoteError
from coach.text import sha256

Rows = list[tuple[int, str]]
MAX_BYTES = 20 * 1024 * 1024
# A docx is a zip; one that unpacks to more than this, or by more than this factor, is a bomb.
_MAX_UNPACKED, _MAX_RATIO = 200 * 1024 * 1024, 200
_MAGIC = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a zip archive",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\xd0\xcf\x11\xe0": "an old Office file",
    b"SQLite": "a database",
}


@dataclass(frozen=True, slots=True)
class Source:
    rows: Rows
    digest: str
    remark: str = ""


def _bytes(path: Path) -> bytes:
    """The file, read while it stood still."""
    try:
        before = path.stat()
        if before.st_size > MAX_BYTES:
            raise NoteError(
                f"{path}: {before.st_size / 2**20:.0f} MiB is too large for a note", "split the file"
            )
        data = path.read_bytes()
        after = path.stat()
    except OSError as e:
        raise NoteError(f"{path}: {e.strerror or e}", "check the path and its permissions") from e
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise NoteError(f"{path}: changed while it was read", "import it again")
    return data


def decode(data: bytes, path: Path) -> tuple[str, str]:
    """(text, remark). UTF-8, UTF-16 with a mark, then GB18030, which is said; NoteError for anything binary."""
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise NoteError(f"{path}: this is {what}, not text", "give the file its right suffix")
    remark = ""
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            text, remark = data.decode("utf-16"), "read as UTF-16"
        elif b"\0" in data:
            raise NoteError(f"{path}: this is a binary file, not a note")
        else:
            text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data[: e.start].count(b"\n") + 1
        try:
            text, remark = data.decode("gb18030"), "not UTF-8; read as GB18030"
        except UnicodeDecodeError:
            raise NoteError(
                f"{path}:{line}: neither UTF-8 nor GB18030 (byte {e.start})", "save the file as UTF-8"
            ) from e
        odd = sum(not (c.isprintable() or c in "\r\n\t") for c in text)
        if odd > 0.02 * len(text):
            raise NoteError(f"{path}:{line}: neither UTF-8 nor GB18030 text", "save the file as UTF-8") from e
    return text.replace("\r\n", "\n").replace("\r", "\n"), remark


def _text(path: Path, data: bytes) -> tuple[Rows, str]:
    text, remark = decode(data, path)
    return list(enumerate(text.split("\n"), 1)), remark


def _html(path: Path, data: bytes) -> tuple[Rows, str]:
    """Block elements as Markdown-like rows, at the line of their start tag."""
    from bs4 import BeautifulSoup
    from bs4.element import NavigableString, Tag

    text, remark = decode(data, path)
    soup = BeautifulSoup(text, "html.parser")
    for tag in soup(
        ["script", "style", "nav", "noscript", "svg", "iframe", "footer", "aside", "form", "button"]
    ):
        tag.decompose()
    rows: Rows = []
    blocks = {
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "p",
        "li",
        "pre",
        "tr",
        "blockquote",
        "div",
        "section",
        "article",
        "td",
        "th",
        "dt",
        "dd",
        "ul",
        "ol",
        "table",
        "body",
    }

    def inline(node: Tag) -> str:
        out = []
        for child in node.children:
            if isinstance(child, NavigableString):
                out.append(str(child))
            elif isinstance(child, Tag) and child.name == "img":
                out.append(f"![{child.get('alt') or ''}]({child.get('src') or ''})")
            elif isinstance(child, Tag) and child.name == "br":
                out.append("\n")
            elif isinstance(child, Tag) and child.name not in blocks:
                text = inline(child)
                out.append(f"**{text}**" if child.name in ("b", "strong") and text.strip() else text)
        return "".join(out)

    def put(line: int, text: str, verbatim: bool = False) -> None:
        for i, part in enumerate(text.split("\n")):
            if verbatim or part.strip():
                number = line + i if verbatim else line
                rows.append((number, part if verbatim else " ".join(part.split())))

    def walk(node: Tag, depth: int = 0) -> None:
        if depth > 200:
            return
        line = node.sourceline or 1
        name = node.name or ""
        if name == "pre":
            put(line, "```\n" + node.get_text().strip("\n") + "\n```", verbatim=True)
            return
        if name == "tr":
            cells = [" ".join(c.get_text().split()) for c in node.find_all(["td", "th"])]
            put(line, "| " + " | ".join(cells) + " |")
            return
        own = inline(node).strip()
        if own:
            mark = ""
            if len(name) == 2 and name[0] == "h" and name[1].isdigit():
                mark = "#" * int(name[1]) + " "
            elif name == "li":
                parent = node.parent
                position = 1 + sum(1 for s in node.find_previous_siblings("li"))
                mark = f"{position}. " if parent is not None and parent.name == "ol" else "- "
            put(line, mark + own)
            if mark != "- ":
                rows.append((line, ""))
        for child in node.children:
            if isinstance(child, Tag) and (child.name in blocks or child.find(list(blocks))):
                walk(child, depth + 1)

    walk(soup.body or soup)
    # Several rows may share a source line; the scanner needs strictly rising numbers only for citations.
    return rows, remark


def _pdf(path: Path, data: bytes) -> tuple[Rows, str]:
    import io
    import logging

    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.ERROR)
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise NoteError(f"{path}: the PDF is encrypted", "save it without a password")
        pages = [page.extract_text() or "" for page in reader.pages]
    except NoteError:
        raise
    except Exception as e:  # pypdf raises many types for broken files
        raise NoteError(
            f"{path}: the PDF cannot be read: {e}", "print it to a new PDF and import that"
        ) from e
    if sum(len("".join(p.split())) for p in pages) < 8:
        raise NoteError(
            f"{path}: the PDF has no text, only pictures ({len(pages)} pages)", "run OCR on it first"
        )
    rows: Rows = []
    for page in pages:
        for line in page.split("\n"):
            rows.append((len(rows) + 1, line))
    return rows, "lines are those of the text extracted from the PDF"


def _docx(path: Path, data: bytes) -> tuple[Rows, str]:
    import io

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(i.file_size for i in archive.infolist())
    except zipfile.BadZipFile as e:
        raise NoteError(f"{path}: this is no docx file", "save it again as .docx") from e
    if unpacked > _MAX_UNPACKED or unpacked > max(_MAX_RATIO * len(data), 1 << 20):
        raise NoteError(f"{path}: unpacks to {unpacked / 2**20:.0f} MiB; refused as a zip bomb")
    import docx
    from docx.table import Table

    try:
        document = docx.Document(io.BytesIO(data))
        rows: Rows = []
        for block in document.iter_inner_content():
            if isinstance(block, Table):
                for row in block.rows:
                    rows.append(
                        (len(rows) + 1, "| " + " | ".join(" ".join(c.text.split()) for c in row.cells) + " |")
                    )
                continue
            style = (block.style.name or "") if block.style is not None else ""
            level = next((int(d) for d in style.split() if d.isdigit()), 1)
            mark = ""
            if style.startswith(("Heading", "标题", "Title")):
                mark = "#" * min(level, 6) + " "
            elif style.startswith("List Number"):
                mark = "1. "
            elif style.startswith("List"):
                mark = "- "
            for part in block.text.split("\n"):
                rows.append((len(rows) + 1, mark + part if part.strip() else ""))
                mark = ""
    except Exception as e:
        raise NoteError(f"{path}: the docx cannot be read: {e}", "open and save it again") from e
    if not any(text.strip() for _, text in rows):
        raise NoteError(f"{path}: the docx has no text")
    return rows, "lines are paragraphs and table rows of the document"


SOURCES: dict[str, Callable[[Path, bytes], tuple[Rows, str]]] = {
    ".md": _text,
    ".markdown": _text,
    ".txt": _text,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".docx": _docx,
}


def read_source(path: Path) -> Source:
    """NoteError naming file (and line) for everything that cannot be a note."""
    reader = SOURCES.get(path.suffix.lower())
    if reader is None:
        raise NoteError(
            f"{path}: no reader for {path.suffix or 'files without a suffix'}",
            f"readable: {', '.join(SOURCES)}",
        )
    data = _bytes(path)
    if not data.strip():
        raise NoteError(f"{path}: the file is empty")
    try:
        rows, remark = reader(path, data)
    except ImportError as e:
        raise NoteError(f"{path}: {e.name} is not installed", "pip install 'interview-coach'") from e
    return Source(rows, sha256(data), remark)


def source_files(paths: list[Path]) -> tuple[list[tuple[Path, str]], list[str]]:
    """([(file, name in the set)], problems). Folders are walked once each, so that circular links end."""
    import glob
    import os

    found: list[tuple[Path, str]] = []
    problems: list[str] = []
    taken: set[str] = set()

    def add(file: Path, name: str) -> None:
        unique, n = name, 2
        while unique in taken:
            unique, n = f"{name.rsplit('.', 1)[0]}-{n}.{name.rsplit('.', 1)[-1]}", n + 1
        taken.add(unique)
        found.append((file, unique))

    expanded: list[Path] = []
    for path in paths:
        matches = [] if path.exists() else sorted(glob.glob(str(path.expanduser()), recursive=True))  # noqa: PTH207 - absolute patterns
        expanded += [Path(m) for m in matches] or [path]
    for path in expanded:
        if path.is_file():
            add(path, path.name)
        elif path.is_dir():
            seen: set[tuple[int, int]] = set()
            for folder, dirs, files in os.walk(
                path, followlinks=True, onerror=lambda e: problems.append(f"{e.filename}: {e.strerror}")
            ):
                stat = Path(folder).stat()
                if (stat.st_dev, stat.st_ino) in seen:
                    dirs[:] = []
                    continue
                seen.add((stat.st_dev, stat.st_ino))
                dirs[:] = sorted(d for d in dirs if not d.startswith((".", "__")) and d != "node_modules")
                for name in sorted(files):
                    file = Path(folder) / name
                    if file.suffix.lower() in SOURCES and not name.startswith((".", "~$")):
                        add(file, file.relative_to(path).as_posix())
        else:
            problems.append(f"{path}: no such file or folder")
    return found, problems
