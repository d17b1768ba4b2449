"""Raw lines → lines with a role: what CommonMark would get wrong is decided here, by line, with source numbers.

A bare `-` is a bullet whose text stands on the next line, never a setext underline. Indentation never makes code.
A fence tagged markdown is a wrapper. `# x` between lines of code is a comment.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from coach.notes.furniture import furniture_of
from coach.notes.marks import FIELD, IMAGE, PLACEHOLDER, STARS, URL, asks, clean, is_code, is_label

Marker = Literal["", "number", "bullet", "heading", "label"]
_HEADING = re.compile(r"^\s{0,3}(#{1,6})\s+(.*?)\s*#*\s*$")
_NUMBER = re.compile(r"^\s*(\d{1,3})(?:\.(?!\d)|、|\)|）)\s*(?:&\s*\d{1,3}[.、]\s*)?(.*)$")
_BULLET = re.compile(r"^\s*[-*+•●▪]\s+(.*)$")
_ASKED = re.compile(r"^\s*(?:Q\d*|问题?\d*|题目?\d+|第[一二三四五六七八九十\d]+题)\s*[:：.、]\s*(.+)$", re.I)
_FENCE = re.compile(r"^\s*(`{3,}|~{3,})\s*([\w+-]*)\s*$")
_REFERENCE = re.compile(
    r"^[\s\-*>]*(?:[【\[]?参考(?:资料|链接|文献|文章)?[】\]]?|references?|see also)\s*[:：]?\s*", re.I
)
_GLUED = re.compile(r"[。.；;)]\s*-$")
_WRAPPERS = frozenset(["markdown", "md"])
# Longest front matter looked for: a `---` with no partner near is a rule, not front matter.
_FRONT_MATTER = 60


@dataclass(slots=True)
class Line:
    """`text` is clean; `number` is the line of the source. A dropped line has a `drop` reason and no other role."""

    number: int
    raw: str
    text: str = ""
    marker: Marker = ""
    level: int = 0
    indent: int = 0
    code: bool = False
    drop: str = ""
    images: int = 0
    stars: int = 0
    references: tuple[str, ...] = ()
    joined: bool = False

    @property
    def blank(self) -> bool:
        return not self.raw.strip()


@dataclass(slots=True)
class Scanned:
    """All lines of a source in order, and what its front matter and field labels say."""

    lines: list[Line]
    meta: dict[str, Any] = field(default_factory=dict)
    dashed: bool = False


def _front_matter(lines: Sequence[Line]) -> tuple[int, dict[str, Any]]:
    """(number of lines it takes, its usable fields); (0, {}) when there is none."""
    import yaml

    if not lines or lines[0].raw.strip() != "---":
        return 0, {}
    end = next((i for i, x in enumerate(lines[1:_FRONT_MATTER], 1) if x.raw.strip() in ("---", "...")), 0)
    if not end:
        return 0, {}
    try:
        data = yaml.safe_load("\n".join(x.raw for x in lines[1:end]))
    except yaml.YAMLError:
        data = None
    if data is not None and not isinstance(data, dict):
        return 0, {}
    usable = {}
    for key, value in (data or {}).items():
        values = [clean(str(v)).lstrip("#") for v in (value if isinstance(value, list) else [value])]
        kept = [v for v in values if v and "{{" not in v and not PLACEHOLDER.match(v)]
        if kept:
            usable[str(key)] = kept if isinstance(value, list) else kept[0]
    return end + 1, usable


def _fences(lines: list[Line]) -> None:
    """Mark wrappers as dropped and fenced code as code; a fence that is never closed is dropped, its lines stay."""
    i = 0
    while i < len(lines):
        mark = None if lines[i].drop else _FENCE.match(lines[i].raw)
        if not mark:
            i += 1
            continue
        close = re.compile(rf"^\s*{re.escape(mark[1][0])}{{{len(mark[1])},}}\s*$")
        end = next((j for j in range(i + 1, len(lines)) if close.match(lines[j].raw)), None)
        if mark[2].lower() in _WRAPPERS or end is None:
            lines[i].drop = "wrapper" if mark[2].lower() in _WRAPPERS else "fence that is never closed"
            if end is not None:
                lines[end].drop = "wrapper"
            i += 1
            continue
        margin = len(lines[i].raw) - len(lines[i].raw.lstrip())
        for x in lines[i : end + 1]:
            x.code = True
            cut = min(margin, len(x.raw) - len(x.raw.lstrip()))
            x.text = x.raw[cut:].rstrip()
            x.indent = max(margin, 2)
        i = end + 1


def _dashes(lines: list[Line]) -> bool:
    """Bare `-` lines: bullets of the next line. Also a dash glued to the end of a sentence. True when there are many."""
    bare = [i for i, x in enumerate(lines) if not x.drop and not x.code and x.raw.strip() == "-"]
    glued = sum(bool(_GLUED.search(x.raw.rstrip())) for x in lines if not x.drop and not x.code)
    if len(bare) + glued < 2:
        for i in bare:
            lines[i].drop = "bare list mark"
        return False
    for i in bare:
        lines[i].drop = "bare list mark"
    for i, x in enumerate(lines):
        if x.drop or x.code:
            continue
        before = lines[i - 1] if i else None
        if before and (before.drop == "bare list mark" or _GLUED.search(before.raw.rstrip())):
            x.marker, x.level = "bullet", 1
    for x in lines:
        x.raw = re.sub(r"(?<=[。；;])\s*-$", "", x.raw.rstrip()) if not x.code else x.raw
    return True


def _roles(lines: list[Line], dashed: bool) -> None:
    for i, x in enumerate(lines):
        if x.drop or x.code or x.blank:
            continue
        x.images = len(IMAGE.findall(x.raw))
        x.stars = len(STARS.findall(x.raw))
        body = x.raw.expandtabs(4)
        x.indent = len(body) - len(body.lstrip())
        near = [y.raw for y in lines[max(0, i - 2) : i + 3] if y is not x and not y.blank]
        if not re.search(r"[\u4e00-\u9fff]", x.raw.split("#")[0]) and is_code(x.raw):
            x.code, x.text = True, x.raw.rstrip()
            continue
        heading = _HEADING.match(x.raw)
        if heading and sum(is_code(n) for n in near) >= 2:
            x.code, x.text = True, x.raw.rstrip()
            continue
        if x.raw.lstrip().startswith("|"):
            cells = [clean(c) for c in x.raw.strip().strip("|").split("|")]
            ruler = all(re.fullmatch(r":?-{2,}:?", c) for c in cells)
            x.text = "|" + "|".join("---" if ruler else f" {c} " for c in cells) + "|"
            continue
        drop = furniture_of(x.raw)
        if drop:
            x.drop, x.marker = drop, ""
            continue
        plain = clean(x.raw)
        urls = tuple(URL.findall(plain))
        rest = URL.sub(" ", plain).strip()
        if urls or _REFERENCE.fullmatch(x.raw.strip()):
            bare = _REFERENCE.sub("", rest) if _REFERENCE.match(rest) else rest
            if not bare or (len(bare) <= 16 and not asks(bare)):
                x.references, x.drop = urls, "reference"
                continue
            x.references = urls
        text = re.sub(r"[，。；\s]*参考\s*[:：]\s*$", "", rest) if urls else plain
        if heading:
            x.marker, x.level, x.text = "heading", len(heading[1]), clean(heading[2])
            continue
        field_ = FIELD.match(text)
        if field_ and not x.marker and len(text) <= 40 and re.match(r"^\W", x.raw.strip()):
            x.marker, x.level, x.text = "label", 7, text
            continue
        numbered, bulleted, asked = _NUMBER.match(x.raw), _BULLET.match(x.raw), _ASKED.match(x.raw)
        if numbered:
            x.marker, x.level, x.text = "number", 0, _NUMBER.sub(r"\2", text).strip()
        elif asked and not x.marker and x.indent <= 1:
            x.marker, x.text = "number", clean(asked[1])
        elif bulleted and x.marker != "bullet":
            x.marker, x.level = "bullet", (2 if dashed else 1) + x.indent // 2
            x.text = _BULLET.sub(r"\1", text).strip()
        else:
            x.text = text
            if not x.marker and x.indent <= 1 and is_label(text):
                x.marker, x.level = "label", 7
    if dashed:
        _dashed_labels(lines)


def _dashed_labels(lines: list[Line]) -> None:
    """Where every item has a dash, a short line without one, followed by one, is the heading of a new group."""
    for i, x in enumerate(lines):
        if x.drop or x.blank or x.marker or x.code or x.indent > 1 or not 2 <= len(x.text) <= 24:
            continue
        after = lines[i + 1] if i + 1 < len(lines) else None
        before = lines[i - 1] if i else None
        ended = (
            before is None
            or bool(before.drop)
            or before.marker == "bullet"
            or before.text.endswith(("。", "？", "?", "!"))
        )
        if (
            after is not None
            and after.drop == "bare list mark"
            and ended
            and not re.search(r"[。：:!！?？，,]$", x.text)
        ):
            x.marker, x.level = "label", 7


def _join(lines: list[Line]) -> None:
    """Inline code that an export put on lines of its own goes back into its sentence; its own line becomes empty."""
    last: Line | None = None
    for x in lines:
        if x.drop or x.code or x.blank or x.marker:
            last = (
                None
                if (x.code or x.marker in ("heading", "label", "number"))
                else (x if not x.drop and not x.blank else last)
            )
            if x.drop and x.drop != "reference":
                last = None
            continue
        broken = last is not None and (last.marker == "bullet" or re.search(r"[。:：]", last.text))
        if (
            last is not None
            and broken
            and x.text
            and (re.match(r"^[,，。)）、；;]", x.text) or not re.search(r"[。！？!?：:；;]$", last.text))
        ):
            last.text += x.text if re.match(r"^[,，。)）、；;]", x.text) else f" {x.text}"
            x.text, x.joined = "", True
        else:
            last = x


def _tail(lines: list[Line]) -> None:
    """Slogans between the images and buttons at the end of a clipped page."""
    content = [x for x in lines if not x.blank]
    last_button = max((i for i, x in enumerate(content) if x.drop == "page furniture"), default=-1)
    if last_button < 0 or last_button < len(content) - 12:
        return
    start = last_button
    while start > 0:
        x = content[start - 1]
        loose = (
            not x.marker and not x.code and len(x.text) <= 20 and not re.search(r"[。！？：；，:;,]$", x.text)
        )
        if not (x.drop or loose):
            break
        start -= 1
    for x in content[start:]:
        if not x.drop and not x.marker and (x.images or x.text):
            x.drop = "page furniture"


def scan(rows: Sequence[tuple[int, str]]) -> Scanned:
    """Rows are (source line number, text). Every row comes back as a `Line`, in order."""
    lines = [Line(n, raw) for n, raw in rows]
    taken, meta = _front_matter(lines)
    for x in lines[:taken]:
        x.drop = "front matter"
    _fences(lines)
    dashed = _dashes(lines)
    _roles(lines, dashed)
    if dashed:
        _join(lines)
    _tail(lines)
    for x in lines:
        if x.drop:
            x.text = "" if x.drop != "reference" else x.text
    return Scanned(lines, meta, dashed)
