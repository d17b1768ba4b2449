"""Personal data in notes: found by phonenumbers, python-stdnum and rules for Chinese notes.

`screen_line` either masks the token that identifies a person, or says that the whole line is about one. Image
timestamps, model sizes and benchmark numbers are no phone numbers: a match must stand alone and be a valid number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from coach.notes.marks import IMAGE, URL

_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{2,64}@[\w-]+(?:\.[\w-]+)*\.[a-zA-Z]{2,}(?![\w-])")
_HANDLE = re.compile(
    r"(?:微信(?:号|号码)?|vx|v信|wechat(?: ?id)?|QQ(?:号|群)?|公众号(?:id)?|github|知乎(?:id|账号)?|小红书(?:号)?|账号|telegram|twitter)"
    r"\s*(?:[:：]|是|为)\s*@?([A-Za-z0-9_\-.]{5,30})(?![\w-])",
    re.I,
)
_PHONE = re.compile(r"(?<![\d.\w/=-])(?:\+?86[- ]?)?1[3-9]\d[- ]?\d{4}[- ]?\d{4}(?![\d\w.-]*\d)")
_LANDLINE = re.compile(r"(?:电话|手机|tel|phone|联系方式)\s*[:：]?\s*(\+?[\d][\d\- ()]{6,18}\d)", re.I)
_ID = re.compile(r"(?<![\dA-Za-z])\d{17}[\dXx](?![\dA-Za-z])")
_NAME = re.compile(
    r"(?:我叫|我的名字(?:是|叫)|本人(?:姓名)?[:：]?|姓名\s*[:：]\s*|面试官(?:好|您好)[,，!！]?\s*我是)(?!在|有|的|对|来自|从|一|负责|主要)[\u4e00-\u9fff]{2,4}"
)
_SCHOOL = re.compile(
    r"(?:我|本人|目前|现).{0,14}(?:毕业于|就读于?|就读|来自|在)[\u4e00-\u9fffA-Za-z]{2,16}(?:大学|学院|University|研究所|中科院)"
    r"|(?:本科|硕士|研究生|博士)(?:毕业|就读|阶段)?(?:于|在|是)[\u4e00-\u9fffA-Za-z]{2,14}(?:大学|学院)",
    re.I,
)
_STAGE = r"(?:一面|二面|三面|四面|终面|hr面|主管面|笔试|测评|初面|复试|面试)"
_WHEN = r"(?:\d{1,4}[./\-月年]\d{1,2}(?:[./\-月]\d{1,2})?[日号]?(?:\s*(?:上午|下午|晚上)?\s*\d{1,2}[:：点]\d{0,2})?)"
_OUTCOME = re.compile(
    r"[（(【\[]?(?:已?投|挂|已挂|凉|测评|复活甲?|无|泡池子|已拒|offer|oc|流程中|笔试|约面|待定|(?<=[（(【\[])X)[)）】\]]",
    re.I,
)
_STAGE_AT = re.compile(
    rf"{_STAGE}\s*[（(:：]?\s*{_WHEN}|{_WHEN}\s*[:：,，]?\s*(?:上午|下午|晚上)?.{{0,10}}?{_STAGE}", re.I
)
_HR_SECTION = re.compile(r"自我介绍|hr ?面|hr问题|个人情况|简历", re.I)
_FIRST_PERSON = re.compile(
    r"(?:^|[，。；\s])(?:我(?:的|是|在|曾|会|认为自己|叫|本科|硕士|目前|能够?|比较|一直|希望|计划)|本人)"
)


@dataclass(frozen=True, slots=True)
class Found:
    """`excerpt` is masked: it may be printed and stored."""

    kind: str
    line: int
    excerpt: str


def mask(text: str) -> str:
    """First and last character, the rest dots: enough to find it in the source, too little to leak it.

    >>> mask("13800138000")
    '1…0'
    """
    text = text.strip()
    return f"{text[:1]}…{text[-1:]}" if len(text) > 2 else "…"


def _tokens(text: str) -> list[tuple[str, int, int]]:
    """(kind, start, end) of identifying tokens outside URLs and images."""
    spans: list[tuple[str, int, int]] = [("e-mail", m.start(), m.end()) for m in _EMAIL.finditer(text)]
    hidden = [m.span() for p in (URL, IMAGE) for m in p.finditer(text)]
    for m in _ID.finditer(text):
        from stdnum.cn import ric  # validates date, region and check digit

        if ric.is_valid(m.group()):
            spans.append(("ID number", *m.span()))
    for m in _PHONE.finditer(text):
        spans.append(("phone", *m.span()))
    for m in _LANDLINE.finditer(text):
        import phonenumbers  # 0.1 s: only for lines that speak of a phone

        for found in phonenumbers.PhoneNumberMatcher(m[1], "CN"):
            spans.append(("phone", m.start(1) + found.start, m.start(1) + found.end))
    spans += [("account", *m.span(1)) for m in _HANDLE.finditer(text)]
    out: list[tuple[str, int, int]] = []
    for kind, a, b in sorted(spans, key=lambda s: s[1]):
        inside = any(h[0] <= a < h[1] for h in hidden) and kind != "e-mail"
        if not inside and (not out or a >= out[-1][2]):
            out.append((kind, a, b))
    return out


def screen_line(text: str, number: int, path: tuple[str, ...] = ()) -> tuple[str, list[Found]]:
    """(text with tokens masked, findings). An empty text means that the whole line is about a person."""
    found = []
    if _NAME.search(text) or _SCHOOL.search(text):
        return "", [Found("self-introduction", number, mask(text))]
    marks = len(_OUTCOME.findall(text))
    timed = len(_STAGE_AT.findall(text))
    separators = len(re.findall(r"[、，,；;\s/]", text))
    if (
        (marks >= 3 and separators >= 4)
        or (marks + timed >= 2 and len(text) <= 80)
        or (timed and len(text) <= 40)
    ):
        return "", [Found("application log", number, mask(text))]
    if (
        path
        and _HR_SECTION.search(path[-1] if len(path) < 2 else " ".join(path))
        and _FIRST_PERSON.search(text)
    ):
        return "", [Found("personal answer", number, mask(text))]
    for kind, a, b in reversed(_tokens(text)):
        found.append(Found(kind, number, mask(text[a:b])))
        text = f"{text[:a]}〔{kind}〕{text[b:]}"
    return text, found[::-1]
