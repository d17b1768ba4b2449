"""Slash commands: one table that the parser, `/help`, tab completion and the tests read."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from coach.messages import Refused


@dataclass(frozen=True, slots=True)
class Command:
    """`argument` is "", "?" (optional) or "!" (needed). `reveals`: a real interviewer would not answer it."""

    name: str
    argument: str
    reveals: bool


COMMANDS = {
    c.name: c
    for c in (
        Command("help", "", False),
        Command("hint", "", True),
        Command("repeat", "", False),
        Command("skip", "", False),
        Command("harder", "", False),
        Command("easier", "", False),
        Command("why", "!", True),
        Command("source", "?", True),
        Command("answer", "", True),
        Command("retry", "", True),
        Command("dispute", "!", True),
        Command("regrade", "", False),
        Command("guess", "!", False),
        Command("note", "!", False),
        Command("cost", "", False),
        Command("export", "?", False),
        Command("edit", "", False),
        Command("quit", "", False),
    )
}


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    argument: str


def parse(line: str) -> Call | None:
    """None when the text is no command: more than one line, or no known-looking name after the slash.

    Refused for a name that is near a command, or a needed argument that is missing.

    >>> parse("/why variance"), parse("/home/me is a path")
    (Call(name='why', argument='variance'), None)
    """
    text = line.strip()
    if not text.startswith("/") or "\n" in text:
        return None
    name, _, argument = text[1:].partition(" ")
    name = name.lower()
    if name in COMMANDS:
        if COMMANDS[name].argument == "!" and not argument.strip():
            raise Refused("needs_argument", "/help", name=name)
        return Call(name, argument.strip())
    if name.isalpha() and name.isascii() and not argument.count("/"):
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        raise Refused("no_command", f"/{near[0]}" if near else "/help", name=name)
    return None
