"""A snapshot of the input in a scratch SQLite file: bounded memory for any number of rows, any order of work.

It is never the truth: every run builds it anew from the input and from grades.jsonl, so it needs no durability.
Rows are read once; an input that changes afterwards does not matter to this run.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coach.batch.records import Record, error_key
from coach.batch.store import StoreError, scan
from coach.domain import Question

_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -32000;
CREATE TABLE rows (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, place TEXT NOT NULL, candidate TEXT NOT NULL,
    qkey TEXT NOT NULL, question_id TEXT NOT NULL, content TEXT NOT NULL, key TEXT NOT NULL,
    answer TEXT NOT NULL, error TEXT NOT NULL);
CREATE TABLE questions (qkey TEXT PRIMARY KEY, json TEXT NOT NULL);
CREATE TABLE grades (
    key TEXT NOT NULL, id TEXT NOT NULL, offset INTEGER NOT NULL, length INTEGER NOT NULL,
    status TEXT NOT NULL, retry INTEGER NOT NULL, PRIMARY KEY (key, id)) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row in the spool. `error` is the reason why it cannot be graded at all."""

    seq: int
    id: str
    place: str
    candidate: str
    qkey: str
    question_id: str
    content: str
    key: str
    answer: str
    error: str


class Spool:
    """Used from one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        for leftover in (path, path.with_name(path.name + "-journal")):
            with contextlib.suppress(FileNotFoundError):
                leftover.unlink()
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.executescript(_SCHEMA)
            self._db.execute("BEGIN")
        except sqlite3.Error as e:
            raise StoreError(f"{path}: {e}", "choose another folder with -o") from e
        self._questions: dict[str, Question] = {}
        self.count = 0

    def add(
        self,
        *,
        row_id: str,
        place: str,
        candidate: str = "",
        question: tuple[str, Question] | None = None,
        question_id: str = "",
        content: str = "",
        key: str = "",
        answer: str = "",
        error: str = "",
    ) -> bool:
        """False when `row_id` is taken; then nothing was added."""
        seq = self.count + 1
        try:
            self._db.execute(
                "INSERT INTO rows VALUES (?,?,?,?,?,?,?,?,?,?)",
                (
                    seq,
                    row_id,
                    place,
                    candidate,
                    question[0] if question else "",
                    question[1].id if question else question_id,
                    content,
                    key or error_key(row_id, error),
                    answer,
                    error,
                ),
            )
            if question:
                self._db.execute(
                    "INSERT OR IGNORE INTO questions VALUES (?, ?)",
                    (question[0], question[1].model_dump_json()),
                )
        except sqlite3.IntegrityError:
            return False
        except sqlite3.Error as e:
            raise StoreError(f"{self._path}: {e}", "make room and run again") from e
        self.count = seq
        return True

    def place_of(self, row_id: str) -> str:
        found = self._db.execute("SELECT place FROM rows WHERE id = ?", (row_id,)).fetchone()
        return str(found[0]) if found else ""

    def question(self, qkey: str) -> Question:
        if qkey not in self._questions:
            found = self._db.execute("SELECT json FROM questions WHERE qkey = ?", (qkey,)).fetchone()
            if len(self._questions) > 5000:
                self._questions.clear()
            self._questions[qkey] = Question.model_validate_json(found[0])
        return self._questions[qkey]

    def load_grades(self, path: Path | None) -> int:
        """Index what earlier runs finished; the last record of a row counts. Returns how many lines were unreadable."""
        self._db.execute("DELETE FROM grades")
        broken = 0
        for offset, length, record in scan(path) if path else ():
            if record is None:
                broken += 1
            else:
                self.put(record, offset, length)
        self._db.execute("CREATE INDEX IF NOT EXISTS by_key ON rows (key)")
        return broken

    def put(self, record: Record, offset: int, length: int) -> None:
        try:
            self._db.execute(
                "INSERT OR REPLACE INTO grades VALUES (?,?,?,?,?,?)",
                (record["key"], record["id"], offset, length, record["status"], int(record["retry"])),
            )
        except sqlite3.Error as e:
            raise StoreError(f"{self._path}: {e}", "make room and run again") from e

    def _entries(self, sql: str, *values: object) -> Iterator[Entry]:
        for row in self._db.cursor().execute(sql, values):
            yield Entry(*row)

    def unreported_errors(self) -> Iterator[Entry]:
        """Rows that cannot be graded and have no record that says so."""
        return self._entries(
            "SELECT r.* FROM rows r LEFT JOIN grades g ON g.key = r.key AND g.id = r.id "
            "WHERE r.error <> '' AND g.key IS NULL ORDER BY r.seq"
        )

    def known_elsewhere(self) -> list[tuple[str, str, str, str, str, int, int]]:
        """Rows without a final record whose very content another row's record has graded.

        (id, place, candidate, question id, that other id, offset, length)
        """
        sql = (
            "SELECT r.id, r.place, r.candidate, r.question_id, d.id, d.offset, d.length FROM rows r "
            "JOIN grades d ON d.key = r.key AND d.retry = 0 AND d.id <> r.id "
            "LEFT JOIN grades g ON g.key = r.key AND g.id = r.id AND g.retry = 0 "
            "WHERE r.error = '' AND g.key IS NULL GROUP BY r.seq"
        )
        return self._db.execute(sql).fetchall()

    def plan(self, limit: int | None = None) -> int:
        """Fix what is to be graded: one row per content, rows of one question together. Returns their number."""
        self._db.execute("DROP TABLE IF EXISTS todo")
        self._db.execute(
            "CREATE TABLE todo AS SELECT MIN(r.seq) AS seq FROM rows r "
            "LEFT JOIN grades g ON g.key = r.key AND g.id = r.id AND g.retry = 0 "
            "WHERE r.error = '' AND g.key IS NULL AND r.seq <= ? GROUP BY r.key ORDER BY r.qkey, 1",
            (limit if limit is not None else self.count,),
        )
        return int(self._db.execute("SELECT COUNT(*) FROM todo").fetchone()[0])

    def todo(self) -> Iterator[Entry]:
        return self._entries("SELECT r.* FROM todo t JOIN rows r ON r.seq = t.seq ORDER BY t.rowid")

    def is_done(self, entry: Entry) -> bool:
        found = self._db.execute(
            "SELECT 1 FROM grades WHERE key = ? AND id = ? AND retry = 0", (entry.key, entry.id)
        ).fetchone()
        return found is not None

    def sharing(self, key: str) -> list[Entry]:
        """Every row with this content."""
        return list(self._entries("SELECT * FROM rows WHERE key = ? ORDER BY seq", key))

    def finished(self, by_question: bool = False) -> Iterator[tuple[Entry, int, int]]:
        """(row, offset, length) of every row that has a record, in input order or question by question."""
        order = "r.qkey, r.seq" if by_question else "r.seq"
        sql = f"SELECT r.*, g.offset, g.length FROM rows r JOIN grades g ON g.key = r.key AND g.id = r.id ORDER BY {order}"
        for row in self._db.cursor().execute(sql):
            yield Entry(*row[:10]), row[10], row[11]

    def is_current(self, offset: int, record: Record) -> bool:
        """Is the record at `offset` the last word on a row of this input?"""
        found = self._db.execute(
            "SELECT 1 FROM grades g JOIN rows r ON r.key = g.key AND r.id = g.id "
            "WHERE g.key = ? AND g.id = ? AND g.offset = ?",
            (record["key"], record["id"], offset),
        ).fetchone()
        return found is not None

    def counts(self) -> dict[str, int]:
        """Rows by status: ok, unjudged, error, and `missing` for those without a record."""
        sql = (
            "SELECT COALESCE(g.status, 'missing'), COUNT(*) FROM rows r "
            "LEFT JOIN grades g ON g.key = r.key AND g.id = r.id GROUP BY 1"
        )
        return {"ok": 0, "unjudged": 0, "error": 0, "missing": 0} | dict(self._db.execute(sql).fetchall())

    def records(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM grades").fetchone()[0])

    def sample(self, n: int) -> list[Entry]:
        """n gradable rows spread evenly over the input."""
        total = int(self._db.execute("SELECT COUNT(*) FROM rows WHERE error = ''").fetchone()[0])
        step = max(1, total // max(1, n))
        return list(
            self._entries(
                "SELECT seq, id, place, candidate, qkey, question_id, content, key, answer, error FROM "
                "(SELECT *, ROW_NUMBER() OVER (ORDER BY seq) AS n FROM rows WHERE error = '') WHERE (n - 1) % ? = 0 LIMIT ?",
                step,
                n,
            )
        )

    def tally(self) -> tuple[int, int, int]:
        """(gradable rows, distinct contents, questions)."""
        found = self._db.execute(
            "SELECT COUNT(*), COUNT(DISTINCT key), COUNT(DISTINCT qkey) FROM rows WHERE error = ''"
        ).fetchone()
        return int(found[0]), int(found[1]), int(found[2])

    def reasons(self, most: int = 20) -> list[tuple[str, str]]:
        """The first rows that cannot be graded: (place, reason)."""
        return [
            (str(p), str(e))
            for p, e in self._db.execute(
                "SELECT place, error FROM rows WHERE error <> '' ORDER BY seq LIMIT ?", (most,)
            )
        ]

    def close(self) -> None:
        self._db.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
