"""Prompt templates: files in `prompts/`, filled strictly in one pass, versioned by what they say.

A file has YAML front matter (`purpose`, `version`, `variables`) and one `## role` section per message.
`$name` is a variable and `$$` a dollar sign. Because every variable is put in by one substitution, text that a
candidate wrote is never read as a template.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from coach.errors import PromptError
from coach.text import sha256

Messages = list[dict[str, str]]
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Prompt:
    name: str
    purpose: str
    version: int
    variables: frozenset[str]
    messages: tuple[tuple[str, str], ...]
    content_hash: str

    def fill(self, **values: str) -> Messages:
        """Messages in the form of the chat-completions API. PromptError lists *all* names that do not fit."""
        missing = sorted(self.variables - values.keys())
        unused = sorted(values.keys() - self.variables)
        if missing or unused:
            parts = [f"missing: {', '.join(missing)}"] * bool(missing) + [
                f"unused: {', '.join(unused)}"
            ] * bool(unused)
            raise PromptError(f"prompt {self.name}: variables do not fit ({'; '.join(parts)})")
        return [{"role": role, "content": Template(text).substitute(values)} for role, text in self.messages]


def parse_prompt(name: str, text: str) -> Prompt:
    import yaml

    match = re.match(r"---\n(.*?)\n---\n(.*)\Z", text, re.S)
    if not match:
        raise PromptError(
            f"prompt {name}: no front matter", "a prompt file starts with --- purpose/version/variables ---"
        )
    try:
        meta: Any = yaml.safe_load(match[1])
    except yaml.YAMLError as e:
        raise PromptError(f"prompt {name}: front matter is no YAML: {e}") from e
    if not isinstance(meta, dict) or set(meta) != {"purpose", "version", "variables"}:
        raise PromptError(f"prompt {name}: front matter needs exactly purpose, version and variables")
    parts = re.split(r"^## (\w+)\n", match[2], flags=re.M)
    roles, bodies = parts[1::2], [b.strip() for b in parts[2::2]]
    if not roles or any(r not in _ROLES for r in roles):
        raise PromptError(f"prompt {name}: sections must be ## {', ## '.join(_ROLES)}; found {roles}")
    declared = frozenset(meta["variables"] or [])
    template = Template("".join(bodies))
    if not template.is_valid():
        raise PromptError(f"prompt {name}: a stray $ (write $$ for a dollar sign)")
    used = frozenset(template.get_identifiers())
    if used != declared:
        raise PromptError(f"prompt {name}: declares {sorted(declared)} but uses {sorted(used)}")
    return Prompt(
        name,
        str(meta["purpose"]),
        int(meta["version"]),
        declared,
        tuple(zip(roles, bodies, strict=True)),
        sha256(text)[:12],
    )


def load_prompt(folder: Path, name: str) -> Prompt:
    path = folder / f"{name}.md"
    try:
        return parse_prompt(name, path.read_text(encoding="utf8"))
    except FileNotFoundError as e:
        raise PromptError(f"no prompt file {path}") from e
