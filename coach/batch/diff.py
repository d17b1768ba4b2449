"""Two runs side by side: the same answers, graded twice or by two graders."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coach.batch.records import Record
from coach.batch.run import GRADES
from coach.batch.stats import Pair
from coach.batch.store import scan
from coach.errors import UsageError


@dataclass(frozen=True, slots=True)
class Change:
    id: str
    question_id: str
    before: float | None
    after: float | None
    verdicts: tuple[str, ...]

    @property
    def size(self) -> float:
        return abs((self.after or 0.0) - (self.before or 0.0))


@dataclass(slots=True)
class Diff:
    """`scores` holds (before, after) sums; `flips` counts verdicts `a → b`."""

    both: int = 0
    only_a: int = 0
    only_b: int = 0
    same_score: int = 0
    same_verdicts: int = 0
    verdicts: int = 0
    status_changed: int = 0
    absolute: float = 0.0
    scores: Pair = field(default_factory=Pair)
    flips: dict[str, int] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    graders: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))

    def as_dict(self, most: int) -> dict[str, Any]:
        n = self.scores.n
        return {
            "rows_in_both": self.both,
            "only_in_a": self.only_a,
            "only_in_b": self.only_b,
            "graders": {"a": self.graders[0], "b": self.graders[1]},
            "same_score": self.same_score,
            "status_changed": self.status_changed,
            "mean_absolute_difference": round(self.absolute / n, 3) if n else None,
            "mean_difference": round((self.scores.y - self.scores.x) / n, 3) if n else None,
            "correlation": None if self.scores.correlation is None else round(self.scores.correlation, 4),
            "same_verdicts": round(self.same_verdicts / self.verdicts, 4) if self.verdicts else None,
            "verdict_changes": dict(sorted(self.flips.items(), key=lambda kv: -kv[1])),
            "largest": [
                {
                    "id": c.id,
                    "question_id": c.question_id,
                    "before": c.before,
                    "after": c.after,
                    "verdicts": list(c.verdicts),
                }
                for c in sorted(self.changes, key=lambda c: -c.size)[:most]
            ],
        }


_Brief = tuple[str, str, "float | None", dict[str, str]]


def _grades_file(path: Path) -> Path:
    file = path / GRADES if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{path}: there is no {GRADES}", "name the output folder of a batch run")
    return file


def _load(path: Path, graders: list[str]) -> dict[tuple[str, str], _Brief]:
    """(id, content) → what is compared; the last record of a row counts."""
    out: dict[tuple[str, str], _Brief] = {}
    for _, _, record in scan(_grades_file(path)):
        if record is None or not record.get("content"):
            continue
        name = _grader(record)
        if name and name not in graders:
            graders.append(name)
        out[(record["id"], record["content"])] = (
            record["question_id"],
            record["status"],
            record["score"],
            {v["point"]: v["status"] for v in record["verdicts"]},
        )
    return out


def _grader(record: Record) -> str:
    f = record.get("fingerprint")
    return f"{f['model']} {f['judge']} {f['calibration']}" if f else ""


def diff(a: Path, b: Path) -> Diff:
    """Rows are the same when id, question, rubric and answer are. UsageError when a folder holds no grades."""
    made = Diff()
    before, after = _load(a, made.graders[0]), _load(b, made.graders[1])
    made.only_a = len(before.keys() - after.keys())
    made.only_b = len(after.keys() - before.keys())
    for key in before.keys() & after.keys():
        made.both += 1
        question_id, status_a, score_a, points_a = before[key]
        _, status_b, score_b, points_b = after[key]
        made.status_changed += status_a != status_b
        moved = []
        for point in points_a.keys() & points_b.keys():
            made.verdicts += 1
            if points_a[point] == points_b[point]:
                made.same_verdicts += 1
            else:
                flip = f"{points_a[point]} → {points_b[point]}"
                made.flips[flip] = made.flips.get(flip, 0) + 1
                moved.append(f"{point}: {flip}")
        made.same_score += score_a == score_b
        if score_a is not None and score_b is not None:
            made.scores.add(score_a, score_b)
            made.absolute += abs(score_a - score_b)
        if score_a != score_b or moved:
            made.changes.append(Change(key[0], question_id, score_a, score_b, tuple(sorted(moved))))
    return made
