"""Imported statements against what is known to be wrong: the bank's pitfalls, and other imported notes.

Nothing here decides that a note is wrong. A finding is a statement that says nearly what a listed misconception says,
or says of the same thing the opposite of another note; a person reads both citations and judges.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from coach.bank import Bank
from coach.domain import Chunk
from coach.embed import Embedder, Progress, VectorCache, cosine
from coach.notes.chunks import chunk_units
from coach.notes.model import Unit
from coach.notes.sets import Result
from coach.terms import Terms
from coach.text import sentences, term_recall

# e5 cosines of unrelated Chinese technical sentences lie near 0.80, paraphrases above 0.90.
_NEAR, _SHARED = 0.90, 0.45
_SAME_SUBJECT = 0.91
_NEGATION = re.compile(r"不(?!同|仅|但|断|过|妨)|没有|无需|无法|并非|避免|禁止|难以")
_POLES = (
    ("增加", "减少"),
    ("提高", "降低"),
    ("更大", "更小"),
    ("更快", "更慢"),
    ("上溢", "下溢"),
    ("固定", "可学习"),
    ("单向", "双向"),
    ("递增", "递减"),
    ("变大", "变小"),
    ("加速", "变慢"),
    ("上升", "下降"),
    ("更多", "更少"),
)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?=\s*(?:%|％|倍|个|层|位|字节|亿|B|K|k|M)(?![a-z]))")


@dataclass(frozen=True, slots=True)
class Claim:
    text: str
    ref: str
    chunk: Chunk


@dataclass(frozen=True, slots=True)
class Suspect:
    """`against` is the citation of the other side: `question-id#pitfall-id` or file:line."""

    kind: Literal["pitfall", "contradiction"]
    claim: str
    ref: str
    against_text: str
    against: str
    correction: str
    cosine: float


def claims_of(result: Result) -> list[Claim]:
    """Every sentence of the indexed passages of a set that is long enough to state something, with its line."""
    out = []
    for source in result.sources:
        for chunk in chunk_units(f"{result.name}/{source.name}", source.units):
            for i, line in enumerate(chunk.text.split("\n")):
                for s in sentences(line):
                    if (
                        10 <= len(s.text) <= 160
                        and not s.text.endswith(("？", "?"))
                        and re.search(r"[\u4e00-\u9fff]{4}", s.text)
                    ):
                        out.append(Claim(s.text, f"{chunk.file}:{chunk.first_line + i}", chunk))
    return out


def check_notes(
    result: Result,
    bank: Bank,
    terms: Terms,
    embedder: Embedder,
    cache: VectorCache,
    *,
    between: bool = True,
    progress: Progress | None = None,
) -> list[Suspect]:
    """Likely errors, surest first. With `between`, also pairs of statements of the set that oppose each other.

    A word and concept filter comes before any embedding: only statements that share a subject are compared.
    """
    claims = claims_of(result)
    units: dict[str, Unit] = {u.question: u for u in result.units if u.question}
    pairs = _pitfall_pairs(claims, bank, terms, units)
    twins = _twins(claims, terms) if between else []
    # A statement nearer to the correction than to the misconception is the right version of it.
    wanted = list(
        dict.fromkeys(
            [c.text for c, _, _, _ in pairs]
            + [t for _, _, p, fix in pairs for t in (p, fix)]
            + [c.text for pair in twins for c in pair]
        )
    )
    vectors, _ = cache.encode(embedder, wanted, progress)
    row = {t: i for i, t in enumerate(wanted)}

    def near(a: str, b: str) -> float:
        return float(cosine(vectors[row[a]][None], vectors[row[b]][None])[0, 0])

    best: dict[tuple[str, str], Suspect] = {}
    for claim, place, pitfall, correction in pairs:
        value = near(claim.text, pitfall)
        shared = term_recall(pitfall, claim.text)
        opposed = bool(_NEGATION.search(claim.text)) != bool(_NEGATION.search(pitfall))
        if (
            value >= _NEAR
            and shared >= _SHARED
            and not opposed
            and value > near(claim.text, correction)
            and value > near_or(best, (claim.ref, place))
        ):
            best[(claim.ref, place)] = Suspect(
                "pitfall", claim.text, claim.ref, pitfall, place, correction, round(value, 3)
            )
    for a, b in twins:
        value = near(a.text, b.text)
        if value >= _SAME_SUBJECT:
            best[(a.ref, b.ref)] = Suspect("contradiction", a.text, a.ref, b.text, b.ref, "", round(value, 3))
    return sorted(best.values(), key=lambda s: (s.kind != "pitfall", -s.cosine, s.ref))


def near_or(best: dict[tuple[str, str], Suspect], key: tuple[str, str]) -> float:
    return best[key].cosine if key in best else 0.0


def _pitfall_pairs(
    claims: Sequence[Claim], bank: Bank, terms: Terms, units: dict[str, Unit]
) -> list[tuple[Claim, str, str, str]]:
    """(claim, question#pitfall, pitfall, correction) that may say the same."""
    pitfalls = [(f"{q.id}#{p.id}", q.id, p.claim, p.correction) for q in bank for p in q.pitfalls]
    subjects = [set(terms.concepts(claim)) for _, _, claim, _ in pitfalls]
    out = []
    for claim in claims:
        about = set(terms.concepts(f"{claim.chunk.question} {claim.text}"))
        unit = units.get(claim.chunk.question)
        for (place, question_id, text, correction), subject in zip(pitfalls, subjects, strict=True):
            same_question = unit is not None and unit.bank == question_id
            if not same_question and len(about & subject) < 2:
                continue
            if term_recall(text, claim.text) >= (0.35 if same_question else 0.55):
                out.append((claim, place, text, correction))
    return out


def _opposed(a: str, b: str) -> bool:
    """Opposite poles, one-sided negation or different numbers with the same unit, everything else much the same."""
    for x, y in _POLES:
        if (x in a and y in b and y not in a and x not in b) or (
            y in a and x in b and x not in a and y not in b
        ):
            return True
    numbers_a, numbers_b = set(_NUMBER.findall(a)), set(_NUMBER.findall(b))
    if numbers_a and numbers_b and not numbers_a & numbers_b:
        return True
    return bool(_NEGATION.search(a)) != bool(_NEGATION.search(b))


def _twins(claims: Sequence[Claim], terms: Terms) -> list[tuple[Claim, Claim]]:
    """Pairs from different passages with the same subject that oppose each other."""
    by_subject: dict[str, list[int]] = {}
    about = [frozenset(terms.concepts(c.text)) for c in claims]
    for i, concepts in enumerate(about):
        for concept in concepts:
            by_subject.setdefault(concept, []).append(i)
    seen: set[tuple[int, int]] = set()
    out = []
    for rows in by_subject.values():
        for n, i in enumerate(rows):
            for j in rows[n + 1 :]:
                a, b = claims[i], claims[j]
                if (i, j) in seen or a.chunk.id == b.chunk.id or len(about[i] & about[j]) < 2:
                    continue
                seen.add((i, j))
                if (
                    _opposed(a.text, b.text)
                    and term_recall(a.text, b.text) >= 0.5
                    and term_recall(b.text, a.text) >= 0.5
                ):
                    out.append((a, b))
    return out
