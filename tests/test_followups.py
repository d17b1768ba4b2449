from __future__ import annotations

import pytest

from coach.config import Settings
from coach.domain import Point, Status, Verdict
from coach.followups import fault_of, gap_of, generate
from tests.fakes import ScriptedLLM

POINT = Point(id="p", point="KV Cache 的显存随序列长度线性增长")


@pytest.mark.parametrize(
    ("ask", "fault"),
    [
        ("推理时缓存占的空间和什么有关？", ""),
        ("很好。", "not one question"),
        ("为什么？怎么办？", "not one question"),
        ("KV Cache 显存是不是随序列长度线性增长？", "gives the point away"),
        ("什么是 KV Cache？", "repeats an earlier question"),
        ("请问" + "很" * 90 + "吗？", "too long"),
    ],
)
def test_generated_questions_are_checked_by_code(ask: str, fault: str) -> None:
    assert fault_of(ask, POINT.text, ["什么是 KV Cache？"]) == fault


def test_a_model_that_cannot_ask_is_replaced_by_a_template(settings: Settings) -> None:
    made, usage = generate(
        settings, ScriptedLLM(lambda m: "回答得很好。"), "什么是 KV Cache？", "缓存", POINT, ""
    )
    assert made.generated and made.ask.endswith("？") and "线性" not in made.ask and usage.calls == 2


def test_a_good_question_is_taken(settings: Settings) -> None:
    made, _ = generate(
        settings,
        ScriptedLLM(lambda m: "追问：上下文变长以后代价在哪里？"),
        "什么是 KV Cache？",
        "缓存",
        POINT,
        "",
    )
    assert made.ask == "上下文变长以后代价在哪里？" and made.targets == ("p",)


def test_a_question_about_something_else_is_refused() -> None:
    about = "什么是 KV Cache？ 缓存 " + POINT.text
    assert fault_of("你平时喜欢吃苹果吗？", POINT.text, [], about) == "is not about the target"
    assert fault_of("推理时缓存占的空间和什么有关？", POINT.text, [], about) == ""


def test_what_was_hardly_said_is_asked_before_what_was_half_said() -> None:
    def partial(point: str, weight: int, p: float) -> Verdict:
        return Verdict(point_id=point, text=point, weight=weight, status=Status.PARTIAL, probability=p)

    points = [Point(id="half", point="很重的一点，说了一半"), Point(id="hardly", point="轻的一点，几乎没说")]
    found = gap_of([partial("half", 3, 0.5), partial("hardly", 1, 0.25)], points)
    assert found and found.id == "hardly"
