"""A note set on disk: `COACH_HOME/notes/<name>/` holds one `<source>.units` file per source and `set.json`.

A `.units` file is JSON Lines, one unit a line, with the lines of the original source; the index reads nothing else.
Files are written one by one and atomically, `set.json` last; a source that did not change is not parsed again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from coach.errors import NoteError, UsageError
from coach.notes import marks
from coach.notes.documents import read_source, source_files
from coach.notes.model import Dropped, Unit
from coach.notes.personal import Found, screen_line
from coach.notes.repeats import Merged, merge_repeats
from coach.notes.scan import scan
from coach.notes.units import parse

PARSER_VERSION = "1"
SUFFIX = ".units"
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Imported:
    """One source: its units and everything that is not one."""

    name: str
    units: list[Unit]
    dropped: list[Dropped] = field(default_factory=list)
    personal: list[Found] = field(default_factory=list)
    headings: int = 0
    companies: tuple[str, ...] = ()
    remark: str = ""
    merged: list[Merged] = field(default_factory=list)


@dataclass(slots=True)
class Result:
    name: str
    folder: Path
    sources: list[Imported]
    problems: list[str]
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)

    @property
    def units(self) -> list[Unit]:
        return [u for s in self.sources for u in s.units]


def read_units(path: Path) -> Imported:
    """NoteError when the file is damaged."""
    try:
        head, *rows = path.read_text(encoding="utf8").splitlines()
        data = json.loads(head)
        units = [_unit(json.loads(row)) for row in rows]
        return Imported(
            data["name"],
            units,
            [Dropped(**d) for d in data["dropped"]],
            [Found(**f) for f in data["personal"]],
            data["headings"],
            tuple(data["companies"]),
            data["remark"],
            [Merged(**m) for m in data["merged"]],
        )
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise NoteError(f"{path}: damaged note set: {e}", "import the notes again") from e


def _unit(row: dict[str, Any]) -> Unit:
    fields: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
    return Unit(**fields)


def write_atomic(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf8") as f:
        f.write(text)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)


def _dump(source: Imported) -> str:
    head = asdict(source)
    del head["units"]
    return "".join(
        json.dumps(row, ensure_ascii=False) + "\n" for row in [head, *(asdict(u) for u in source.units)]
    )


def parse_source(path: Path, name: str, keep_personal: bool = False) -> tuple[Imported, str]:
    """(units and report of one file, content digest)."""
    source = read_source(path)
    scanned = scan(source.rows)
    personal: list[Found] = []
    if not keep_personal:
        heads: tuple[str, ...] = ()
        for x in scanned.lines:
            if x.drop or x.blank:
                continue
            if x.marker in ("heading", "label"):
                heads = (x.text,)
            if x.code:
                continue
            text, found = screen_line(x.text, x.number, heads)
            personal += found
            if found and not text:
                x.drop, x.text, x.marker = f"personal: {found[0].kind}", "", ""
            x.text = text
    parsed = parse(scanned)
    kinds = {f.line: f for f in personal}
    dropped = [
        Dropped(d.line, d.reason, kinds[d.line].excerpt if d.line in kinds else d.excerpt)
        for d in parsed.dropped
    ]
    head = " ".join([name, *(t for _, t in parsed.headings[:6]), str(scanned.meta.get("标题", ""))])
    made = Imported(
        name, parsed.units, dropped, personal, len(parsed.headings), marks.companies(head), source.remark
    )
    return made, source.digest


def check_name(name: str) -> str:
    import re

    if not re.fullmatch(r"[\w\u4e00-\u9fff][\w\u4e00-\u9fff.\-]{0,60}", name) or name == "notes":
        raise UsageError(
            f"{name!r} cannot name a note set", "use letters, digits, `-` and `_`; `notes` is taken"
        )
    return name


def import_notes(
    home: Path,
    name: str,
    paths: Sequence[Path],
    *,
    keep_personal: bool = False,
    annotate: Callable[[list[Unit]], list[Unit]] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Bring the set `name` in line with `paths`: sources that are gone leave it. Problems are one line per file."""
    folder = home / "notes" / check_name(name)
    files, problems = source_files(list(paths))
    state = _state(folder)
    same_rules = state.get("parser") == PARSER_VERSION and state.get("keep_personal") == keep_personal
    known: dict[str, list[Any]] = state.get("sources", {}) if same_rules else {}
    sources: list[Imported] = []
    states: dict[str, list[Any]] = {}
    parsed_anew = False
    for done, (path, label) in enumerate(files, 1):
        try:
            stat = path.stat()
            old = known.get(label)
            target = folder / "parsed" / f"{label}{SUFFIX}"
            if old and old[:3] == [str(path.resolve()), stat.st_size, stat.st_mtime_ns] and target.is_file():
                states[label] = old
                sources.append(read_units(target))
            else:
                source, digest = parse_source(path, label, keep_personal)
                write_atomic(target, _dump(source))
                states[label] = [str(path.resolve()), stat.st_size, stat.st_mtime_ns, digest]
                sources.append(source)
                parsed_anew = True
        except NoteError as e:
            problems.append(f"{e.message}{f' ({e.hint})' if e.hint else ''}")
        except OSError as e:
            problems.append(f"{path}: {e.strerror or e}")
        except RecursionError:
            problems.append(f"{path}: nested too deeply")
        if progress:
            progress(done, len(files))
    if not sources:
        raise NoteError(
            "nothing was imported: " + ("; ".join(problems[:3]) or "no readable file"),
            "coach notes import --help",
        )
    if (
        not parsed_anew
        and states == state.get("sources")
        and all((folder / "units" / f"{n}{SUFFIX}").is_file() for n in states)
    ):
        return replace(load_set(home, name), problems=problems)
    removed = sorted(state.get("sources", {}).keys() - states.keys())
    result = Result(name, folder, sources, problems, removed=removed)
    merge_repeats(result.sources)
    if annotate:
        fresh_units = iter(annotate(result.units))
        for source in sources:
            source.units = [next(fresh_units) for _ in source.units]
    for source in result.sources:
        target = folder / "units" / f"{source.name}{SUFFIX}"
        text = _dump(source)
        if not target.is_file() or target.read_text(encoding="utf8") != text:
            write_atomic(target, text)
            result.changed.append(source.name)
    for label in removed:
        for sub in ("units", "parsed"):
            (folder / sub / f"{label}{SUFFIX}").unlink(missing_ok=True)
    fresh = {
        "name": name,
        "parser": PARSER_VERSION,
        "keep_personal": keep_personal,
        "sources": states,
        "paths": [str(p) for p in paths],
    }
    if parsed_anew or fresh != state:
        write_atomic(folder / "set.json", json.dumps(fresh, ensure_ascii=False, indent=1))
    return result


def _state(folder: Path) -> dict[str, Any]:
    try:
        data = json.loads((folder / "set.json").read_text(encoding="utf8"))
        return data if isinstance(data, dict) else {}
    except (OSError, ValueError):
        return {}


def note_sets(home: Path) -> list[str]:
    return sorted(p.parent.name for p in (home / "notes").glob("*/set.json"))


def load_set(home: Path, name: str) -> Result:
    """UsageError when there is no such set."""
    folder = home / "notes" / name
    if not (folder / "set.json").is_file():
        known = ", ".join(note_sets(home)) or "none yet"
        raise UsageError(f"no note set {name!r} (there are: {known})", "coach notes import PATH")
    sources = [read_units(p) for p in sorted((folder / "units").rglob(f"*{SUFFIX}"))]
    return Result(name, folder, sources, [])
