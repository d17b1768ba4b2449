from __future__ import annotations

import pytest

from coach.config import Settings
from coach.domain import Point
from coach.followups import fault_of, generate
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
