"""The question bank: YAML files in, checked `Question`s out; every complaint names file and line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import yaml
from pydantic import ValidationError

from coach.domain import Point, Question
from coach.errors import BankError, UsageError

# libyaml parses the whole bank in well under a second; the pure-Python loader needs ten times as long.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_Base):  # type: ignore[misc]
    """YAML 1.2 booleans: only true and false. In YAML 1.1 the id `no` would silently become False."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, rx) for tag, rx in rules if tag != "tag:yaml.org,2002:bool"]
        for first, rules in _Base.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF")
)


def _line_of(node: yaml.Node, path: tuple[int | str, ...]) -> int:
    """Line of the deepest part of `path` that exists below `node`, 1-based."""
    for key in path:
        child: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            child = next((v for k, v in node.value if k.value == str(key)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            child = node.value[key]
        if child is None:
            break
        node = child
    return int(node.start_mark.line) + 1


def _compose(path: Path) -> tuple[yaml.Node, Any]:
    """(node tree with lines, plain data) of one YAML file."""
    try:
        text = path.read_text(encoding="utf8")
    except FileNotFoundError as e:
        raise BankError(f"no such file: {path}") from e
    except UnicodeDecodeError as e:
        raise BankError(f"{path}: not UTF-8 (byte {e.start})", "save the file as UTF-8") from e
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise BankError(f"{path}:1: the file is empty")
        return node, loader.construct_document(node)
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise BankError(f"{path}:{line}: {e.problem or e}", "the file is not valid YAML") from e
    except (yaml.YAMLError, ValueError) as e:
        raise BankError(f"{path}: {e}", "the file is not valid YAML") from e
    finally:
        loader.dispose()


def _complaint(
    path: Path, node: yaml.Node, error: ValidationError, prefix: tuple[int | str, ...] = ()
) -> BankError:
    first = error.errors()[0]
    where = tuple(p for p in first["loc"] if not (isinstance(p, str) and p.startswith("function-")))
    line = _line_of(node, prefix + where)
    name = ".".join(str(p) for p in where) or "entry"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return BankError(f"{path}:{line}: {name}: {first['msg']}{more}")


def load_file(path: Path) -> Iterator[tuple[Question, int]]:
    """(question, line) for every entry of one bank file."""
    node, data = _compose(path)
    if not isinstance(data, list):
        raise BankError(f"{path}:1: a bank file is a list of questions, each starting with `- id:`")
    for i, entry in enumerate(data):
        try:
            yield Question.model_validate(entry), _line_of(node, (i,))
        except ValidationError as e:
            raise _complaint(path, node, e, (i,)) from e


def load_rubric(path: Path) -> tuple[Point, ...]:
    """Rubric of a question that is not in the bank: a YAML list of points, or a mapping with `rubric:`."""
    node, data = _compose(path)
    prefix: tuple[int | str, ...] = ()
    if isinstance(data, dict) and "rubric" in data:
        data, prefix = data["rubric"], ("rubric",)
    if not isinstance(data, list) or not data:
        raise BankError(f"{path}:1: a rubric file is a list of `- {{id: …, point: …, weight: …}}`")
    points = []
    for i, entry in enumerate(data):
        try:
            points.append(
                Point.model_validate({"point": entry, "id": f"p{i + 1}"} if isinstance(entry, str) else entry)
            )
        except ValidationError as e:
            raise _complaint(path, node, e, (*prefix, i)) from e
    if len({p.id for p in points}) != len(points):
        raise BankError(f"{path}:1: two points have the same id")
    return tuple(points)


class Bank:
    """All questions by id, and where each one stands."""

    def __init__(self, questions: dict[str, Question], places: dict[str, str]) -> None:
        self._questions = questions
        self.places = places

    def __len__(self) -> int:
        return len(self._questions)

    def __iter__(self) -> Iterator[Question]:
        return iter(self._questions.values())

    def __contains__(self, question_id: str) -> bool:
        return question_id in self._questions

    def get(self, question_id: str) -> Question:
        """UsageError with near ids when there is no such question."""
        if question_id in self._questions:
            return self._questions[question_id]
        near = difflib.get_close_matches(question_id, self._questions, n=3, cutoff=0.5)
        near += [i for i in self._questions if question_id and question_id in i and i not in near][
            : 3 - len(near)
        ]
        hint = f"did you mean {', '.join(near)}?" if near else "list them with: coach bank list"
        raise UsageError(f"no question {question_id!r} in the bank", hint)

    def select(
        self,
        *,
        topic: str | None = None,
        kind: str | None = None,
        company: str | None = None,
        difficulty: int | None = None,
    ) -> list[Question]:
        """Questions that meet every given condition, most frequent first."""
        found = [
            q
            for q in self
            if (topic is None or q.topic == topic)
            and (kind is None or q.kind == kind)
            and (company is None or any(company in c for c in q.companies))
            and (difficulty is None or q.difficulty == difficulty)
        ]
        return sorted(found, key=lambda q: (-q.frequency, q.id))


def load_bank(folder: Path, own: Path | None = None) -> Bank:
    """Every `*.yaml` of `folder`, in name order, then those of `own`, which may be empty or missing.

    BankError when `folder` has none, or an id stands twice.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise BankError(
            f"no bank files in {folder}", "a bank is a folder of YAML files; see knowledge/questions"
        )
    files += sorted(own.glob("*.yaml")) if own else []
    questions: dict[str, Question] = {}
    places: dict[str, str] = {}
    for path in files:
        for question, line in load_file(path):
            place = f"{path.name}:{line}"
            if question.id in questions:
                raise BankError(f"{path}:{line}: id {question.id!r} is already used at {places[question.id]}")
            questions[question.id] = question
            places[question.id] = place
    return Bank(questions, places)


def find_question(folder: Path, question_id: str, own: Path | None = None) -> Question:
    """One question without parsing the whole bank: only files that contain the id are read."""
    for path in (*sorted(folder.glob("*.yaml")), *(sorted(own.glob("*.yaml")) if own else ())):
        if f"id: {question_id}\n" in path.read_text(encoding="utf8", errors="replace"):
            for question, _ in load_file(path):
                if question.id == question_id:
                    return question
    return load_bank(folder, own).get(question_id)
