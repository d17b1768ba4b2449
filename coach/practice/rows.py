"""What the store holds: its schema, version by version, and one frozen value object per row."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from coach.domain import FollowUp, Grade, Question

# One entry per schema version; entry n brings a file from version n to n + 1. Never edit an entry: append one.
MIGRATIONS = (
    """
    CREATE TABLE interviews (id INTEGER PRIMARY KEY AUTOINCREMENT, started REAL NOT NULL, ended REAL,
        config TEXT NOT NULL);
    CREATE TABLE rounds (id INTEGER PRIMARY KEY AUTOINCREMENT, interview INTEGER NOT NULL REFERENCES interviews,
        ordinal INTEGER NOT NULL, question TEXT NOT NULL, question_id TEXT NOT NULL, topic TEXT NOT NULL,
        stage TEXT NOT NULL, state TEXT NOT NULL, merged TEXT, score REAL, UNIQUE (interview, ordinal));
    CREATE TABLE turns (id INTEGER PRIMARY KEY AUTOINCREMENT, round INTEGER NOT NULL REFERENCES rounds,
        attempt INTEGER NOT NULL, follow_up TEXT, prompt TEXT NOT NULL, asked REAL NOT NULL, answered REAL,
        answer TEXT, status TEXT NOT NULL, guess REAL, grade TEXT, score REAL);
    CREATE INDEX turns_of_round ON turns (round);
    CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, interview INTEGER NOT NULL, round INTEGER,
        at REAL NOT NULL, kind TEXT NOT NULL, data TEXT NOT NULL);
    CREATE INDEX events_of_interview ON events (interview, kind);
    CREATE TABLE cards (question_id TEXT NOT NULL, point_id TEXT NOT NULL, topic TEXT NOT NULL, text TEXT NOT NULL,
        card TEXT NOT NULL, due REAL NOT NULL, PRIMARY KEY (question_id, point_id));
    CREATE INDEX cards_due ON cards (due);
    CREATE TABLE reviews (round INTEGER NOT NULL, point_id TEXT NOT NULL, at REAL NOT NULL, rating INTEGER NOT NULL,
        before TEXT, PRIMARY KEY (round, point_id));
    """,
    "ALTER TABLE turns ADD COLUMN draft TEXT NOT NULL DEFAULT '';",
)


@dataclass(frozen=True, slots=True)
class InterviewRow:
    id: int
    started: float
    ended: float | None
    config: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RoundRow:
    """A question and what has become of it. `state` is open, done, skipped or left (never tried); `merged` the grade so far."""

    id: int
    interview: int
    ordinal: int
    question: Question
    stage: str
    state: str
    merged: Grade | None


@dataclass(frozen=True, slots=True)
class TurnRow:
    """One prompt. `status` is asked, answered, graded or skipped; `follow_up` None means the question itself."""

    id: int
    round: int
    attempt: int
    follow_up: FollowUp | None
    prompt: str
    asked: float
    answered: float | None
    answer: str | None
    status: str
    guess: float | None
    grade: Grade | None
    draft: str


@dataclass(frozen=True, slots=True)
class EventRow:
    kind: str
    round: int | None
    at: float
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CardRow:
    """A scheduled point. `card` is the scheduler's own state as JSON."""

    question_id: str
    point_id: str
    topic: str
    text: str
    card: str
    due: float


@dataclass(frozen=True, slots=True)
class RoundScore:
    """The figures of a round. `score` in 0–100, None without a grade."""

    interview: int
    started: float
    topic: str
    question: str
    state: str
    score: float | None


@dataclass(frozen=True, slots=True)
class TurnScore:
    """The figures of an answered turn. `follow_up` is its type, None for the question itself."""

    guess: float | None
    score: float | None
    follow_up: str | None


def _grade(text: str | None) -> Grade | None:
    return Grade.model_validate_json(text) if text else None


def read_round(r: sqlite3.Row) -> RoundRow:
    question = Question.model_validate_json(r["question"])
    return RoundRow(
        r["id"], r["interview"], r["ordinal"], question, r["stage"], r["state"], _grade(r["merged"])
    )


def read_turn(r: sqlite3.Row) -> TurnRow:
    follow_up = FollowUp.model_validate_json(r["follow_up"]) if r["follow_up"] else None
    return TurnRow(
        r["id"], r["round"], r["attempt"], follow_up, r["prompt"], r["asked"], r["answered"], r["answer"],
        r["status"], r["guess"], _grade(r["grade"]), r["draft"],
    )  # fmt: skip
