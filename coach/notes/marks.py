"""Inline marks and lexicons: what a line of a note says, once the mark-up around it is gone.

Everything here looks at one line. What a line is *for* depends on its neighbours and is decided in `units`.
"""

from __future__ import annotations

import re
import unicodedata

IMAGE = re.compile(r"!\[\[[^\]]*\]\]|!\[[^\]]*\]\([^)]*\)|<img\b[^>]*>", re.I)
URL = re.compile(r"https?://[^\s<>）)】」]+")
STARS = re.compile(r"[⭐★☆🌟]\ufe0f?")
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?:https?://|/|#|\.)[^)]*\)")
_WIKILINK = re.compile(r"(?<!!)\[\[(?:[^\]|]*\|)?([^\]|]*)\]\]")
_TAG = re.compile(r"</?(?:u|b|i|em|strong|span|font|mark|sub|sup|center|div|p|br)\b[^>]*>", re.I)
_INVISIBLE = re.compile(r"[\u200b-\u200f\u2060\ufeff\u00ad]")
_STAR_ARGS = re.compile(r"(?:\\?\*){1,6}(?=(kw)?args\b)")
_CJK = r"\u4e00-\u9fff，。、；：？！（）“”"
# Spaces that a PDF copy left between two Chinese characters break tokens and exact match.
_INNER_SPACE = re.compile(rf"(?<=[{_CJK}])[ \u3000\u00a0]+(?=[{_CJK}])")

_Q_END = re.compile(r"[？?][）)」”\"'。.⭐★☆\s]*$")
_Q_WORD = re.compile(
    r"什么|为啥|为何|如何|怎么|怎样|哪些|哪个|哪里|哪几|哪一|多少|是否|吗$|么$|啥|区别|差异|异同|有何|几种|优缺点|优劣"
    r"|\b(?:what|why|how|which|when)\b",
    re.I,
)
_Q_ASK = re.compile(
    r"^(?:请|简述|简单|简答|介绍|解释|说明|描述|谈谈|谈一谈|讲|说说|说下|手写|手撕|写一下|写出|写个|对比|比较|证明|推导"
    r"|了解|列举|分析|聊聊|结合|口头|拷打|重点问|常见的|常说的|用.{1,12}(?:实现|写|捕获))"
)
_EMPTY = frozenset(
    ["", "?", "/", "、", "…", "...", "-", "—", "。", ".", "todo", "tbd", "待补充", "略", "xxx"]
)
PLACEHOLDER = re.compile(r"^[（(\[【].{0,12}(?:略|略去|省略|隐去|脱敏|已删)[）)\]】]$")

# A line that announces a list of questions, or closes what stood before it, without any mark-up.
ASKS = re.compile(
    r"面试(?:问题|题目|题|真题)|真题|题目|面经|八股|问答|代码题|算法题|开放题|手撕|题库|高频|q&a|interview questions",
    re.I,
)
TELLS = re.compile(r"感想|感受|总结|心得|经验|流程|建议|后记|小结|复盘|日记|评价")
_ROUND = re.compile(r"^.{0,12}(?:[一二三四五]面|终面|hr面|主管面|交叉面|笔试)(?:[-—·(（].{0,12})?$", re.I)
_LABEL = re.compile(
    r"^.{0,12}(?:面经|总结|建议|感想|心得|小结|解析|参考答案|面试(?:问题|题目)|真题)(?:[与和及].{1,8})?[:：]?$"
)
FIELD = re.compile(
    r"^\W{0,4}(面试公司|公司|面试岗位|岗位|职位|部门|面试问题|问题|题目|面试感想|感想|面试时间|时间|面试地点|base|地点)\s*[:：]\s*(.*)$",
    re.I,
)
HR = re.compile(
    r"自我介绍|项目经验|反问|职业(?:规划|发展)|优点|缺点|挫折|期望薪资|为什么选(?:择)?我们|到岗|加班"
)
GROUP = re.compile(r"基础知识|八股|开放性?问题|相关|其他|算法题|代码题|项目|场景题|编程")
_COMPANIES = [
    "快手",
    "字节",
    "抖音",
    "阿里",
    "通义",
    "达摩院",
    "蚂蚁",
    "智谱",
    "腾讯",
    "百度",
    "美团",
    "京东",
    "小红书",
    "拼多多",
    "华为",
    "网易",
    "滴滴",
    "小米",
    "商汤",
    "旷视",
    "科大讯飞",
    "哔哩哔哩",
    "携程",
    "微软",
    "月之暗面",
    "MiniMax",
    "阶跃",
    "百川",
    "零一万物",
    "DeepSeek深度求索",
    "OPPO",
    "vivo",
    "荣耀",
    "联想",
]
_FULL_NAME = {"字节": "字节跳动", "抖音": "字节跳动"}
_CODE = re.compile(
    r"^\s*(?:(?:class|def)\s+\w+.*:\s*$|(?:if|elif|for|while|with|try|except|else|finally)\b.*:\s*$"
    r"|(?:import|from)\s+[\w.]+(?:\s+import\b.*)?\s*$|return\b|(?:pass|break|continue)\s*$|@\w+"
    r"|[\w.\[\], ]+\s*[+\-*/]?=(?!=)\s*\S+.*$|[a-z_][\w.]*\([^\u4e00-\u9fff]*\)\s*$|(?:curl|pip|python3?|docker|git)\s+\S+"
    r"|-{1,2}[\w-]+[ =]\S+.*\\?$|[\[\]{}(),;\\]+\s*&?$|\"\w+\":)"
)


