"""How much of an answer is there: what remains when images, references, labels and outlines are taken away."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from coach.notes.scan import Line

Answer = Literal["full", "partial", "outline", "image_only", "truncated", "none"]
_LABEL = re.compile(r"^[^。；]{1,24}[:：]\s*$")
_CUT = re.compile(
    r"(?:通过|包括|例如|比如|如|是|为|的|和|与|以及|或|在|对|从|将|把|使用|采用|需要|主要|其中|可以|由)$"
)
_OUTLINE = re.compile(
    r"^(?:[^:：]{1,12}[:：])?\s*[^。；，]{1,30}(?:\s*\+\s*[^。；，+]{1,30}){1,}\s*\+?\s*$|^\S{1,12}\s*\+\s*$"
)
_MIN_FULL = 20


def status_of(
    body: Sequence[Line], *, narrated: bool = False, compound: bool = False
) -> tuple[Answer, list[int]]:
    """(status, source lines of labels that nothing follows)."""
    images = sum(x.images for x in body if not x.drop)
    said = [x for x in body if x.text and not x.drop and (x.code or re.search(r"\w", x.text))]
    empty: list[int] = []
    for i, x in enumerate(said):
        after = said[i + 1] if i + 1 < len(said) else None
        if not x.code and _LABEL.match(x.text):
            nested = after is not None and not (
                _LABEL.match(after.text) and len(after.text) <= len(x.text) + 6 and after.marker == x.marker
            )
            if not nested:
                empty.append(x.number)
    kept = [x for x in said if x.number not in empty]
    if not kept:
        return ("image_only" if images else "none"), empty
    code = any(x.code for x in kept)
    chars = sum(len(re.sub(r"\W", "", x.text)) for x in kept)
    outlined = [x for x in kept if _OUTLINE.match(x.text)]
    if not code and len(outlined) >= 0.6 * len(kept) and chars < 120:
        return "outline", empty
    last = kept[-1].text.rstrip()
    if not code and len(last) > 20 and _CUT.search(last):
        return "truncated", empty
    if narrated or empty or (not code and chars < _MIN_FULL) or (images and (chars < 80 or compound)):
        return "partial", empty
    return "full", empty
