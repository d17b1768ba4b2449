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


@pytest.mark.parametrize(
    ("reference", "points"),
    [
        ("栈是后进先出。例如进 1、2，出 2、1。只在一端操作。", ["栈是后进先出", "只在一端操作"]),
        # The steps speak of the example's numbers, and a colon leads on to them.
        (
            "会反向移动。举个例子：[ 3, 1, 2 ]。规则是两两比较：1. 比较 3 和 1，交换。2. 比较 3 和 2，交换。"
            "我们注意到 2 动了。快速排序没有这种现象。",
            ["会反向移动", "快速排序没有这种现象"],
        ),
        ("A stack is LIFO. For example, push 1 and 2, pop 2. Only one end is used.",
         ["A stack is LIFO", "Only one end is used"]),
        ("激活函数例如 ReLU 把负数变成零。", ["激活函数例如 ReLU 把负数变成零"]),
        ("例如进 1、2。出 2、1。", ["例如进 1、2", "出 2、1"]),
    ],
)  # fmt: skip
def test_a_worked_example_is_no_point_unless_nothing_else_is_said(reference: str, points: list[str]) -> None:
    assert cut(reference) == points


@pytest.mark.parametrize(
    ("reference", "weights"),
    [
        ("每个分支节点有两种选择。分支节点有 n-1 个，因此共有 2^(n-1) 种。", [1, 2]),
        ("Pushes and pops share one end. Therefore, the last in is the first out.", [1, 2]),
        ("因此用链表。插入只改两个指针。", [1, 1]),  # a reason follows
        ("磁盘会坏。故障要能恢复。", [1, 1]),
        ("因此用链表。", [1]),
    ],
)
def test_the_conclusion_that_ends_a_reference_counts_double(reference: str, weights: list[int]) -> None:
    assert [p.weight for p in points_from_reference(reference)] == weights


def test_reference_without_a_statement_is_refused() -> None:
    for reference in ("", "是。", "1. 2."):
        with pytest.raises(UsageError, match="no sentence"):
            points_from_reference(reference)
