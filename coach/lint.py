"""`coach bank lint`: is every question one a grader can use, and does every citation really back its point?

Errors fail the run. Warnings, and the lists of weakest support, are for a person to read: similarity finds
candidates for a look, it does not prove that a claim is wrong.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from coach.bank import Bank, load_bank
from coach.domain import TECHNICAL_KINDS, Chunk, Point, Question
from coach.embed import Embedder, Progress, VectorCache, Vectors, cosine
from coach.index import CURATED, Root
from coach.notes.chunks import chunk_note, embedding_text
from coach.notes.readers import note_files, read_text
from coach.text import sentences, term_recall

_JOINED = re.compile("以及|并且|同时还|此外|而且")
_MAX_POINT_CHARS = 90
# Below both, a cited section (or a reference) does not speak of the point at all. A first guess, not fitted: the
# weakest pair of the shipped bank has a cosine of about 0.85, so this only catches what is plainly elsewhere.
_SUPPORT_COSINE, _SUPPORT_RECALL = 0.82, 0.2
_DUPLICATE_COSINE = 0.975


@dataclass(frozen=True, slots=True)
class Weak:
    """A point and how well the text it rests on speaks of it."""

    place: str
    cosine: float
    recall: float
    text: str


@dataclass(slots=True)
class Findings:
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    support: list[Weak] = field(default_factory=list)
    coverage: list[Weak] = field(default_factory=list)
    topics: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    points: int = 0
    pitfalls: int = 0
    follow_ups: int = 0
    false_premises: int = 0


def _all_points(question: Question) -> Iterable[tuple[str, Point]]:
    for point in question.rubric:
        yield point.id, point
    for follow_up in question.follow_ups:
        for point in follow_up.rubric:
            yield f"{follow_up.id}.{point.id}", point


def _form(question: Question, place: str, out: Findings) -> None:
    """What can be told from one entry alone."""
    technical = question.kind in TECHNICAL_KINDS
    if technical and not 3 <= len(question.rubric) <= 7:
        out.errors.append(f"{place}: {len(question.rubric)} points; a technical question has 3 to 7")
    if technical and any(p.is_criterion for p in question.rubric):
        out.errors.append(f"{place}: a technical question is graded by points, not criteria")
    if not question.reference.strip():
        out.errors.append(f"{place}: no reference answer")
    if len(question.follow_ups) < 2:
        out.errors.append(f"{place}: fewer than two follow-ups")
    if question.kind == "coding" and question.coding is None:
        out.errors.append(f"{place}: a coding question needs a `coding` block")
    for name, point in _all_points(question):
        if point.source is None:
            out.errors.append(f"{place}.{name}: no source")
        if _JOINED.search(point.text):
            out.warnings.append(f"{place}.{name}: may join two claims: {point.text}")
        if len(point.text) > _MAX_POINT_CHARS:
            out.warnings.append(f"{place}.{name}: {len(point.text)} characters are long for one claim")
    for pitfall in question.pitfalls:
        if pitfall.source is None:
            out.errors.append(f"{place}.{pitfall.id}: no source")
        if pitfall.penalty > sum(p.weight for p in question.rubric) / 2:
            out.warnings.append(f"{place}.{pitfall.id}: the penalty takes more than half of the marks")
    for follow_up in question.follow_ups:
        if not follow_up.rubric:
            out.errors.append(f"{place}.{follow_up.id}: a follow-up needs a rubric")
        if not follow_up.targets:
            out.errors.append(f"{place}.{follow_up.id}: a follow-up needs targets")


def _sections(knowledge: Path) -> dict[str, list[Chunk]]:
    """Chunks by `notes/file.md#heading`."""
    root = Root(CURATED, knowledge / "notes")
    out: dict[str, list[Chunk]] = {}
    for path in note_files(knowledge / "notes"):
        for chunk in chunk_note(root.label(path), read_text(path)):
            out.setdefault(f"{chunk.file}#{chunk.heading.split(' › ')[-1]}", []).append(chunk)
    return out


def _weak(
    places: Sequence[str],
    claims: Vectors,
    texts: Sequence[str],
    owner: Sequence[list[int]],
    bodies: Sequence[str],
    vectors: Vectors,
) -> list[Weak]:
    rows = []
    for i, place in enumerate(places):
        best = float(cosine(claims[i : i + 1], vectors[owner[i]]).max())
        recall = max(term_recall(texts[i], bodies[j]) for j in owner[i])
        rows.append(Weak(place, round(best, 3), round(recall, 2), texts[i]))
    return sorted(rows, key=lambda w: w.cosine + 0.1 * w.recall)


def lint(
    knowledge: Path, embedder: Embedder, cache: VectorCache, progress: Progress | None = None
) -> Findings:
    """Raises BankError when a file cannot be read at all; everything else is a finding."""
    bank: Bank = load_bank(knowledge / "questions")
    sections = _sections(knowledge)
    out = Findings()
    places: list[str] = []
    claims: list[str] = []
    sources: list[str] = []
    for q in bank:
        place = f"{bank.places[q.id]} {q.id}"
        out.topics[q.topic] += 1
        out.kinds[q.kind] += 1
        out.points += len(q.rubric)
        out.pitfalls += len(q.pitfalls)
        out.follow_ups += len(q.follow_ups)
        out.false_premises += sum(f.type == "false_premise" for f in q.follow_ups)
        _form(q, place, out)
        cited = [(name, p.text, p.source) for name, p in _all_points(q)] + [
            (p.id, p.correction, p.source) for p in q.pitfalls
        ]
        for name, text, source in cited:
            if source is None:
                continue
            if source not in sections:
                out.errors.append(f"{place}.{name}: no such section: {source}")
            elif name in {p.id for p in q.rubric if not p.is_criterion}:
                places.append(f"{place}.{name}")
                claims.append(text)
                sources.append(source)
    _similar_questions(bank, embedder, cache, out)
    _supported(places, claims, sources, sections, embedder, cache, out, progress)
    _covered(bank, embedder, cache, out, progress)
    for what, rows in (("cited section", out.support), ("reference", out.coverage)):
        out.errors += [
            f"{w.place}: the {what} does not speak of it (cosine {w.cosine}, shared words {w.recall:.0%}): {w.text}"
            for w in rows
            if w.cosine < _SUPPORT_COSINE and w.recall < _SUPPORT_RECALL
        ]
    return out


def _similar_questions(bank: Bank, embedder: Embedder, cache: VectorCache, out: Findings) -> None:
    questions = list(bank)
    vectors, _ = cache.encode(embedder, [q.question for q in questions])
    table = np.triu(cosine(vectors, vectors), k=1)
    for i, j in zip(*np.where(table >= _DUPLICATE_COSINE), strict=True):
        a, b = questions[int(i)], questions[int(j)]
        out.warnings.append(f"{bank.places[a.id]} {a.id} and {bank.places[b.id]} {b.id} ask nearly the same")


def _supported(
    places: list[str], claims: list[str], sources: list[str], sections: dict[str, list[Chunk]],
    embedder: Embedder, cache: VectorCache, out: Findings, progress: Progress | None,
) -> None:  # fmt: skip
    names = sorted(set(sources))
    chunks = [c for name in names for c in sections[name]]
    rows: dict[str, list[int]] = {}
    for row, owner in enumerate(name for name in names for _ in sections[name]):
        rows.setdefault(owner, []).append(row)
    passages, _ = cache.encode(embedder, [embedding_text(c) for c in chunks], progress)
    vectors, _ = cache.encode(embedder, claims, progress)
    bodies = [f"{c.heading} {c.text}" for c in chunks]
    out.support = _weak(places, vectors, claims, [rows[s] for s in sources], bodies, passages)


def _covered(
    bank: Bank, embedder: Embedder, cache: VectorCache, out: Findings, progress: Progress | None
) -> None:
    """Every point of a technical question must be recognisable in its reference answer."""
    places: list[str] = []
    claims: list[str] = []
    owner: list[list[int]] = []
    bodies: list[str] = []
    for q in bank:
        if q.kind not in TECHNICAL_KINDS or not q.reference.strip():
            continue
        parts = [s.text for s in sentences(q.reference)]
        rows = list(range(len(bodies), len(bodies) + len(parts)))
        bodies += parts
        for point in q.rubric:
            places.append(f"{bank.places[q.id]} {q.id}.{point.id}")
            claims.append(point.text)
            owner.append(rows)
    if not claims:
        return
    texts, _ = cache.encode(embedder, bodies, progress)
    vectors, _ = cache.encode(embedder, claims, progress)
    out.coverage = _weak(places, vectors, claims, owner, bodies, texts)
