"""The words of the product as frozen value objects; the same models validate bank files and print as JSON.

Offsets are character offsets into the candidate's answer as it was written. Lines are 1-based and inclusive.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Identifier = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9\-_.]*$", max_length=80)]
Text = Annotated[str, Field(min_length=1)]
Source = Annotated[str, Field(pattern=r"^[^#]+\.md#.+$")]

TECHNICAL_KINDS = ("concept", "compare", "derivation", "design", "coding")
Kind = Literal["concept", "compare", "derivation", "design", "coding", "project", "behavioral", "open"]
FollowUpType = Literal["clarify", "why", "derive", "boundary", "cost", "production", "false_premise"]
DEEPER: tuple[FollowUpType, ...] = ("why", "derive", "boundary", "cost", "production")


class Value(BaseModel):
    """Immutable, and an unknown key is an error: a typo in a rubric must not change a grade silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


# ── knowledge ────────────────────────────────────────────────────────────────────────────────────
class Chunk(Value):
    """A retrieval passage. `id` is stable while file, heading and text stay the same.

    `question` is what the passage answers, in notes of question–answer form; it is part of `heading` too. `context`
    are words it is searched by besides its own: the bank question it was matched to, and that question's points.
    """

    id: str
    file: str
    heading: str
    first_line: int
    last_line: int
    text: str
    content_hash: str
    question: str = ""
    context: str = ""

    @property
    def ref(self) -> str:
        return f"{self.file}:{self.first_line}-{self.last_line}"


class Passage(Value):
    """A chunk found for a query. `score` ranks (the reranker's when there is one); `dense` is a cosine in [-1, 1]."""

    chunk: Chunk
    score: float
    dense: float | None = None
    lexical: float | None = None


# ── bank ─────────────────────────────────────────────────────────────────────────────────────────
class Point(Value):
    """One checkable claim of a rubric — or, for questions without right and wrong, a criterion with levels."""

    id: Identifier
    point: Text | None = None
    criterion: Text | None = None
    levels: dict[int, Text] | None = None
    weight: Annotated[int, Field(ge=1, le=10)] = 1
    source: Source | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.point is None) == (self.criterion is None):
            raise ValueError("a rubric row needs exactly one of `point` and `criterion`")
        if (self.criterion is None) != (self.levels is None):
            raise ValueError("`levels` belong to a `criterion`, and a `criterion` needs them")
        if self.levels is not None and sorted(self.levels) != list(range(len(self.levels))):
            raise ValueError("`levels` must be numbered 0, 1, 2 … without a gap")
        if self.levels is not None and len(self.levels) < 2:
            raise ValueError("a criterion needs at least two levels")
        return self

    @property
    def text(self) -> str:
        return self.point or self.criterion or ""

    @property
    def is_criterion(self) -> bool:
        return self.criterion is not None


class Pitfall(Value):
    """A claim that is wrong and often said. Asserting it costs `penalty` weight units."""

    id: Identifier
    claim: Text
    correction: Text
    penalty: Annotated[int, Field(ge=1, le=10)] = 1
    source: Source | None = None
    errata: tuple[str, ...] = ()


class FollowUp(Value):
    """The next question. `targets` are point or pitfall ids of the question it belongs to."""

    id: Identifier
    ask: Text
    type: FollowUpType = "clarify"
    targets: tuple[Identifier, ...] = ()
    premise: Text | None = None
    rubric: tuple[Point, ...] = ()
    generated: bool = False

    @model_validator(mode="after")
    def _premise(self) -> Self:
        if (self.type == "false_premise") != (self.premise is not None):
            raise ValueError("`premise` belongs to a follow-up of type false_premise, which needs it")
        return self


class CodeTest(Value):
    """Arguments as data: `args` of one call, or `ops` and one argument list for each of them."""

    args: list[Any]
    expected: Any
    ops: list[str] | None = None


