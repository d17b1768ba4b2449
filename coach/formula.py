"""LaTeX in notes → text a terminal can show. Symbols are pylatexenc's; grouping that it would drop is kept."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

_MATH = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.S)
_SUPER = str.maketrans("0123456789+-nT", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿᵀ")
_SIMPLE = re.compile(r"[\w\\√⊤]|\\[a-zA-Z]+")


@lru_cache(maxsize=1)
def _converter() -> Any:
    from pylatexenc.latex2text import LatexNodes2Text

    return LatexNodes2Text(math_mode="text")


def _argument(text: str, at: int) -> tuple[str, int]:
    """The {…} group at `at` (or the single token there) and the offset behind it."""
    if at < len(text) and text[at] == "{":
        depth = 0
        for end in range(at, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                return text[at + 1 : end], end + 1
    match = re.compile(r"\\[a-zA-Z]+|.", re.S).match(text, at)
    return (match[0], match.end()) if match else ("", at)


def _grouped(latex: str) -> str:
    """Fractions, powers and indices with more than one symbol get the parentheses that make one line unambiguous."""
    out: list[str] = []
    i = 0
    while i < len(latex):
        command = re.compile(r"\\[dt]?frac(?![a-zA-Z])").match(latex, i)
        if command:
            top, i = _argument(latex, command.end())
            bottom, i = _argument(latex, i)
            whole = "/".join(_wrapped(_grouped(part)) for part in (top, bottom))
            # log\frac{a}{b} must not read as (log a)/b
            follows = bool(out) and bool(re.search(r"[\w)]\s*$", "".join(out)))
            out.append(f"({whole})" if follows else whole)
        elif latex[i] in "^_" and i + 1 < len(latex):
            mark = latex[i]
            inner, i = _argument(latex, i + 1)
            inner = {r"\top": "T", r"\intercal": "T", "*": "∗", r"\ast": "∗", r"\star": "∗"}.get(
                inner.strip(), inner
            )
            if inner == "∗":
                out.append(inner)
            elif mark == "^" and re.fullmatch(r"[0-9+\-]+|n|T", inner):
                out.append(inner.translate(_SUPER))
            else:
                out.append(
                    mark
                    + (
                        _grouped(inner)
                        if _SIMPLE.fullmatch(inner) or inner.isalnum()
                        else f"({_grouped(inner)})"
                    )
                    + " "
                )
        else:
            out.append(latex[i])
            i += 1
    return "".join(out)


def _wrapped(part: str) -> str:
    return part if re.fullmatch(r"\w+|\\[a-zA-Z]+|\\sqrt\s?\{?[\w ]+\}?\s?", part.strip()) else f"({part})"


def readable(text: str) -> str:
    """`text` with every $…$ and $$…$$ as plain characters.

    >>> readable(r"除以 $\\sqrt{d_k}$")
    '除以 √d_k'
    """

    def one(match: re.Match[str]) -> str:
        body = match[1] or match[2]
        body = re.sub(r"\\\||\\[lr]?Vert(?![a-zA-Z])", "‖", body)
        plain = str(_converter().latex_to_text(_grouped(body))).replace("*", "∗")
        plain = re.sub(r"√\((\w+)\s*\)", r"√\1", re.sub(r" +", " ", plain)).strip()
        plain = re.sub(r" (?=[)\]}，。、,;.=+\-/]|$)", "", plain)
        return f"\n    {plain}\n" if match[1] and "\n" in match[0] else plain

    return _MATH.sub(one, text)
