"""A run on disk: what was asked, and one line for every judged item, appended the moment it is judged.

    run.json        what makes the run what it is; written before the first item
    cases.jsonl     the cases, questions.jsonl their questions: a report needs nothing else
    items.jsonl     append-only, one record a line, keyed by content hash
    floors.json     predictions of the floors, written once at the end

A kill -9 can leave at most one torn last line, which the next run cuts off.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from coach.config import PACKAGE
from coach.domain import Fingerprint, Flag, PitfallHit, Question, Score, Usage, Verdict
from coach.errors import UsageError
from coach.evals.cases import EvalCase, EvalSet
from coach.text import sha256

System = Literal["grader", "holistic"]


class Asked(BaseModel):
    """The follow-up that the grade ended with."""

    model_config = ConfigDict(frozen=True)

    ask: str
    targets: tuple[str, ...]
    generated: bool


class Record(BaseModel):
    """One judged item. `status` error means that the reply could not be used; `error` says why."""

    model_config = ConfigDict(frozen=True)

    key: str
    case_id: str
    system: System = "grader"
    repeat: int = 0
    status: Literal["ok", "unjudged", "error"]
    score: Score | None = None
    verdicts: tuple[Verdict, ...] = ()
    pitfalls: tuple[PitfallHit, ...] = ()
    flags: tuple[Flag, ...] = ()
    follow_up: Asked | None = None
    note: str = ""
    error: str = ""
    usage: Usage = Usage()


class Meta(BaseModel):
    """What makes a run what it is. Two runs with equal `digest` do the same work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    split: str
    created: str
    fingerprint: Fingerprint
    code: str
    cases: str
    repeats: int
    holistic: str
    selection: dict[str, Any]
    derived_from: str = ""

    @property
    def digest(self) -> str:
        work = self.model_dump(exclude={"name", "created", "selection"}, mode="json")
        return sha256(json.dumps(work, sort_keys=True))[:8]


def code_version() -> str:
    """Hash of the source that turns an answer into a grade: an edit without a new version is a new grader too."""
    names = ["grade.py", "score.py", "text.py", "retrieve.py", "domain.py", "prompts.py"]
    files = [PACKAGE / n for n in names]
    files += sorted(p for part in ("judge", "llm", "index") for p in (PACKAGE / part).rglob("*.py"))
    return sha256("\0".join(p.read_text(encoding="utf8") for p in files if p.is_file()))[:12]


def item_key(
    case: EvalCase, question: Question, fingerprint: Fingerprint, code: str, repeat: int, system: str
) -> str:
    """Content hash of everything that decides a grade, and the repeat: a repeat is never answered from another."""
    asked = [case.answer, case.order, question.model_dump_json(), fingerprint.model_dump_json(), code]
    return sha256(json.dumps([system, repeat, case.id, *asked], ensure_ascii=False))[:24]


def write_atomic(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf8")
    temporary.replace(path)


class Run:
    """One run's folder, opened for reading or appending."""

    def __init__(self, folder: Path, meta: Meta) -> None:
        self.folder = folder
        self.meta = meta
        self._write = threading.Lock()

    @classmethod
    def create(cls, folder: Path, meta: Meta, cases: EvalSet) -> Run:
        """Start a run, or go on with one that does the same work; UsageError when the folder holds another."""
        if (folder / "run.json").is_file():
            run = cls.open(folder)
            if run.meta.digest != meta.digest:
                raise UsageError(
                    f"{folder} holds a run with other settings, cases or code",
                    "choose another --name, or delete the folder",
                )
            return run
        used = sorted({c.question_id for c in cases.cases})
        write_atomic(folder / "cases.jsonl", "".join(f"{c.model_dump_json()}\n" for c in cases.cases))
        write_atomic(
            folder / "questions.jsonl", "".join(f"{cases.questions[i].model_dump_json()}\n" for i in used)
        )
        write_atomic(folder / "run.json", meta.model_dump_json(indent=2))
        return cls(folder, meta)

    @classmethod
    def open(cls, folder: Path) -> Run:
        path = folder / "run.json"
        try:
            return cls(folder, Meta.model_validate_json(path.read_text(encoding="utf8")))
        except FileNotFoundError as e:
            raise UsageError(
                f"no run at {folder}", "coach eval run makes one; coach eval list shows them"
            ) from e
        except ValidationError as e:
            raise UsageError(f"{path}: not the description of a run: {e.errors()[0]['msg']}") from e

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Two processes must not judge the same items twice; UsageError when another one is at it."""
        import filelock

        lock = filelock.FileLock(self.folder / ".lock")
        try:
            with lock.acquire(timeout=0):
                yield
        except filelock.Timeout as e:
            raise UsageError(
                f"another process works on {self.folder}", "wait for it, or choose --name"
            ) from e

    @property
    def cases(self) -> EvalSet:
        cases = tuple(EvalCase.model_validate_json(x) for x in _lines(self.folder / "cases.jsonl"))
        rows = (Question.model_validate_json(x) for x in _lines(self.folder / "questions.jsonl"))
        return EvalSet(self.meta.split, cases, {q.id: q for q in rows})

    def records(self) -> dict[str, Record]:
        """Every finished item by key. A torn last line is cut off; a broken line elsewhere is an error."""
        path = self.folder / "items.jsonl"
        if not path.is_file():
            return {}
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        found: dict[str, Record] = {}
        for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
            try:
                record = Record.model_validate_json(line)
            except ValidationError as e:
                raise UsageError(
                    f"{path}:{number}: not a record: {e.errors()[0]['msg']}", "delete the line and run again"
                ) from e
            found[record.key] = record
        return found

    def mend(self) -> None:
        """Cut off what a killed process left half written. Only under the lock."""
        path = self.folder / "items.jsonl"
        if path.is_file():
            data = path.read_bytes()
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                with path.open("r+b") as f:
                    f.truncate(whole)

    def append(self, record: Record) -> None:
        line = (record.model_dump_json(exclude_defaults=True) + "\n").encode()
        with self._write, (self.folder / "items.jsonl").open("ab", buffering=0) as f:
            f.write(line)
            os.fsync(f.fileno())

    def floors(self) -> dict[str, Any]:
        path = self.folder / "floors.json"
        return dict(json.loads(path.read_text(encoding="utf8"))) if path.is_file() else {}

    def write_floors(self, floors: dict[str, Any]) -> None:
        write_atomic(self.folder / "floors.json", json.dumps(floors, ensure_ascii=False))


def _lines(path: Path) -> list[str]:
    # Not splitlines: an answer may hold U+2028, which JSON leaves as it is.
    return [x for x in path.read_text(encoding="utf8").split("\n") if x]