class Coding(Value):
    """What a coding question needs to be run: used by readers and tests, never executed while grading."""

    statement: Text
    entry: Text
    solution: Text
    complexity: dict[str, str]
    edge_cases: tuple[str, ...]
    tests: Annotated[tuple[CodeTest, ...], Field(min_length=1)]
    compare: Literal["exact", "unordered", "approx", "any_of"] = "exact"


class Question(Value):
    id: Identifier
    question: Text
    kind: Kind
    topic: Identifier
    difficulty: Annotated[int, Field(ge=1, le=5)] = 3
    companies: tuple[str, ...] = ()
    frequency: Annotated[int, Field(ge=0)] = 0
    rubric: Annotated[tuple[Point, ...], Field(min_length=1)]
    pitfalls: tuple[Pitfall, ...] = ()
    reference: str = ""
    follow_ups: tuple[FollowUp, ...] = ()
    coding: Coding | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        ids = [p.id for p in self.rubric] + [p.id for p in self.pitfalls]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            raise ValueError(f"ids used twice in one question: {', '.join(twice)}")
        for follow_up in self.follow_ups:
            unknown = sorted(set(follow_up.targets) - set(ids))
            if unknown:
                raise ValueError(f"follow-up {follow_up.id} targets unknown points: {', '.join(unknown)}")
        return self


# ── grading ──────────────────────────────────────────────────────────────────────────────────────
class Status(StrEnum):
    COVERED = "covered"
    PARTIAL = "partial"
    MISSING = "missing"
    CONTRADICTED = "contradicted"
    UNJUDGED = "unjudged"


class Quote(Value):
    """A verbatim span: `answer[start:end] == text` holds, and code has checked it."""

    text: str
    start: int
    end: int


class Citation(Value):
    file: str
    first_line: int
    last_line: int
    heading: str = ""
    trust: Literal["curated", "imported", "contradicted"] = "curated"

    @property
    def ref(self) -> str:
        return f"{self.file}:{self.first_line}-{self.last_line}"


class Verdict(Value):
    """The judge's finding on one point. `probability` is P(the answer states the point), in [0, 1].

    For a criterion it is the expected level over the highest one, and `level_probabilities[n]` is P(level = n).
    """

    point_id: str
    text: str
    weight: int
    status: Status
    probability: float | None = None
    level: int | None = None
    max_level: int | None = None
    level_probabilities: tuple[float, ...] | None = None
    quote: Quote | None = None
    citation: Citation | None = None
    reason: str = ""
    raw: str = ""


class PitfallHit(Value):
    pitfall_id: str
    claim: str
    correction: str
    penalty: int
    probability: float | None = None
    quote: Quote
    citation: Citation | None = None


class Score(Value):
    """0–100 with an 80 % interval. `terms` are the credits as printed, so that a reader can add them up."""

    value: float
    low: float
    high: float
    terms: tuple[float, ...]
    penalty: float
    total: float

    @property
    def half_width(self) -> float:
        return max(self.high - self.value, self.value - self.low)


class Usage(Value):
    """Tokens of all LLM calls behind one result, wall seconds, and how often the model was called."""

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            seconds=self.seconds + other.seconds,
        )

    @property
    def cached_share(self) -> float:
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0


class Fingerprint(Value):
    """Who graded: two grades may be compared when their fingerprints are equal."""

    model: str
    judge: str
    prompts: dict[str, str]
    calibration: str
    knowledge: str
    embedder: str
    version: str


class Flag(Value):
    """Something in the answer that a person should look at, e.g. text that addresses the grader."""

    kind: Literal["injection", "hidden_text"]
    quote: str


class Grade(Value):
    """Everything one answer got. `score` is None exactly when `status` is not ok."""

    question_id: str
    question: str
    answer: str
    status: Literal["ok", "unjudged"]
    verdicts: tuple[Verdict, ...]
    pitfalls: tuple[PitfallHit, ...] = ()
    score: Score | None = None
    follow_up: FollowUp | None = None
    passages: tuple[Passage, ...] = ()
    flags: tuple[Flag, ...] = ()
    usage: Usage = Usage()
    fingerprint: Fingerprint | None = None
    note: str = ""
