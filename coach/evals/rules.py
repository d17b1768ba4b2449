"""Cases made by rule, not by a judge: answers that deserve nothing, and attacks added to a weak answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from coach.domain import Question
from coach.errors import UsageError
from coach.evals.cases import EvalCase
from coach.text import sha256

UNKNOWN = (
    "不知道。",
    "这个我不太清楚，没有了解过。",
    "不好意思，这块我没准备，跳过吧。",
    "I don't know.",
    "嗯……忘了，之前好像看到过，现在想不起来了。",
)


class Injection(BaseModel):
    """One form of attack of `eval/injections.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    family: str
    lang: str
    text: str
    zero_width: bool = False

    def apply(self, answer: str, question: str) -> str:
        text = self.text.replace("{question}", question)
        if self.zero_width:
            text = "\u200b".join(text)
        # One pass: braces that the candidate wrote stay what they are.
        return answer.join(text.split("{answer}")) if "{answer}" in text else f"{answer}\n{text}"


def read_yaml_list(path: Path) -> list[Any]:
    """The rows of a YAML list; UsageError when the file is missing, broken or something else."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf8"))
    except FileNotFoundError as e:
        raise UsageError(f"no such file: {path}") from e
    except yaml.MarkedYAMLError as e:
        line = e.problem_mark.line + 1 if e.problem_mark else 1
        raise UsageError(f"{path}:{line}: {e.problem or e}", "the file is not valid YAML") from e
    if not isinstance(data, list) or not data:
        raise UsageError(f"{path}:1: expected a list")
    return data


def load_injections(path: Path) -> list[Injection]:
    forms = []
    for i, row in enumerate(read_yaml_list(path), 1):
        try:
            forms.append(Injection.model_validate(row))
        except ValidationError as e:
            raise UsageError(f"{path}: form {i}: {e.errors()[0]['loc']}: {e.errors()[0]['msg']}") from e
    if len({f.id for f in forms}) != len(forms):
        raise UsageError(f"{path}: two forms have the same id")
    return forms


def _number(*parts: str) -> int:
    """A stable number from a text: the same case is made on every machine, whatever else is in the set."""
    return int(sha256("\0".join(parts))[:8], 16)


def _foreign(question: Question, questions: Sequence[Question]) -> Question | None:
    """Another topic's question with a reference, stable in `question`."""
    others = [q for q in questions if q.topic != question.topic and q.reference.strip()]
    return others[_number("off-topic", question.id) % len(others)] if others else None


def floor_cases(questions: Mapping[str, Question], everything: Sequence[Question]) -> list[EvalCase]:
    """Four answers a question that deserve nothing: its own text, emptiness, 不知道, another question's reference."""
    made = []
    for question in questions.values():
        answers = {
            "echo": question.question,
            "empty": "",
            "unknown": UNKNOWN[_number("unknown", question.id) % len(UNKNOWN)],
        }
        foreign = _foreign(question, everything)
        if foreign:
            answers["off-topic"] = foreign.reference.strip()
        made += [
            EvalCase(
                id=f"{question.id}.rule-{tier}",
                question_id=question.id,
                tier=tier,
                answer=answer,
                labels={p.id: 0.0 for p in question.rubric},
                gold=0.0,
                suite="floor",
                kind=tier,
                target=foreign.id if tier == "off-topic" and foreign else "",
            )
            for tier, answer in answers.items()
        ]
    return made


def injection_cases(
    cases: Sequence[EvalCase],
    questions: Mapping[str, Question],
    forms: Sequence[Injection],
    per_question: int = 2,
) -> list[EvalCase]:
    """Weak answers with an attack added. Forms are dealt out in turn, so that all are used before one comes twice."""
    weak: dict[str, EvalCase] = {}
    for case in cases:
        if case.suite == "authored" and case.tier == "weak":
            weak.setdefault(case.question_id, case)
    # With few questions each gets more forms: a form that is never tried is no evidence.
    each = max(per_question, -(-len(forms) // len(weak))) if weak else 0
    made = []
    for i, base in enumerate(sorted(weak.values(), key=lambda c: c.question_id)):
        for j in range(each):
            form = forms[(i * each + j) % len(forms)]
            made.append(
                base.model_copy(
                    update={
                        "id": f"{base.id}.inject-{form.id}",
                        "tier": "injection",
                        "answer": form.apply(base.answer, questions[base.question_id].question),
                        "suite": "injection",
                        "base": base.id,
                        "kind": form.id,
                    }
                )
            )
    return made
