"""One test per phenomenon of messy notes. Every fixture is written here; none is taken from a real note."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coach.notes import marks
from coach.notes.model import Parsed, Unit
from coach.notes.scan import scan
from coach.notes.units import parse


def read(text: str) -> Parsed:
    return parse(scan(list(enumerate(text.split("\n"), 1))))


def questions(text: str) -> dict[int, Unit]:
    return {u.question_line: u for u in read(text).units if u.kind == "question"}


def reasons(text: str) -> dict[int, str]:
    return {d.line: d.reason for d in read(text).dropped}


# ── A: wrappers and furniture ────────────────────────────────────────────────────────────────────
def test_a_fence_tagged_markdown_is_unwrapped() -> None:
    text = "# 面试题目\n```markdown\n1. 什么是甲？\n2. 乙怎么做？\n```"
    assert set(questions(text)) == {3, 4} and reasons(text) == {2: "wrapper", 5: "wrapper"}


def test_front_matter_gives_fields_and_refuses_placeholders() -> None:
    text = '---\n标题: \'{{"Translate"}}-甲\'\ntags:\n  - "#面经"\n作者: "[[某号]]"\n---\n# 甲\n这里是一段足够长的正文，值得放进索引里面。'
    scanned = scan(list(enumerate(text.split("\n"), 1)))
    assert scanned.meta == {"tags": ["面经"], "作者": "某号"}
    assert [u.first_line for u in parse(scanned).units] == [8]


def test_an_unclosed_rule_at_the_top_is_no_front_matter() -> None:
    assert (
        questions("---\n## 甲是什么？\n甲是一种足够长的解释，用来说明它到底是什么东西。")[2].answer == "full"
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("创建时间: 2020年1月2日 03:04", "date line"),
        ("*2020年01月02日 03:04* *某地*", "byline"),
        ("来源：某某号", "byline"),
        ("点赞", "page furniture"),
        ("继续滑动看下一个", "page furniture"),
        ("所有评论(3)", "page furniture"),
        ("好的,这是一份为您整理的参考回答。", "chatbot phrase"),
        ("祝你面试顺利!", "closing line"),
        ("#flashcards", "tag line"),
        ("- [ ] ", "template"),
        ("- Q2: ", "template"),
        ("- 已知：[[相关知识]]", "template"),
        ("![[图表]]", "template"),
        ("： ， ， 。 、", "bare punctuation"),
        ("（个人信息已略去）", "omission note"),
    ],
)
def test_furniture_is_dropped_with_its_reason(line: str, reason: str) -> None:
    text = f"## 甲是什么？\n甲是一种足够长的解释，用来说明它到底是什么东西。\n{line}"
    assert reasons(text) == {3: reason}


def test_slogans_among_the_buttons_at_the_end_are_dropped() -> None:
    text = "## 甲是什么？\n甲是一种足够长的解释，用来说明它是什么。\n\n![图](https://x.example/a.png)\n\n美好的一天\n\n分享\n\n收藏"
    assert set(reasons(text)) == {4, 6, 8, 10}


def test_field_labels_and_closing_sections_are_headings() -> None:
    text = "某某一面\n📍面试公司:某某\n❓面试问题:\n1. 拷打项目\n2. 甲的含义\n🙌面试感想:\n面试官人很好，整体体验非常不错，下次一定多准备。"
    made = read(text)
    assert [u.question_line for u in made.units if u.kind == "question"] == [4, 5]
    assert [u.first_line for u in made.units if u.kind == "prose"] == [7]


def test_references_leave_the_text_and_are_kept() -> None:
    unit = questions(
        "# 题\n1. 甲是什么？\n\n   甲是一种足够长的解释，用来说明它是什么。参考：https://x.example/9\n   【参考】\n   https://x.example/10"
    )[2]
    assert "http" not in unit.text and unit.references[0] == "https://x.example/9"


# ── B: structure ─────────────────────────────────────────────────────────────────────────────────
def test_bare_dashes_are_bullets_never_setext_headings() -> None:
    text = "真题解析\n1. 甲的含义\n-\n含义:甲是一种方法，思路是把大的换成小的来做。\n-\n-\n2. 乙有什么优劣\n-\n优势:\n-\n快:不用训练第二个模型，流程也简单得多。"
    found = questions(text)
    assert set(found) == {2, 7} and found[2].first_line == 4 and found[7].last_line == 11


def test_a_dash_after_the_item_is_the_mark_of_the_next_one() -> None:
    text = "三轮\n-\n甲组\n- 甲是怎么做的\n- 甲和乙有什么区别\n-\n乙组\n- 乙的原理是什么\n丙相关\n-\n丙为什么快?\n-\n丙的部署对比\n-\n丙怎么省内存?"
    assert set(questions(text)) == {4, 5, 8, 11, 13, 15}


def test_a_dash_glued_to_a_sentence_marks_the_next_line() -> None:
    text = "题目\n1. 甲是什么\n-\n第一条说明写在这里。 -\n第二条说明也在这里。\n-\n第三条。"
    assert questions(text)[2].lines[0] == "第一条说明写在这里。"


def test_problem_numbers_stay_in_the_text() -> None:
    text = "一面\n-\n代码题\n- 152. 某某子数组\n-\n开放题\n- 你怎么看这件事"
    assert questions(text)[4].question == "152. 某某子数组"


def test_numbers_may_restart_repeat_and_skip() -> None:
    text = "# 节\n" + "\n".join(
        f"{n}. <u>第{i}问是什么？</u>\n\n   回答{i}：这是一段足够长的说明文字，说得比较完整，也有细节和例子。\n"
        for i, n in enumerate((1, 2, 2, 5, 4))
    )
    assert len(questions(text)) == 5


@pytest.mark.parametrize("empty", ["？", "?", "/", "、", "", "…", "TODO", "{{题目}}"])
def test_empty_slots_are_no_questions(empty: str) -> None:
    text = f"# 面试题\n1. 甲是什么？\n2. {empty}\n3. 乙是什么？"
    assert set(questions(text)) == {2, 4} and reasons(text)[3] in ("empty slot", "template")


def test_bare_lines_below_a_numbered_label_are_questions() -> None:
    text = (
        "面试问题:\n1. 拷打项目\n2. 八股拷打(忘了)\n介绍一下甲的发展\n乙和丙的区别\n为什么是丁\n3. 手撕一个戊"
    )
    assert set(questions(text)) == {2, 4, 5, 6, 7}


def test_a_numbered_group_label_before_a_restart_is_a_heading() -> None:
    text = "面试题解析\n1. 项目深挖\n-\n说明一下项目的背景和动机，以及做了什么。\n2. 基础知识\n1. 介绍一下甲\n-\n甲是第一种方法，后来被乙取代。\n-\n2. 乙是什么\n-\n乙是第二种。"
    assert 5 not in questions(text) and 6 in questions(text)


def test_merged_numbers_head_one_answer() -> None:
    text = "真题解析\n1. & 2. 甲和乙\n-\n解析:没有标准答案，但可以准备思路，这里写得足够长。\n-\n3. 丙是什么\n-\n丙就是丙。"
    assert questions(text)[2].question == "甲和乙"


def test_a_compound_question_has_parts() -> None:
    unit = questions("# 面试题\n1. 甲是什么？与乙的区别是什么？为什么用甲？")[2]
    assert unit.parts == ("甲是什么？", "与乙的区别是什么？", "为什么用甲？")
    assert marks.parts("甲的结构是怎样的,乙是怎么交互的") == ("甲的结构是怎样的", "乙是怎么交互的")


def test_a_question_over_two_lines_is_joined() -> None:
    unit = questions(
        "# 节\n1. <u>如何解决甲占用太多、对资源的</u>\n   <u>要求过高的问题?</u>\n\n2. 乙是什么？\n\n   乙是另一种东西。"
    )[2]
    assert unit.question == "如何解决甲占用太多、对资源的要求过高的问题?" and unit.answer == "none"


def test_underlined_sub_questions_below_a_label() -> None:
    text = "# 节\n1. 甲相关\n\n   <u>什么是甲？</u>\n\n   甲是一个框架，用来把东西拼在一起，简化开发过程。\n\n   <u>甲有哪些功能？</u>\n\n   很多功能，例如记忆、工具和检索。\n\n2. <u>乙是什么？</u>\n\n   乙。"
    assert set(questions(text)) == {4, 8, 12}


def test_a_question_inside_an_answer_is_found_and_advice_is_not() -> None:
    text = "# 节\n1. 甲的公式是什么？\n\n   公式写在这里，后面还有一些必要的说明文字。\n\n   怎么降低甲的访存？\n\n   分块流式地算。\n\n2. 乙？"
    assert {2, 6} <= set(questions(text))
    advice = "真题解析\n1. 项目\n-\n数据是如何处理的?\n-\n遇到了什么挑战?(例如:慢)\n-\n结果如何?"
    assert set(questions(advice)) == {2}


def test_comment_lines_in_code_are_no_headings() -> None:
    text = "题目\n1. 手撕甲\n-\n思路是搜索。\nclass Solution:\ndef f(self, x):\n# 终止条件\nif not x:\nreturn 0\n# 递归\nreturn self.f(x)\n2. 乙是什么"
    assert set(questions(text)) == {2, 12} and "# 递归" in questions(text)[2].text


@pytest.mark.parametrize("indent", ["  ", "   ", "    \t", "        ", "\t\t"])
def test_indentation_never_makes_code_or_ends_an_answer(indent: str) -> None:
    text = f"# 节\n10.  <u>甲是什么？</u>\n\n{indent}①甲的第一点说明，写得足够长。\n\n{indent}②甲的第二点说明，也足够长。\n\n11. <u>乙是什么？</u>\n\n    乙。"
    assert questions(text)[2].lines == ("①甲的第一点说明，写得足够长。", "", "②甲的第二点说明，也足够长。")


def test_numbered_steps_below_a_question_heading_are_its_answer() -> None:
    made = read(
        "## 怎么训练甲？\n1. 先准备数据，去重和清洗都要做\n2. 再训练模型，学习率先热身后下降\n## 小结\n1. 先甲后乙，按部就班地推进就可以了\n2. 不要急躁，慢慢来就能做好的"
    )
    assert [(u.kind, u.question_line, u.last_line) for u in made.units] == [
        ("question", 1, 3),
        ("prose", 0, 6),
    ]


def test_a_bold_lead_is_the_question_of_an_inline_answer() -> None:
    unit = questions(
        "# 八股问答\n1. **甲和乙的区别** ：甲直接修改参数，而乙只改变输入的形式，所以甲更强一些。\n2. **丙怎么做** ：用 `f(x)` 就可以了，它会去掉大小为 1 的维度。"
    )[2]
    assert unit.question == "甲和乙的区别" and unit.first_line == 2 and unit.answer == "full"


# ── C: inline marks ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("<u>什么是甲？</u>⭐⭐", "什么是甲？"),
        ("**缺点：**计算慢**。**", "缺点：计算慢。"),
        ("将关系建模(==关注内部==)", "将关系建模(关注内部)"),
        ("甲  ==> 乙", "甲 ==> 乙"),
        ("减少样 本集合的 不确定性， 提高", "减少样本集合的不确定性，提高"),
        ("***args**：元组", "*args：元组"),
        ("***\\*kwargs**：字典", "**kwargs：字典"),
        ("**__new__方法**：创建", "__new__方法：创建"),
        ("基于[tokens](https://x.example/s?q=1)训练", "基于tokens训练"),
        ("见[[某页|别名]]", "见别名"),
        ("O($d^2$) 的 $\\frac{a}{b}$", "O($d^2$) 的 $\\frac{a}{b}$"),
    ],
)
def test_inline_marks_go_and_words_stay(raw: str, text: str) -> None:
    assert marks.clean(raw) == text


def test_stars_are_importance() -> None:
    assert questions("# 面试题\n1. <u>甲是什么？</u>⭐⭐\n2. 乙是什么？⭐")[2].stars == 2


# ── D: blocks ────────────────────────────────────────────────────────────────────────────────────
def test_tables_keep_their_rows_and_may_touch_text() -> None:
    text = "# 节\n1. 甲和乙？\n\n    |  **特性**   | 甲   |\n    | --- | :--- |\n    | 快慢 |  快  |\n接着的正文说明这一点，足够长。\n\n2. 丙？"
    assert questions(text)[2].lines == (
        "| 特性 | 甲 |",
        "|---|---|",
        "| 快慢 | 快 |",
        "接着的正文说明这一点，足够长。",
    )


def test_fenced_code_in_a_list_keeps_its_indentation() -> None:
    text = "# 节\n1. 闭包是什么？\n\n   例子：\n   ```python\n   def f():\n       return 1\n   ```\n\n2. 乙？\n\n   乙。"
    assert "def f():\n    return 1" in questions(text)[2].text


def test_inline_code_on_lines_of_its_own_is_joined() -> None:
    text = "题解析\n1. 甲是什么\n-\n对于提示x,\ny_w\n是获胜回答,y_l\n是失败回答。\n-\n第二条。\n-\n第三条。"
    assert questions(text)[2].lines[0] == "对于提示x, y_w 是获胜回答,y_l 是失败回答。"


def test_an_image_alone_is_no_answer() -> None:
    found = questions(
        "# 节\n1. 甲是什么？\n\n   ![74](assets/1740404861907.png)\n\n2. 乙是什么？\n\n   <img src='a.png' style='zoom:50'>\n\n## 丙\n![x](y.png)"
    )
    assert [u.answer for u in found.values()] == ["image_only"] * 3


# ── E: answers ───────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("", "none"),
        ("甲是一种完整的说明，里面有原因、做法和例子，读者看完就能明白它怎么用。", "full"),
        ("定义+公式+关系+性质", "outline"),
        ("词：优点 + 缺点 + 代表模型\n   字：优点 + 缺点 + 代表模型", "outline"),
        ("甲和乙都是加速训练的方法。其中单机的做法主要通过", "truncated"),
        ("优点：实现起来非常简单，而且不需要训练参数，部署成本低。\n   缺点：", "partial"),
        ("whl", "partial"),
    ],
)
def test_how_much_of_an_answer_is_there(answer: str, status: str) -> None:
    assert questions(f"# 面试题\n1. 甲是什么？\n\n   {answer}\n\n2. 乙是什么？")[2].answer == status


def test_narrated_questions_are_partial() -> None:
    unit = questions(
        "## 面经\n### 手撕代码\n面试官首先让我手撕一个分词器，我从最简单的开始讲起，然后逐步扩展到别的方法。"
    )[3]
    assert unit.question == "手撕一个分词器" and unit.answer == "partial"


# ── invariants ───────────────────────────────────────────────────────────────────────────────────
_LINES = st.lists(
    st.sampled_from(
        [
            "",
            "-",
            "1. 甲是什么？",
            "2. ？",
            "# 面试题",
            "## 总结",
            "   答案写在这里，足够长的一段话。",
            "- 条目",
            "```",
            "```python",
            "```markdown",
            "---",
            "| a | b |",
            "![x](y.png)",
            "点赞",
            "x = 1",
            "def f():",
            "一面",
            "甲组",
            "\t\t② 第二点。",
            "<u>乙是什么？</u>",
            "3. **丙** ：丙就是丙。",
            "参考：https://x.example",
        ]
    )
    | st.text(max_size=12).filter(lambda s: "\n" not in s and "\r" not in s),
    max_size=25,
)


@given(_LINES)
@settings(max_examples=200, deadline=None)
def test_no_line_vanishes_silently(lines: list[str]) -> None:
    """Every line with a letter or digit is in a unit, a heading, or dropped with a reason."""
    made = read("\n".join(lines))
    seen = {d.line for d in made.dropped} | {n for n, _ in made.headings}
    for unit in made.units:
        assert unit.last_line - unit.first_line + 1 == len(unit.lines)
        seen |= set(range(unit.first_line, unit.last_line + 1)) | set(unit.asked)
    lost = [n for n, line in enumerate(lines, 1) if marks.fold(line) and n not in seen]
    assert not lost, [(n, lines[n - 1]) for n in lost]
