"""What a short reply means when it is no answer: 不会, 再说一遍, 给点提示. Such a reply is never graded.

Rules, not a model: a whole short utterance must match, so an answer that merely contains 不会 stays an answer.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Intent = Literal["answer", "dont_know", "repeat", "hint", "skip", "reveal", "quit"]
_MAX_CHARS = 24

_LEAD = r"(?:嗯|额|呃|啊|那个|不好意思|抱歉|对不起|sorry|老师|面试官|您好|你好|这个|这题|这道题|这个问题|我|真的|确实|还|有点|可能|完全|暂时|也|um|well|i|[，,、。. …])*"
_TAIL = r"[了啊呢吧吗哈呀嘛哦的]*(?:[，,。 ]*(?:谢谢|可以吗|好吗|行吗|好不好|please|thanks))?"
_RULES: tuple[tuple[Intent, str], ...] = (
    (
        "repeat",
        r"(?:(?:请|能|可以|麻烦|能不能|可不可以)*(?:您|你)?(?:再|重新|重复)(?:说|讲|念|问|重复)?(?:一遍|一下|一次|下)(?:题目|问题)?|(?:没|没有)听(?:清|清楚|懂|明白)|(?:什么|啥)(?:问题|题目|意思)|repeat|say (?:that|it) again|pardon|come again|can you repeat(?: that| the question)?)",
    ),
    (
        "hint",
        r"(?:(?:能不能|可不可以|可以|能|请|麻烦|求)*(?:您|你)?(?:给|来|要)?(?:我)?(?:一?点儿?|一?个|些|一些)?(?:提示|线索|思路)(?:一下|下|我|我一下)?|提示|hint|(?:give me )?(?:a )?hint|can i (?:get|have) a hint)",
    ),
    (
        "reveal",
        r"(?:(?:直接)?(?:看|公布|告诉我|说|给我看?)(?:一下|下)?(?:参考)?答案|(?:参考)?答案是(?:什么|啥)|show (?:me )?the answer|what(?:'s| is) the answer)",
    ),
    (
        "skip",
        r"(?:跳过|下一[题个道](?:题|问题)?|换(?:一|个)(?:题|道|个)?(?:题|问题)?|过|pass|skip|next(?: question)?)",
    ),
    (
        "quit",
        r"(?:退出|结束|不(?:面|练|做|答)了|今天(?:就|先)?到这(?:里|儿)?|先到这(?:里|儿)?|quit|exit|stop|bye)",
    ),
    (
        "dont_know",
        r"(?:不(?:太|是很|大|怎么)?(?:会|知道|清楚|了解|懂|明白|记得|熟悉|熟|确定)(?:这个|这题|怎么(?:说|答|回答))?|忘(?:记)?了?|想不起来|答不(?:上来|出来|上)|没(?:有)?(?:了解|学|看|听|接触|准备)过?|没(?:有)?(?:思路|想法|印象)|(?:don'?t|do not) know|no idea|not sure|forgot)",
    ),
)
_COMPILED = tuple((name, re.compile(_LEAD + body + _TAIL)) for name, body in _RULES)


def classify(text: str) -> Intent:
    """`answer` unless the whole reply is one of the other things a candidate says.

    >>> classify("不会。"), classify("能给点提示吗？"), classify("不会梯度爆炸，因为做了归一化")
    ('dont_know', 'hint', 'answer')
    """
    plain = unicodedata.normalize("NFKC", text).strip().lower().strip("。.!！?？~～…,， ")
    if not plain or len(plain) > _MAX_CHARS or "\n" in plain:
        return "answer"
    for name, pattern in _COMPILED:
        if pattern.fullmatch(plain):
            return name
    return "answer"
