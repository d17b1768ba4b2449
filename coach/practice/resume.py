"""拷打项目: questions from a résumé's own claims, sharpened by a job description. Rules only, so nothing has to load.

Résumé and job description are untrusted text: lines that address a grader are left out, and so are lines with contact
data. Every question quotes the line it is about and is graded by criteria, since no note knows what is true here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coach.domain import Question
from coach.errors import UsageError
from coach.text import screen, sha256, term_recall, tokens

MAX_CLAIMS = 8
MAX_GAPS = 2
_NOTE = "notes/project-deepdive.md"
_CONTACT = re.compile(
    r"[\w.+-]+@[\w-]+\.\w+|(?<!\d)1[3-9]\d{9}(?!\d)|(?:电话|手机|邮箱|微信|wechat|phone|e-?mail)\s*[:：]",
    re.I,
)
_ITEM = re.compile(r"^\s*(?:[-*•·●▪]|\d+[.、)）])\s+")
_DID = re.compile(
    r"负责|设计|实现|提出|优化|搭建|训练|微调|部署|提升|降低|重构|主导|参与|完成|构建|开发|引入|改进|复现|落地|上线"
    r"|\b(?:built|led|designed|implemented|improved|reduced|trained|deployed|developed|optimi[sz]ed|launched)\b",
    re.I,
)
_NUMBER = re.compile(r"\d+(?:\.\d+)?\s*(?:%|％|倍|x|ms|毫秒|秒|万|亿|B|M|k|个点|pp|人)?", re.I)

# What an interviewer digs for in any claim: (id, criterion, levels 0–3, probe, follow-up type, note section).
_PROBES: tuple[tuple[str, str, tuple[str, str, str, str], str, str, str], ...] = (
    (
        "why",
        "关键选择有针对本项目的理由",
        ("只有做法没有理由", "理由是“大家都这么用”或“效果好”", "给了针对本项目的理由", "理由针对本项目，并说清代价或适用条件"),
        "为什么这么做？当时要解决的具体问题是什么？",
        "why",
        "为什么这么做：方案对比与取舍",
    ),
    (
        "alternatives",
        "对比过别的方案",
        ("没有提别的方案", "只提到别的方案的名字", "说了为什么不用别的方案", "说清候选方案、比较的依据和实测或估算的差别"),
        "还考虑过哪些别的方案，为什么没有用？",
        "boundary",
        "为什么这么做：方案对比与取舍",
    ),
    (
        "numbers",
        "结果有可信的数字",
        ("没有结果", "只说“效果变好”", "有一个数字但没有基线或测试条件", "有指标名、基线、改进后的值和测试集或流量范围"),
        "这个结果是怎么测出来的：基线、指标、测试条件分别是什么？",
        "derive",
        "指标怎么量化才可信",
    ),
    (
        "own-share",
        "讲清个人负责的部分",
        ("没有提到自己做了什么", "只说“我们”做了什么或用“参与”带过", "说出自己负责的模块，但没有自己的决定或产出", "说清自己负责的模块，以及至少一项自己做的决定或产出物"),
        "这里面哪些是你自己做的，哪一个决定是你做的？",
        "clarify",
        "个人贡献与团队贡献怎么区分",
    ),
    (
        "failure",
        "讲到失败或难点以及怎样定位和解决",
        ("没有提到难点", "只说有困难但没有解决过程", "说了难点和最终办法，没有定位过程", "说清现象、怎样定位原因、怎样解决"),
        "过程中什么没有成功？你是怎么定位原因的？",
        "production",
        "怎样讲最大的困难",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claim:
    """One line of the résumé that says what somebody did. `line` is 1-based; `section` the heading above it."""

    line: int
    text: str
    section: str


def claims(resume: str) -> list[Claim]:
    """Claims in file order: list items and sentences that name a deed or a number. UsageError when there are none."""
    found, section = [], ""
    for number, raw in enumerate(resume.split("\n"), 1):
        heading = re.match(r"\s*#{1,6}\s+(.*)", raw)
        if heading:
            section = heading[1].strip()
            continue
        text = re.sub(r"[*_`]{1,3}", "", _ITEM.sub("", raw)).strip()
        screened = screen(text)
        if screened.injections or screened.hidden or _CONTACT.search(text) or not 8 <= len(text) <= 300:
            continue
        if _DID.search(text) or (_ITEM.match(raw) and _NUMBER.search(text)):
            found.append(Claim(number, text, section))
    if not found:
        raise UsageError(
            "the résumé names nothing that was done",
            "give a Markdown or text file whose lines say what you did, e.g. `- 负责 … ，把 … 提升 12%`",
        )
    return found


def rank(found: Sequence[Claim], jd: str) -> list[Claim]:
    """The claims most worth digging into: numbers, own deeds, closeness to the job; ties in file order."""
    wanted = set(tokens(jd))

    def worth(claim: Claim) -> float:
        words = set(tokens(claim.text))
        near = len(words & wanted) / len(words) if words and wanted else 0.0
        return bool(_NUMBER.search(claim.text)) + bool(_DID.search(claim.text)) + 2 * near

    return sorted(found, key=lambda c: (-worth(c), c.line))[:MAX_CLAIMS]


def gaps(resume: str, jd: str) -> list[str]:
    """Requirements of the job of which the résumé has almost no word."""
    out = []
    for raw in jd.split("\n"):
        text = _ITEM.sub("", raw).strip()
        if not _ITEM.match(raw) or not 6 <= len(text) <= 120 or screen(text).injections:
            continue
        if term_recall(text, resume) < 0.25:
            out.append(text)
    return out[:MAX_GAPS]


def _question(question_id: str, text: str, order: Sequence[int]) -> dict[str, Any]:
    rubric = []
    follow_ups = []
    for i in order:
        name, criterion, levels, probe, type_, section = _PROBES[i]
        row = {
            "id": name,
            "criterion": criterion,
            "weight": 2 if name in ("why", "own-share") else 1,
            "levels": dict(enumerate(levels)),
            "source": f"{_NOTE}#{section}",
        }
        rubric.append(row)
        # The follow-up's row is the question's own: a better answer lifts that criterion.
        follow_ups.append(
            {"id": f"dig-{name}", "ask": probe, "type": type_, "targets": [name], "rubric": [row]}
        )
    return {
        "id": question_id,
        "question": text,
        "kind": "project",
        "topic": "my-projects",
        "difficulty": 3,
        "rubric": rubric,
        "follow_ups": follow_ups,
    }


def questions(resume: str, jd: str = "") -> list[Question]:
    """Questions on the candidate's own claims, each quoting its line; then what the job asks for and nobody claimed."""
    out = []
    for n, claim in enumerate(rank(claims(resume), jd)):
        # Each claim starts from another side, so that five projects are not asked the same first question.
        order = [(n + i) % len(_PROBES) for i in range(len(_PROBES))]
        text = f"你的简历第 {claim.line} 行写着「{claim.text}」。{_PROBES[order[0]][3]}"
        out.append(_question(f"cv-{sha256(claim.text)[:10]}", text, order))
    for text in gaps(resume, jd):
        ask = f"岗位要求「{text}」，你的简历里没有写到。你做过最接近的是什么，会怎么补上？"
        out.append(_question(f"jd-{sha256(text)[:10]}", ask, (3, 0, 4)))
    return [Question.model_validate(q) for q in out]
