"""Weak points as files: an Anki deck, Markdown, CSV, JSON. One writer per ending in a `WRITERS` table; all atomic."""

from __future__ import annotations

import csv
import html
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from coach.messages import Messages, Refused
from coach.practice.progress import WeakPoint
from coach.text import sha256

# Anki tells decks and note types apart by these numbers; they must never change.
_DECK = 1607392319
_MODEL = 1091735104
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r")


def _csv(points: Sequence[WeakPoint], say: Messages) -> bytes:
    """UTF-8 with a byte-order mark, which is what spreadsheets need to see Chinese."""
    out = io.StringIO()
    fields = list(WeakPoint.__dataclass_fields__)
    writer = csv.DictWriter(out, fields)
    writer.writeheader()
    for point in points:
        row = asdict(point)
        # A cell that starts like a formula would be run by a spreadsheet; a quote makes it text.
        writer.writerow(
            {k: f"'{v}" if isinstance(v, str) and v.startswith(_FORMULA_START) else v for k, v in row.items()}
        )
    return out.getvalue().encode("utf-8-sig")


def _json(points: Sequence[WeakPoint], say: Messages) -> bytes:
    return json.dumps([asdict(p) for p in points], ensure_ascii=False, indent=2).encode()


def _markdown(points: Sequence[WeakPoint], say: Messages) -> bytes:
    lines = [f"# {say('weak_title', n=len(points))}", ""]
    by_question: dict[str, list[WeakPoint]] = {}
    for point in points:
        by_question.setdefault(point.question_id, []).append(point)
    for rows in by_question.values():
        lines += [f"## {rows[0].question}", ""]
        for p in rows:
            recall = say("weak_recall", p=p.recall) if p.recall is not None else ""
            lines.append(f"- {say('weak_row', text=p.text, times=p.times_missed, recall=recall)}")
            if p.citation:
                lines.append(f"  {say('weak_source', ref=f'`{p.citation}`')}")
        lines.append("")
    return "\n".join(lines).encode()


def _anki(points: Sequence[WeakPoint], say: Messages) -> bytes:
    import tempfile

    import genanki

    model = genanki.Model(
        _MODEL,
        "interview-coach point",
        fields=[{"name": "Question"}, {"name": "Point"}, {"name": "Source"}],
        templates=[
            {
                "name": "point",
                "qfmt": "{{Question}}",
                "afmt": '{{FrontSide}}<hr id="answer">{{Point}}<br><small>{{Source}}</small>',
            }
        ],
    )
    deck = genanki.Deck(_DECK, say("deck"))
    for p in points:
        total = sum(q.question_id == p.question_id for q in points)
        ask = html.escape(p.question) + (
            f"<br><small>{say('card_one_of', n=total)}</small>" if total > 1 else ""
        )
        deck.add_note(
            genanki.Note(
                model=model,
                fields=[ask, html.escape(p.text), html.escape(p.citation)],
                # The same point keeps its card, and with it Anki's own history, over exports.
                guid=sha256(f"{p.question_id}/{p.point_id}")[:16],
                tags=[p.topic],
            )
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deck.apkg"
        genanki.Package(deck).write_to_file(str(path))
        return path.read_bytes()


WRITERS: dict[str, Callable[[Sequence[WeakPoint], Messages], bytes]] = {
    ".apkg": _anki,
    ".md": _markdown,
    ".csv": _csv,
    ".json": _json,
}


def write_atomically(path: Path, data: bytes) -> Path:
    """Refused naming the path when it cannot be written."""
    path = path.expanduser()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as e:
        temporary.unlink(missing_ok=True)
        raise Refused("cannot_write", path=path, error=e.strerror or e) from e
    return path


def export(points: Sequence[WeakPoint], path: Path, say: Messages) -> Path:
    """Write `points` in the form the file's ending names; returns the path. Refused for an unknown ending."""
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise Refused("bad_ending", path=path, ending=path.suffix, known=", ".join(WRITERS))
    return write_atomically(path, writer(points, say))
