"""report.html: one self-contained file, no script, no address outside; everything from outside is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from coach.batch.similar import Cluster
from coach.batch.stats import BINS, QuestionStats, Stats

_MOST = 200
_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.55 system-ui,"PingFang SC","Microsoft YaHei",sans-serif;max-width:1000px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.3rem .5rem;border-bottom:1px solid #8884;vertical-align:top;overflow-wrap:anywhere}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.bar{background:#3b82f6;height:.7rem;border-radius:2px;min-width:1px}.track{width:7rem;background:#8883;border-radius:2px;margin-top:.45rem}.bar.low{background:#ef4444}.bar.mid{background:#f59e0b}
.cards{display:flex;flex-wrap:wrap;gap:.8rem}.card{border:1px solid #8886;border-radius:8px;padding:.6rem 1rem;min-width:7rem}
.card b{display:block;font-size:1.4rem}.dim{opacity:.7;font-size:.9em}details{margin:.4rem 0}summary{cursor:pointer}
.hist{display:flex;align-items:flex-end;gap:4px;height:150px}.hist div{flex:1;text-align:center;font-size:.8em}
.hist i{display:block;background:#3b82f6;border-radius:3px 3px 0 0}
"""


def _cells(tag: str, values: Iterable[Any], numeric: frozenset[int] = frozenset()) -> str:
    return "".join(
        f"<{tag}{' class=n' if i in numeric else ''}>{v if isinstance(v, _Html) else escape(str(v))}</{tag}>"
        for i, v in enumerate(values)
    )


class _Html(str):
    """Text that is markup already; everything else is escaped."""


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Iterable[int] = ()) -> str:
    marked = frozenset(numeric)
    body = "".join(f"<tr>{_cells('td', r, marked)}</tr>" for r in rows)
    return f"<table><thead><tr>{_cells('th', head, marked)}</tr></thead><tbody>{body}</tbody></table>"


def _bar(share: float | None) -> _Html:
    if share is None:
        return _Html("–")
    kind = " low" if share < 0.34 else " mid" if share < 0.67 else ""
    return _Html(
        f'<div class="track"><div class="bar{kind}" style="width:{100 * min(1.0, max(0.0, share)):.0f}%"></div></div>'
    )


def _show(x: float | None, digits: int = 0) -> str:
    return "–" if x is None else f"{x:.{digits}f}"


def _cards(values: Sequence[tuple[str, str]]) -> str:
    return (
        '<div class="cards">'
        + "".join(f'<div class="card"><b>{escape(v)}</b>{escape(k)}</div>' for k, v in values)
        + "</div>"
    )


def _histogram(bins: Sequence[int]) -> str:
    top = max(bins) or 1
    columns = "".join(
        f'<div>{n}<i style="height:{110 * n / top:.0f}px"></i>{i * 100 // BINS}–{(i + 1) * 100 // BINS}</div>'
        for i, n in enumerate(bins)
    )
    return f'<div class="hist" role="img" aria-label="分数分布">{columns}</div>'


def _question(q: QuestionStats) -> str:
    rows = [
        (
            pid,
            p.text,
            _bar(p.pair.mean),
            _show(p.pair.mean, 2),
            _show(p.pair.correlation, 2),
            p.statuses.get("covered", 0),
            p.statuses.get("partial", 0),
            p.statuses.get("missing", 0) + p.statuses.get("contradicted", 0),
            p.statuses.get("unjudged", 0),
        )
        for pid, p in q.points.items()
    ]
    head = ("要点", "内容", "", "得分率", "区分度", "答到", "部分", "漏/错", "未判")
    pitfalls = "".join(
        f"<li>{escape(q.pitfall_text.get(i, i))} <span class=dim>×{n}</span></li>"
        for i, n in q.pitfalls.most_common()
    )
    title = (
        f"{escape(q.text[:120])} <span class=dim>{escape(q.id)} · {sum(q.statuses.values())} 份 · "
        f"均分 {_show(q.scores.mean)} · 标准差 {_show(q.scores.deviation)}</span>"
    )
    found = f"<p>踩中的误区</p><ul>{pitfalls}</ul>" if pitfalls else ""
    return f"<details><summary>{title}</summary>{_table(head, rows, range(3, 9))}{found}</details>"


def page(stats: Stats, found: Sequence[Cluster], facts: Sequence[tuple[str, str]], stopped: str = "") -> str:
    """The whole document. `facts` are (name, value) lines about the run: grader, input, tokens, cost."""
    total = sum(stats.statuses.values())
    ok = stats.statuses.get("ok", 0)
    questions = sorted(stats.questions.values(), key=lambda q: -sum(q.statuses.values()))
    missed = [
        (p.text, q.text[:60], _bar(p.pair.mean), _show(p.pair.mean, 2), p.pair.n)
        for q, p in stats.most_missed(20, least=min(5, max(1, ok // 20)))
    ]
    reviews = [
        (r.id, r.question_id, _show(r.score), "；".join(r.reasons) + (f"「{r.quote}」" if r.quote else ""))
        for r in stats.reviews
    ]
    copies = [
        (
            c.question_id,
            len(c.ids),
            f"{c.overlap:.0%}",
            "、".join(c.ids[:30]) + (" …" if len(c.ids) > 30 else ""),
        )
        for c in found
    ]
    parts = [
        "<h1>批量评分报告</h1>",
        f"<p><strong>没有跑完：</strong>{escape(stopped)}</p>" if stopped else "",
        _cards(
            [
                ("份回答", f"{total:,}"),
                ("已评分", f"{ok:,}"),
                ("没有分数", f"{total - ok:,}"),
                ("均分", _show(stats.scores.mean, 1)),
                ("标准差", _show(stats.scores.deviation, 1)),
                ("需要人看", f"{stats.review_count:,}"),
            ]
        ),
        "<h2>分数分布</h2>",
        _histogram(stats.bins),
        "<h2>最常漏掉的要点</h2>",
        _table(("要点", "题目", "", "得分率", "份数"), missed, (3, 4)) if missed else "<p>没有。</p>",
        "<h2>逐题</h2>",
        "<p class=dim>得分率越低越难；区分度是该要点得分与其余要点得分的相关，接近 0 或为负说明这个要点分不出好坏。</p>",
        *(_question(q) for q in questions[:_MOST]),
        f"<p class=dim>另有 {len(questions) - _MOST} 题，见 summary.json。</p>"
        if len(questions) > _MOST
        else "",
        "<h2>需要人看的回答</h2>",
        f"<p class=dim>列出 {len(reviews)} / {stats.review_count} 份，其余见 grades.csv 的 review 列。</p>",
        _table(("编号", "题目", "分数", "原因"), reviews, (2,)) if reviews else "<p>没有。</p>",
        "<h2>几乎相同的回答</h2>",
        "<p class=dim>只是提示：文字重合不等于抄袭。</p>",
        _table(("题目", "份数", "重合度", "编号"), copies, (1, 2)) if copies else "<p>没有。</p>",
        "<h2>关于这次评分</h2>",
        _table(("项目", "值"), facts),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html><html lang="zh"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>批量评分报告</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )
