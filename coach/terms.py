"""The domain dictionary: different names of one thing become one extra token, in passages and in queries alike.

`knowledge/terms.yaml` is a list of groups. Because both sides get the same concept token, expansion works both ways
and costs nothing at query time; the words as written stay and still count.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cached_property, lru_cache
from pathlib import Path

from coach.errors import NoteError
from coach.text import sha256, tokens

_MARK = "§"


def _norm(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


def _pattern(alias: str) -> str:
    """A Latin alias matches as a word, with any of space, - and _ between its parts; a Chinese one anywhere."""
    parts = [re.escape(p) for p in re.split(r"[\s_-]+", alias) if p]
    body = r"[\s_-]*".join(parts)
    before = r"(?<![a-z0-9])" if re.match(r"[a-z0-9]", alias) else ""
    after = r"(?![a-z0-9])" if re.search(r"[a-z0-9]$", alias) else ""
    return f"{before}{body}{after}"


class Terms:
    """`groups[i][0]` is the name that stands for group i. The text of a group is compared folded."""

    def __init__(self, groups: Iterable[tuple[str, ...]]) -> None:
        self.groups = tuple(groups)
        self._group_of: dict[str, int] = {}
        for i, group in enumerate(self.groups):
            for alias in group:
                self._group_of.setdefault(self._key(alias), i)

    @staticmethod
    def _key(alias: str) -> str:
        return re.sub(r"[\s_-]+", "", _norm(alias))

    @cached_property
    def version(self) -> str:
        return sha256(repr(self.groups))[:8]

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        aliases = {_norm(a) for g in self.groups for a in g}
        ordered = sorted(aliases, key=lambda a: (-len(a), a))
        return re.compile("|".join(_pattern(a) for a in ordered) or r"(?!)")

    def concepts(self, text: str) -> list[str]:
        """Names of the groups that the text mentions, in order, with repeats.

        >>> Terms([("KV cache", "键值缓存")]).concepts("键值缓存与 kv-cache")
        ['KV cache', 'KV cache']
        """
        found = (self._group_of.get(self._key(m.group())) for m in self._regex.finditer(_norm(text)))
        return [self.groups[i][0] for i in found if i is not None]

    def aliases(self, name: str) -> tuple[str, ...]:
        i = self._group_of.get(self._key(name))
        return self.groups[i] if i is not None else ()

    def tokens(self, text: str) -> list[str]:
        """Words of the text and one token for every concept in it: what BM25 indexes and searches."""
        return tokens(text) + [_MARK + c for c in self.concepts(text)]


@lru_cache(maxsize=4)
def load_terms(file: Path) -> Terms:
    """NoteError naming the file when it is no list of groups; without a file there are no aliases."""
    import yaml

    if not file.is_file():
        return Terms([])
    try:
        data = yaml.safe_load(file.read_text(encoding="utf8"))
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise NoteError(f"{file}: no readable list of terms: {e}") from e
    bad = next(
        (g for g in data or [] if not isinstance(g, list) or not all(isinstance(a, str | int) for a in g)),
        None,
    )
    if not isinstance(data, list) or bad is not None:
        raise NoteError(f"{file}: a group of terms is a list of names, not {bad!r}")
    return Terms(tuple(str(a) for a in g) for g in data)
