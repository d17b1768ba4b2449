"""Reading the curated notes in a terminal: `coach notes list` and the topic half of `coach notes show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from coach.cli.common import console, settings
from coach.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def _topic_files(folder: Path, topic: str) -> list[Path]:
    """Files of a topic (`peft-lora`), or the one file of that name; UsageError names near ones."""
    files = sorted(folder.glob("*.md"))
    found = [f for f in files if f.stem == topic] or [f for f in files if f.stem.startswith(f"{topic}-")]
    if any(f.stem == topic for f in files):
        found += [f for f in files if f.stem.startswith(f"{topic}-") and f not in found]
    if not found:
        import difflib

        near = difflib.get_close_matches(topic, [f.stem for f in files], n=3, cutoff=0.3)
        raise UsageError(
            f"no notes on {topic!r}", f"did you mean {', '.join(near)}?" if near else "coach notes list"
        )
    return found


def list_notes(as_json: bool = typer.Option(False, "--json")) -> None:
    """List note files with their sections.

    \b
    coach notes list
    """
    import json

    from coach.notes.chunks import chunk_note
    from coach.notes.readers import read_text

    folder = settings().knowledge / "notes"
    rows = []
    for path in sorted(folder.glob("*.md")):
        headings = dict.fromkeys(c.heading.split(" › ")[-1] for c in chunk_note(path.name, read_text(path)))
        rows.append({"file": f"notes/{path.name}", "sections": list(headings)})
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, indent=2))
        return
    for row in rows:
        typer.echo(f"{row['file']}  {len(row['sections'])} sections")


def read_topic(topic: str, section: str | None) -> None:
    """Print the notes on a topic, or its sections whose heading contains `section`; UsageError when there is none."""
    from rich.markdown import Markdown

    from coach.formula import readable
    from coach.notes.readers import read_text

    out = console()
    shown = 0
    for path in _topic_files(settings().knowledge / "notes", topic):
        title, *parts = read_text(path).split("\n## ")
        wanted = [p for p in parts if section is None or section in p.split("\n", 1)[0]]
        if not wanted:
            continue
        shown += len(wanted)
        out.print(f"notes/{path.name}", style="dim")
        out.print(Markdown(title.strip()))
        for part in wanted:
            out.print(Markdown(_hard_breaks(readable("## " + part))))
            out.print()
    if not shown:
        raise UsageError(f"no section of {topic} contains {section!r}", f"coach notes show {topic}")


def _hard_breaks(markdown: str) -> str:
    """One sentence a line stays one sentence a line; code and tables are left alone."""
    lines, fence = [], False
    for line in markdown.split("\n"):
        if line.lstrip().startswith("```"):
            fence = not fence
        plain = bool(line.strip()) and not fence and not line.lstrip().startswith(("|", "#", "-", "```"))
        lines.append(line + "  " if plain else line)
    return "\n".join(lines)
