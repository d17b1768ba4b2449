"""What a page carries besides its content: share buttons, bylines, chatbot phrases, templates, omission notes.

One row per kind. A new site's furniture is one more pattern here; the report names the kind for every line dropped.
"""

from __future__ import annotations

import re

from coach.notes.marks import PLACEHOLDER, clean, is_empty

_ROWS: tuple[tuple[str, str], ...] = (
    ("date line", r"^(?:创建|更新|修改|发布|编辑|最后编辑)(?:时间|日期|于)\s*[:：]?\s*[\d年].*$"),
    (
        "byline",
        r"^\*{0,2}\d{4}[年\-/.]\d{1,2}[月\-/.]\d{1,2}日?\s*\d{0,2}:?\d{0,2}\*{0,2}(?:\s*\*?[\u4e00-\u9fff]{2,4}\*?)?$",
    ),
    (
        "byline",
        r"^(?:来源|作者|原文|原文链接|转载自|公众号|本文作者|编辑|责编|author|source)\s*[:：].{0,60}$",
    ),
    ("byline", r"^(?:本文)?(?:首发于|发布于|编辑于|转载请注明|版权声明|著作权归).{0,60}$"),
    (
        "page furniture",
        r"^(?:分享|收藏|点赞|在看|赞同|喜欢|评论|留言|转发|举报|打赏|关注|已关注|复制链接|阅读原文|展开全文|收起|知道了|目录|返回顶部|上一篇|下一篇)(?:\s*\(?\d*\)?)$",
    ),
    ("page furniture", r"^(?:阅读|浏览|赞|赞同|评论|收藏)(?:量|数)?\s*[:：]?\s*[\d.,]+\s*[万wk+]*$"),
    (
        "page furniture",
        r"^(?:继续|向上|向下|左右)滑动.*$|轻点两下|^预览时标签不可点|^微信扫一扫|^扫(?:码|描).{0,20}(?:关注|加群|二维码)",
    ),
    (
        "page furniture",
        r"^(?:更多推荐|相关推荐|推荐阅读|猜你喜欢|热门评论|全部评论|所有评论|最新评论)(?:\s*[(（]\d*[)）])?$",
    ),
    (
        "page furniture",
        r"^(?:登录|注册|打开(?:app|客户端)|下载app|立即下载|查看更多|加载更多|skip to content|sign in|log in|share|subscribe|advertisement|广告)$",
    ),
    (
        "advertisement",
        r"(?:加(?:我)?微信|添加微信|关注(?:我们的)?公众号|扫码|点击(?:下方|链接|领取)|限时(?:优惠|免费)|免费领取|优惠券|报名|训练营).{0,30}(?:领取|回复|进群|入群|购买|资料|咨询|报名|优惠|课程)",
    ),
    (
        "chatbot phrase",
        r"^(?:好的|当然|没问题|sure|certainly|of course)[,，!！。].{0,80}(?:解析|回答|整理|参考|为您|帮您|为你|帮你|help|here)",
    ),
    (
        "chatbot phrase",
        r"^(?:希望(?:这|以上|对)|如果(?:您|你)(?:还|有)(?:需要|其他|任何)|需要我).{0,60}(?:帮助|帮到|问题|告诉我|继续|吗)[。？！?!]?$",
    ),
    ("closing line", r"^祝(?:你|您|大家|各位|愿).{0,30}(?:顺利|成功|上岸|offer|好运|加油)[!！。~]*$"),
    ("tag line", r"^(?:#[^\s#]+\s*)+$"),
    (
        "template",
        r"^[-*+]\s*\[[ x]?\]\s*$|^[-*+]?\s*Q\d*\s*[:：]\s*$|\{\{[^}]*\}\}|^[-*+]\s*.{0,6}[:：]\s*`?(?:\[\[[^\]]*\]\]|#待\S*)`?\s*$",
    ),
    ("template", r"^[-*+]\s*(?:是什么|为什么|怎么用|怎么做|有什么用|what|why|how)\s*[?？]?$"),
    ("template", r"^!\[\[[^\].]*\]\]$"),
    ("table of contents", r"^\[?toc\]?$"),
    ("comment", r"^<!--.*-->$"),
)
_PATTERNS = tuple((kind, re.compile(pattern, re.I)) for kind, pattern in _ROWS)


def furniture_of(raw: str) -> str:
    """The kind of furniture this line is, "" when it is content."""
    line = raw.strip()
    text = clean(line)
    if PLACEHOLDER.match(text):
        return "omission note"
    for kind, pattern in _PATTERNS:
        if pattern.search(line) or (text != line and pattern.search(text)):
            return kind
    if line and not text:
        return ""  # an image or a link: counted elsewhere
    if len(text) > 3 and is_empty(text):
        return "bare punctuation"
    return ""
