"""Interviews on disk: one SQLite file in WAL mode, one row per question put, saved before it is shown.

Order is the order of row ids, never the clock: a clock that jumps back loses nothing. Times are Unix seconds.
A turn goes asked → answered → graded; `answered` is what a crash or a dead endpoint leaves behind, and can be graded
later. Every method that changes something is one transaction.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coach.domain import FollowUp, Grade, Question
from coach.errors import UsageError
from coach.practice.rows import (
    MIGRATIONS,
    CardRow,
    EventRow,
    InterviewRow,
    RoundRow,
    RoundScore,
    TurnRow,
    TurnScore,
    read_round,
    read_turn,
)  # fmt: skip


class Store:
    """UsageError when the file is damaged or was written by a newer coach. Safe for several processes at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._db.row_factory = sqlite3.Row
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            # FULL: what was answered survives a power cut, not only a killed process.
            self._db.execute("PRAGMA synchronous=FULL")
            self._migrate()
        except sqlite3.DatabaseError as e:
            self._db.close()
            raise UsageError(f"{path}: {e}", "move the file away; a new one is made at the next start") from e
        except UsageError:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def _migrate(self) -> None:
        with self._write():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise UsageError(
                    f"{self.path} was written by a newer coach (schema {version}, this one knows {len(MIGRATIONS)})",
                    "update the coach, or set COACH_HOME to another folder",
                )
            for step in MIGRATIONS[version:]:
                for statement in filter(str.strip, step.split(";")):
                    self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        # IMMEDIATE takes the write lock before anything is read, so a second process waits instead of failing.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # ── interviews ───────────────────────────────────────────────────────────────────────────────
    def begin(self, at: float, config: dict[str, Any]) -> int:
        with self._write() as db:
            cursor = db.execute(
                "INSERT INTO interviews (started, config) VALUES (?, ?)",
                (at, json.dumps(config, ensure_ascii=False)),
            )
        return int(cursor.lastrowid or 0)

    def interview(self, interview: int) -> InterviewRow:
        row = self._db.execute("SELECT * FROM interviews WHERE id = ?", (interview,)).fetchone()
        if row is None:
            raise UsageError(f"no interview {interview}", "coach history lists them")
        return InterviewRow(row["id"], row["started"], row["ended"], json.loads(row["config"]))

    def interviews(self) -> list[InterviewRow]:
        """Newest first."""
        rows = self._db.execute("SELECT * FROM interviews ORDER BY id DESC").fetchall()
        return [InterviewRow(r["id"], r["started"], r["ended"], json.loads(r["config"])) for r in rows]

    def configure(self, interview: int, config: dict[str, Any]) -> None:
        with self._write() as db:
            db.execute(
                "UPDATE interviews SET config = ? WHERE id = ?",
                (json.dumps(config, ensure_ascii=False), interview),
            )

    def end(self, interview: int, at: float) -> None:
        with self._write() as db:
            db.execute("UPDATE interviews SET ended = ? WHERE id = ? AND ended IS NULL", (at, interview))

    # ── rounds and turns ─────────────────────────────────────────────────────────────────────────
    def open_round(self, interview: int, ordinal: int, question: Question, stage: str, at: float) -> RoundRow:
        """The round and its first turn appear together: there is never a round nobody was asked."""
        with self._write() as db:
            cursor = db.execute(
                "INSERT INTO rounds (interview, ordinal, question, question_id, topic, stage, state)"
                " VALUES (?, ?, ?, ?, ?, ?, 'open')",
                (interview, ordinal, question.model_dump_json(), question.id, question.topic, stage),
            )
            round_id = int(cursor.lastrowid or 0)
            self._ask(round_id, None, question.question, 1, at)
        return RoundRow(round_id, interview, ordinal, question, stage, "open", None)

    def ask(
        self, round_id: int, follow_up: FollowUp | None, prompt: str, at: float, attempt: int = 1
    ) -> TurnRow:
        with self._write():
            turn = self._ask(round_id, follow_up, prompt, attempt, at)
        return self.turn(turn)

    def _ask(self, round_id: int, follow_up: FollowUp | None, prompt: str, attempt: int, at: float) -> int:
        cursor = self._db.execute(
            "INSERT INTO turns (round, attempt, follow_up, prompt, asked, status) VALUES (?, ?, ?, ?, ?, 'asked')",
            (round_id, attempt, follow_up.model_dump_json() if follow_up else None, prompt, at),
        )
        return int(cursor.lastrowid or 0)

    def answered(self, turn: int, answer: str, at: float, guess: float | None) -> None:
        with self._write() as db:
            db.execute(
                "UPDATE turns SET answer = ?, answered = ?, guess = ?, status = 'answered', draft = '' WHERE id = ?",
                (answer, at, guess, turn),
            )

    def graded(
        self,
        turn: int,
        grade: Grade,
        round_id: int,
        merged: Grade,
        state: str,
        cards: Sequence[tuple[CardRow, int]] = (),
        at: float = 0.0,
    ) -> None:
        """Grade, merged grade and — when the round is over — the schedule, all or nothing."""
        with self._write() as db:
            db.execute(
                "UPDATE turns SET grade = ?, score = ?, status = 'graded' WHERE id = ?",
                (grade.model_dump_json(), grade.score.value if grade.score else None, turn),
            )
            self._merge(round_id, merged, state)
            self._review(round_id, cards, at)

    def settle(
        self, round_id: int, merged: Grade | None, state: str, cards: Sequence[tuple[CardRow, int]], at: float
    ) -> None:
        """Close (or amend) a round without a new grade; turns still waiting for an answer are skipped with it."""
        with self._write() as db:
            if state != "open":
                db.execute(
                    "UPDATE turns SET status = 'skipped' WHERE round = ? AND status = 'asked'", (round_id,)
                )
            self._merge(round_id, merged, state)
            self._review(round_id, cards, at)

    def _merge(self, round_id: int, merged: Grade | None, state: str) -> None:
        score = merged.score.value if merged and merged.score else None
        self._db.execute(
            "UPDATE rounds SET merged = ?, score = ?, state = ? WHERE id = ?",
            (merged.model_dump_json() if merged else None, score, state, round_id),
        )

    def _review(self, round_id: int, cards: Sequence[tuple[CardRow, int]], at: float) -> None:
        for card, rating in cards:
            old = self.card(card.question_id, card.point_id)
            known = self._db.execute(
                "INSERT OR IGNORE INTO reviews (round, point_id, at, rating, before) VALUES (?, ?, ?, ?, ?)",
                (round_id, card.point_id, at, rating, old.card if old else None),
            )
            if known.rowcount:  # a point is reviewed once per round, however often the round is settled
                self._put_card(card)

    def _put_card(self, card: CardRow) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO cards (question_id, point_id, topic, text, card, due) VALUES (?, ?, ?, ?, ?, ?)",
            (card.question_id, card.point_id, card.topic, card.text, card.card, card.due),
        )

    def unreview(
        self, round_id: int, question_id: str, point_id: str, due_of: Callable[[str], float]
    ) -> bool:
        """Take back what a round did to a card. False when it did nothing. `due_of` reads the due time of a card."""
        with self._write() as db:
            row = db.execute(
                "SELECT before FROM reviews WHERE round = ? AND point_id = ?", (round_id, point_id)
            ).fetchone()
            if row is None:
                return False
            # The row stays, so that settling the round again does not review the point after all.
            db.execute(
                "UPDATE reviews SET rating = 0, before = NULL WHERE round = ? AND point_id = ?",
                (round_id, point_id),
            )
            key = (question_id, point_id)
            if row["before"] is None:
                db.execute("DELETE FROM cards WHERE question_id = ? AND point_id = ?", key)
            else:
                db.execute(
                    "UPDATE cards SET card = ?, due = ? WHERE question_id = ? AND point_id = ?",
                    (row["before"], due_of(row["before"]), *key),
                )
        return True

    def touch(self, turn: int, at: float) -> None:
        """The prompt is shown again after a break: the break is not the candidate's thinking time."""
        with self._write() as db:
            db.execute("UPDATE turns SET asked = ? WHERE id = ?", (at, turn))

    def draft(self, turn: int, text: str) -> None:
        with self._write() as db:
            db.execute("UPDATE turns SET draft = ? WHERE id = ?", (text, turn))

    def set_status(self, turn: int, status: str) -> None:
        with self._write() as db:
            db.execute("UPDATE turns SET status = ? WHERE id = ?", (status, turn))

    def turn(self, turn: int) -> TurnRow:
        return read_turn(self._db.execute("SELECT * FROM turns WHERE id = ?", (turn,)).fetchone())

    def round(self, round_id: int) -> RoundRow:
        return read_round(self._db.execute("SELECT * FROM rounds WHERE id = ?", (round_id,)).fetchone())

    def last_round(self, interview: int) -> RoundRow | None:
        row = self._db.execute(
            "SELECT * FROM rounds WHERE interview = ? ORDER BY ordinal DESC LIMIT 1", (interview,)
        ).fetchone()
        return read_round(row) if row else None

    def rounds(self, interview: int) -> list[RoundRow]:
        rows = self._db.execute("SELECT * FROM rounds WHERE interview = ? ORDER BY ordinal", (interview,))
        return [read_round(r) for r in rows]

    def turns(self, round_id: int) -> list[TurnRow]:
        rows = self._db.execute("SELECT * FROM turns WHERE round = ? ORDER BY id", (round_id,))
        return [read_turn(r) for r in rows]

    def waiting(self, interview: int, status: str) -> TurnRow | None:
        """The newest turn with this status: a retry comes before the question it interrupted."""
        row = self._db.execute(
            "SELECT turns.* FROM turns JOIN rounds ON rounds.id = turns.round"
            " WHERE rounds.interview = ? AND turns.status = ? ORDER BY turns.id DESC LIMIT 1",
            (interview, status),
        ).fetchone()
        return read_turn(row) if row else None

    def times(self, interview: int) -> list[tuple[float, float]]:
        """(asked, answered) of every answered turn."""
        rows = self._db.execute(
            "SELECT asked, answered FROM turns JOIN rounds ON rounds.id = turns.round"
            " WHERE rounds.interview = ? AND answered IS NOT NULL",
            (interview,),
        )
        return [(r["asked"], r["answered"]) for r in rows]

    def asked_ids(self, interview: int) -> set[str]:
        rows = self._db.execute("SELECT question_id FROM rounds WHERE interview = ?", (interview,))
        return {r["question_id"] for r in rows}

    # ── figures: columns only, so that years of interviews are read at once ──────────────────────
    def round_scores(self, interview: int | None = None) -> list[RoundScore]:
        rows = self._db.execute(
            "SELECT interview, started, topic, json_extract(question, '$.question'), state, score FROM rounds"
            " JOIN interviews ON interviews.id = interview WHERE ? IS NULL OR interview = ? ORDER BY rounds.id",
            (interview, interview),
        )
        return [RoundScore(*tuple(r)) for r in rows]

    def turn_scores(self, interview: int | None = None) -> list[TurnScore]:
        """Answered turns."""
        rows = self._db.execute(
            "SELECT guess, turns.score, json_extract(follow_up, '$.type') FROM turns"
            " JOIN rounds ON rounds.id = turns.round"
            " WHERE answer IS NOT NULL AND (? IS NULL OR interview = ?) ORDER BY turns.id",
            (interview, interview),
        )
        return [TurnScore(*tuple(r)) for r in rows]

    # ── events and cards ─────────────────────────────────────────────────────────────────────────
    def record(
        self, interview: int, round_id: int | None, at: float, kind: str, data: dict[str, Any]
    ) -> None:
        with self._write() as db:
            db.execute(
                "INSERT INTO events (interview, round, at, kind, data) VALUES (?, ?, ?, ?, ?)",
                (interview, round_id, at, kind, json.dumps(data, ensure_ascii=False)),
            )

    def events(self, interview: int, round_id: int | None = None) -> list[EventRow]:
        where, args = ("", (interview,)) if round_id is None else (" AND round = ?", (interview, round_id))
        rows = self._db.execute(f"SELECT * FROM events WHERE interview = ?{where} ORDER BY id", args)
        return [EventRow(r["kind"], r["round"], r["at"], json.loads(r["data"])) for r in rows]

    def cards(self, due_before: float | None = None) -> list[CardRow]:
        """Scheduled points, the longest overdue first."""
        limit = float("inf") if due_before is None else due_before
        rows = self._db.execute("SELECT * FROM cards WHERE due <= ? ORDER BY due", (limit,))
        return [CardRow(*tuple(r)) for r in rows]

    def card(self, question_id: str, point_id: str) -> CardRow | None:
        row = self._db.execute(
            "SELECT * FROM cards WHERE question_id = ? AND point_id = ?", (question_id, point_id)
        ).fetchone()
        return CardRow(*tuple(row)) if row else None