def clean(text: str) -> str:
    """The text of a line without inline mark-up, images, importance stars and link targets; wording untouched."""
    text = IMAGE.sub(" ", _INVISIBLE.sub("", text)).replace("\u00a0", " ").replace("\t", " ")
    text = _WIKILINK.sub(lambda m: m[1], _LINK.sub(lambda m: m[1], text))
    text = STARS.sub("", _TAG.sub("", text))
    text = _STAR_ARGS.sub(lambda m: "\0\0" if m[1] else "\0", text)
    text = re.sub(r"==(?!>|》|=)(.+?)==", r"\1", text)
    text = re.sub(r"\*\*\s*(__\w+__)", r"\1", text)
    text = re.sub(r"\*{2,3}", "", text).replace("\0", "*")
    text = re.sub(r"^(\s*)\*(?!\s)([^*]+)\*\s*$", r"\1\2", text)
    return re.sub(r" {2,}", " ", _INNER_SPACE.sub("", text)).strip()


def fold(text: str) -> str:
    """For comparing: NFKC, lower case, letters and digits only.

    >>> fold("什么是 KV-Cache？") == fold("什么是KV cache?")
    True
    """
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())


def is_empty(text: str) -> bool:
    """Nothing asked and nothing said: the five spellings of an empty slot, templates, TODO."""
    text = unicodedata.normalize("NFKC", clean(text)).strip().lower()
    return text.strip("?。. ") in _EMPTY or not fold(text) or "{{" in text


def ends_as_question(text: str) -> bool:
    return bool(_Q_END.search(URL.sub("", text)))


def asks(text: str) -> bool:
    """Does the line read like an interview question, with or without a question mark?"""
    text = clean(text)
    return bool(ends_as_question(text) or _Q_WORD.search(text.rstrip("。.：: ")) or _Q_ASK.search(text))


def is_code(text: str) -> bool:
    return bool(_CODE.match(text)) and not re.search(r"[\u4e00-\u9fff]{6,}", text.split("#")[0])


def is_label(text: str) -> bool:
    """An unmarked heading, by its wording alone: an interview round, a summary, a list of questions."""
    text = clean(text)
    return len(text) <= 30 and bool(_ROUND.match(text) or _LABEL.match(text))


def companies(text: str) -> tuple[str, ...]:
    found = [_FULL_NAME.get(c, c) for c in _COMPANIES if c.lower() in text.lower()]
    return tuple(dict.fromkeys(found))


def parts(question: str) -> tuple[str, ...]:
    """The single questions of a compound line; the line itself when it asks one thing.

    >>> parts("什么是 BN？与 LN 的差异是什么？")
    ('什么是 BN？', '与 LN 的差异是什么？')
    >>> parts("梯度消失怎么处理")
    ('梯度消失怎么处理',)
    """
    found: list[str] = []
    for piece in re.split(r"(?<=[？?])(?=\s*[^\s）)」”])", question):
        cuts = [c.strip() for c in re.split(r"[，,；;](?![^（(]*[）)])", piece)]
        asking = [bool(_Q_WORD.search(c.rstrip("？? "))) or bool(_Q_ASK.search(c)) for c in cuts]
        if len(cuts) > 1 and all(asking) and all(len(c) >= 4 for c in cuts):
            found.extend(cuts)
        elif piece.strip():
            found.append(piece.strip())
    return tuple(found) if len(found) > 1 else (question.strip(),)
