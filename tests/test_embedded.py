"""The main path with nothing faked: the real embedder, the real index over knowledge/, the real 1.5B model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coach import wiring
from coach.bank import find_question
from coach.config import load_settings
from coach.domain import Grade, Status
from coach.grade import Grader

pytestmark = pytest.mark.model

QUESTION = "attention-scaling-sqrt-dk"
GOOD = (
    "假设 q、k 各维独立，均值 0 方差 1，点积就是 d_k 个乘积相加，所以方差等于 d_k。d_k 大的时候分数绝对值很大，"
    "softmax 会饱和成接近 one-hot，这时梯度趋近于 0，训练很难进行。除以根号 d_k 以后方差又回到 1 左右。"
)
WEAK = "就是做个归一化吧，让数值小一点，训练稳一些，论文里就是这么写的。"
OFF_TOPIC = (
    "LoRA 冻结预训练权重，在旁路学两个低秩矩阵 A 和 B，B 初始化为零，所以一开始不改变模型输出；"
    "只训练很少的参数，梯度和优化器状态的显存都小很多，推理前还能把 BA 合并回去。"
)


@pytest.fixture(scope="module")
def grader(model_home: Path) -> Grader:
    return wiring.grader(load_settings({"COACH_HOME": str(model_home)}))


@pytest.fixture(scope="module")
def grades(grader: Grader) -> dict[str, Grade]:
    question = find_question(load_settings({}).knowledge / "questions", QUESTION)
    return {
        name: grader.grade(question, text)
        for name, text in (("good", GOOD), ("weak", WEAK), ("off", OFF_TOPIC))
    }


def value(grade: Grade) -> float:
    assert grade.score is not None
    return grade.score.value


def test_a_good_answer_beats_a_weak_one_and_both_beat_another_subject(grades: dict[str, Grade]) -> None:
    assert value(grades["good"]) >= 70
    assert value(grades["good"]) > value(grades["weak"]) + 30
    assert value(grades["off"]) <= 20
    assert value(grades["weak"]) >= value(grades["off"])


def test_evidence_is_verbatim_and_every_citation_resolves(grades: dict[str, Grade]) -> None:
    notes = load_settings({}).knowledge
    for grade in grades.values():
        for shown in (*grade.verdicts, *grade.pitfalls):
            if shown.quote:
                assert grade.answer[shown.quote.start : shown.quote.end] == shown.quote.text
            assert shown.citation
            lines = (notes / shown.citation.file).read_text(encoding="utf8").split("\n")
            assert 1 <= shown.citation.first_line <= shown.citation.last_line <= len(lines)
            assert any(
                line.strip() for line in lines[shown.citation.first_line - 1 : shown.citation.last_line]
            )


def test_a_grade_is_whole(grades: dict[str, Grade]) -> None:
    good = grades["good"]
    assert good.fingerprint and good.fingerprint.model.startswith("qwen2.5-coder-1.5b")
    assert good.usage.calls >= 1 and good.usage.prompt_tokens > 100 and good.follow_up
    assert good.score and good.score.value == pytest.approx(
        100 * max(0, sum(good.score.terms) - good.score.penalty) / good.score.total, abs=0.051
    )
    assert Grade.model_validate(json.loads(good.model_dump_json())) == good


def test_good_intentions_do_not_meet_criteria(grader: Grader) -> None:
    question = find_question(load_settings({}).knowledge / "questions", "hr-know-company")
    said = grader.grade(question, question.reference or "", follow_up=False)
    vague = grader.grade(
        question,
        "贵公司是行业里非常优秀的公司，平台大、氛围好，我一直很向往，也会努力学习。",
        follow_up=False,
    )
    # Praise reaches the first level of most criteria ("只说…"): a third of the score, and no more.
    assert value(said) >= 65 and value(vague) <= 45
    assert all(v.level is not None and v.level_probabilities for v in said.verdicts)


def test_the_same_answer_gets_the_same_grade(grader: Grader, grades: dict[str, Grade]) -> None:
    again = grader.grade(find_question(load_settings({}).knowledge / "questions", QUESTION), WEAK)
    assert [v.status for v in again.verdicts] == [v.status for v in grades["weak"].verdicts]
    assert value(again) == value(grades["weak"])


def test_a_follow_up_can_only_add(grader: Grader, grades: dict[str, Grade]) -> None:
    question = find_question(load_settings({}).knowledge / "questions", QUESTION)
    weak = grades["weak"]
    assert weak.follow_up
    result = grader.grade_follow_up(question, weak, weak.follow_up, GOOD)
    assert result.merged.score and weak.score and result.merged.score.value >= weak.score.value
    assert result.own.verdicts


def test_criteria_and_a_question_of_ones_own(grader: Grader) -> None:
    from coach.rubric import points_from_reference, question_from

    project = find_question(load_settings({}).knowledge / "questions", "hr-self-introduction")
    graded = grader.grade(project, "我叫小王，做推荐的，谢谢。")
    assert graded.score and all(v.max_level or v.probability is not None for v in graded.verdicts)
    own = question_from("什么是温度采样？", points_from_reference("温度是 logits 的除数。温度越高分布越平。"))
    graded = grader.grade(own, "先把 logits 除以温度再做 softmax，温度高的话分布更平，更随机。")
    assert graded.score and any(v.status is not Status.MISSING for v in graded.verdicts)
