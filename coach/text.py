"""Chinese-first text handling: tokens, clauses with offsets, quotes that are really there, hostile spans."""

from __future__ import annotations

import hashlib
import itertools
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

_CLAUSE_END = re.compile(r"(?<=[。！？!?；;\n])|(?<=[，,、：:])|(?<=\.)(?=\s)")
_SENTENCE_END = re.compile(r"(?<=[。！？!?；;\n])|(?<=\.)(?=\s)")
_WORD = re.compile(r"[0-9a-zA-Z_√Δ²ᵀ]+|[\u4e00-\u9fff]+")
_STOP = frozenset(
    [
        "的",
        "了",
        "是",
        "在",
        "和",
        "与",
        "或",
        "及",
        "也",
        "都",
        "就",
        "而",
        "但",
        "会",
        "可",
        "能",
        "可以",
        "一个",
        "一种",
        "这个",
        "那个",
        "这",
        "那",
        "我",
        "我们",
        "你",
        "它",
        "它们",
        "他",
        "他们",
        "把",
        "被",
        "让",
        "使",
        "对",
        "从",
        "到",
        "为",
        "以",
        "于",
        "中",
        "上",
        "下",
        "时",
        "后",
        "前",
        "等",
        "等等",
        "因为",
        "所以",
        "如果",
        "那么",
        "然后",
        "比如",
        "就是",
        "其实",
        "还有",
        "有",
        "没有",
        "不",
        "要",
        "用",
        "来",
        "去",
        "做",
        "the",
        "a",
        "an",
        "of",
        "to",
        "is",
        "are",
        "and",
        "or",
        "in",
        "on",
        "for",
        "with",
        "that",
        "this",
        "it",
        "be",
        "as",
        "by",
    ]
)


