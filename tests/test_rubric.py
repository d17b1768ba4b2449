"""A reference answer cut into points."""

import pytest

from coach.errors import UsageError
from coach.rubric import MAX_POINTS, points_from_reference


def cut(reference: str) -> list[str]:
    return [p.text for p in points_from_reference(reference)]


@pytest.mark.parametrize(
    ("reference", "points"),
    [
        ("温度是 logits 的除数。温度越高分布越平！", ["温度是 logits 的除数", "温度越高分布越平"]),
        # The verdict of "true or false, and why" is no point of its own, and must not be lost.
        ("错误。栈里的元素不一定有序。", ["错误；栈里的元素不一定有序"]),
        ("栈里的元素不一定有序。错误。", ["栈里的元素不一定有序；错误"]),
        ("1. 先进后出。2、只在一端操作。（3）可以用数组实现", ["先进后出", "只在一端操作", "可以用数组实现"]),
        ("进栈次序为3、6、…、3n.而栈是后进先出。", ["进栈次序为3、6、…、3n", "而栈是后进先出"]),
        (
            "It takes 1.5 bits. 2) A stack is LIFO, see f(1).",
            ["It takes 1.5 bits", "A stack is LIFO, see f(1)"],
        ),
        ("v1.2 起支持，快 3.5 倍", ["v1.2 起支持，快 3.5 倍"]),
    ],
)
def test_reference_becomes_statements(reference: str, points: list[str]) -> None:
    assert cut(reference) == points


def test_steps_of_an_example_are_joined_before_statements() -> None:
    statements = [f"第{i}个论点讲的是一件足够长的事情，不该和别的论点并在一起" for i in range(6)]
    steps = ["比较 3 和 1", "比较 3 和 4", "比较 4 和 5"]
    found = cut("。".join([*statements, *steps]))
    assert len(found) == MAX_POINTS
    assert found[:6] == statements
    assert found[6] == "；".join(steps)


def test_reference_without_a_statement_is_refused() -> None:
    for reference in ("", "是。", "1. 2."):
        with pytest.raises(UsageError, match="no sentence"):
            points_from_reference(reference)