def sha256(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


@dataclass(frozen=True, slots=True)
class Span:
    """`text[start:end]` of the string it was cut from."""

    start: int
    end: int
    text: str


def _split(text: str, pattern: re.Pattern[str]) -> Iterator[Span]:
    cuts = [0, *(m.start() for m in pattern.finditer(text) if 0 < m.start() < len(text)), len(text)]
    for start, end in itertools.pairwise(cuts):
        piece = text[start:end]
        stripped = piece.strip()
        if stripped:
            offset = start + len(piece) - len(piece.lstrip())
            yield Span(offset, offset + len(stripped), stripped)


def sentences(text: str) -> list[Span]:
    return list(_split(text, _SENTENCE_END))


def windows(text: str, longest: int = 120, most: int = 200) -> list[Span]:
    """Every sentence, every clause of at least 6 characters, and runs of adjacent sentences up to `longest`.

    These are the candidate spans for evidence. Bounded by `most`, so that a long answer stays cheap.
    """
    sents = sentences(text)
    spans = {(s.start, s.end) for s in sents}
    spans |= {(c.start, c.end) for c in _split(text, _CLAUSE_END) if len(c.text) >= 6}
    for i, first in enumerate(sents):
        for last in sents[i + 1 : i + 3]:
            if last.end - first.start <= longest:
                spans.add((first.start, last.end))
    return [Span(a, b, text[a:b]) for a, b in sorted(spans)][:most]


@lru_cache(maxsize=1)
def _segmenter() -> object:
    import logging

    import jieba  # 0.5 s and 60 MB: only where words are needed

    jieba.setLogLevel(logging.WARNING)
    jieba.initialize()
    return jieba


def tokens(text: str) -> list[str]:
    """Lower-cased jieba words without stop words; Latin runs and numbers stay whole.

    >>> tokens("RoPE 用旋转矩阵")
    ['rope', '旋转', '矩阵']
    """
    return list(_tokens(text))


@lru_cache(maxsize=8192)
def _tokens(text: str) -> tuple[str, ...]:
    # Claims and note lines are cut again and again while points are cited; jieba was most of a row's CPU time.
    jieba = _segmenter()
    out: list[str] = []
    for run in _WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        words = jieba.cut_for_search(run) if "\u4e00" <= run[0] <= "\u9fff" else [run]  # type: ignore[attr-defined]
        out.extend(w for w in words if w not in _STOP)
    return tuple(out)


def term_recall(claim: str, answer: str) -> float:
    """Share of the claim's content words that occur in the answer, in [0, 1]; 0 when the claim has none."""
    wanted = set(tokens(claim))
    if not wanted:
        return 0.0
    return len(wanted & set(tokens(answer))) / len(wanted)


def _fold(text: str) -> tuple[str, list[int]]:
    """NFKC, lower case, no white space; with the original offset of every kept character."""
    chars: list[str] = []
    origin: list[int] = []
    for i, ch in enumerate(text):
        for folded in unicodedata.normalize("NFKC", ch).lower():
            if not folded.isspace():
                chars.append(folded)
                origin.append(i)
    return "".join(chars), origin


def locate(quote: str, answer: str) -> Span | None:
    """Where `quote` stands in `answer`, up to width and white space; None when it does not.

    The returned span is cut from the answer, so what is shown is verbatim by construction.
    """
    needle, _ = _fold(quote.strip().strip("「」“”\"'…"))
    hay, origin = _fold(answer)
    if not needle:
        return None
    at = hay.find(needle)
    if at < 0:
        return None
    start, end = origin[at], origin[at + len(needle) - 1] + 1
    return Span(start, end, answer[start:end])


# ── hostile text ─────────────────────────────────────────────────────────────────────────────────
_INVISIBLE = re.compile(r"[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\u00ad\U000e0000-\U000e007f]")
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)|<(\w+)[^>]*display\s*:\s*none[^>]*>.*?(?:</\1>|\Z)", re.S)
_ROLE_TAG = re.compile(
    r"<\|[^|>]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?(?:system|assistant|user|candidate_answer)>", re.I
)
_ADDRESSES_GRADER = re.compile(
    r"(?:忽略|无视|忘记|跳过|不要(?:理会|管)).{0,12}(?:指令|指示|要求|规则|评分|标准|提示|上文|以上|之前)"
    r"|(?:请|务必|必须|直接|应该|麻烦|求).{0,12}(?:给|打|判|评).{0,6}(?:满分|100 ?分|高分|全对|通过|正确)"
    r"|(?:所有|全部|每个|每一?条?)(?:要点|得分点|评分点|采分点).{0,10}(?:覆盖|满足|得分|答到|判|为是|都是)"
    r"|(?:评分员|阅卷人|阅卷老师|评委|裁判|打分的|考官|面试官).{0,16}(?:满分|高分|通过|判为|手下留情|给过|答“?是)"
    r"|(?:只|一律|统一|均).{0,4}(?:回答|输出|答|回复)[“\"「']?(?:是|yes|covered|满分)"
    r"|系统(?:消息|提示|指令|通知)[：:]|你(?:现在)?是(?:一个)?(?:宽松|仁慈|慷慨)"
    r"|(?:ignore|disregard|forget|override).{0,30}(?:instruction|rule|rubric|prompt|above|previous|criteria)"
    r"|(?:give|award|assign|grant|output|return|mark).{0,30}(?:full (?:marks?|score|credit)|100(?:/100)?|perfect score|maximum|all (?:points?|correct)|as (?:covered|correct))"
    r"|\"?(?:verdicts?|status|score|probability)\"?\s*[:：=]\s*\"?(?:covered|yes|100|1\.0|满分|full)"
    r"|(?:system|assistant|developer)\s*(?:message|prompt|override)?\s*[:：]\s*\S"
    r"|(?:you are|act as|pretend).{0,20}(?:grader|judge|lenient|generous)"
    r"|answer (?:yes|是) (?:to|for) (?:all|every)"
    # verdicts and rules that only a grader would write
    r"|(?:评分|阅卷|打分|判分)(?:规则|结果|结论|说明|服务|系统|员)\s*(?:[：:】]|已更新|异常|已变更)"
    r"|(?:要点|采分点|得分点|评分点)\s*[\d一二三四五六七]*\s*[：:]\s*(?:✔|√|是|对|任意|covered)"
    r"|(?:要点|采分点|得分点|评分点)(?:全部|都|均|已)?(?:命中|答到|说到|覆盖)|覆盖了?(?:评分|采分)标准|全部要点"
    r"|(?:送分|作答即得分|按(?:说到|答对|全部答对|[“\"]?是[”\"]?)(?:处理|给分|计分))"
    r"|(?:参考|标准)答案(?:完全一致|结束|要求的每)|官方(?:标准|参考)答案|(?:应得|维持|合计|判为|给)满分|得分\s*[:：]?\s*100"
    r"|(?:考生)?回答(?:到此|已经)?(?:结束|完毕?)\s*(?:[）)】#—]|$)"
    r"|(?:宽松|仁慈|慷慨|善良)的?(?:阅卷|评委|考官|评分|老师)|我?每个点.{0,6}(?:说到|答到)|我真的都懂|经人工复核|复核人"
    r"|(?:助手|assistant|评委)\s*[：:]\s*(?:是|yes)\b|【(?:系统|管理员|阅卷|评分)"
    r"|(?:every|all|each) (?:rubric|criteri\w+|marking|grading)|grading (?:policy|override|rule|mode)|maximum score"
    r"|expected_?output\s*=|skip (?:the )?evaluation|does it cover the point|grader (?:must|should|:)",
    re.I | re.S,
)


@dataclass(frozen=True, slots=True)
class Screened:
    """The answer as the judge may see it, and the spans that were taken out because they address the grader.

    `judged` has the same length as the answer: removed characters became spaces, so offsets stay valid.
    """

    judged: str
    injections: tuple[str, ...]
    hidden: tuple[str, ...]


def screen(answer: str) -> Screened:
    """Blank out what no candidate says to an interviewer: invisible characters, comments, role tags, orders.

    A blanked order is *flagged*, not punished: what else the answer says is graded as usual.
    """
    hidden: list[str] = []
    injections: list[str] = []
    judged = answer

    def blank(match: re.Match[str]) -> str:
        return " " * len(match.group())

    if _INVISIBLE.search(judged):
        hidden.append("".join(sorted({f"U+{ord(c):04X} " for c in _INVISIBLE.findall(judged)})).strip())
        judged = _INVISIBLE.sub(blank, judged)
    for pattern, sink in ((_COMMENT, hidden), (_ROLE_TAG, injections)):
        sink.extend(m.group()[:200] for m in pattern.finditer(judged))
        judged = pattern.sub(blank, judged)
    for sentence in sentences(judged):
        if _ADDRESSES_GRADER.search(sentence.text):
            injections.append(sentence.text[:200])
            judged = judged[: sentence.start] + " " * len(sentence.text) + judged[sentence.end :]
    return Screened(judged, tuple(injections), tuple(hidden))


def neutralise(text: str) -> str:
    """Make our own prompt delimiters harmless inside text that we did not write."""
    return (
        text.replace("<<<", "＜＜＜").replace(">>>", "＞＞＞").replace("```", "｀｀｀").replace("<|", "＜|")
    )
