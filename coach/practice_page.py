"""Interviews → one HTML page: no script, no network, plots as inline SVG; everything a person wrote is escaped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape

from coach.domain import Grade, Status
from coach.messages import Messages
from coach.practice.progress import Progress, progress, summary
from coach.practice.store import Store
from coach.report import MARK, score_line
from coach.score import credit

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2128;--dim:#6a737d;--line:#d8dee4;--bg:#fff;--good:#1a7f37;--mid:#9a6700;
--bad:#cf222e;--bar:#0969da}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#8b949e;--line:#30363d;--bg:#0d1117;--good:#3fb950;
--mid:#d29922;--bad:#f85149;--bar:#4493f8}}
body{font:16px/1.7 system-ui,"PingFang SC","Microsoft YaHei","Noto Sans CJK SC",sans-serif;color:var(--ink);
background:var(--bg);max-width:52rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.2rem;border-bottom:1px solid var(--line);margin-top:2.5rem}
h3{font-size:1rem;margin:1.6rem 0 .3rem}small,.dim{color:var(--dim)}
blockquote{margin:.3rem 0;padding:.2rem .8rem;border-left:3px solid var(--line);white-space:pre-wrap;
overflow-wrap:anywhere}
ul{list-style:none;padding:0;margin:.5rem 0}li{margin:.25rem 0}mark{background:none;color:var(--bar)}
.covered{color:var(--good)}.partial{color:var(--mid)}.missing,.contradicted{color:var(--bad)}
svg{width:100%;height:auto}svg text{fill:var(--ink);font-size:12px}svg .axis{stroke:var(--line)}
details summary{cursor:pointer}
"""


def headline(seen: Progress, say: Messages) -> str:
    """How much was practised and what is due, in one line."""
    return say(
        "progress",
        interviews=seen.interviews,
        answers=seen.answers,
        due=seen.due,
        questions=seen.due_questions,
    )


def _topics(seen: Progress, say: Messages) -> str:
    rows = []
    for i, t in enumerate(seen.topics):
        y = 24 * i
        rows.append(
            f'<text x="0" y="{y + 15}">{escape(t.topic)}</text>'
            f'<rect x="190" y="{y + 3}" width="{3 * t.average:.1f}" height="16" fill="var(--bar)"/>'
            f'<text x="{196 + 3 * t.average:.1f}" y="{y + 15}">{escape(say("topic_row", average=t.average, n=t.questions))}</text>'
        )
    height = 24 * len(seen.topics) + 4
    return f'<svg viewBox="0 0 640 {height}" role="img" aria-label="{escape(say("page_topics"))}">{"".join(rows)}</svg>'


def _timeline(seen: Progress, say: Messages) -> str:
    rows = seen.timeline[-40:]
    step = 560 / max(1, len(rows) - 1)
    xy = [(40 + i * step, 150 - 1.4 * score) for i, (_, _, score) in enumerate(rows)]
    grid = "".join(
        f'<line class="axis" x1="40" x2="600" y1="{150 - 1.4 * s:.0f}" y2="{150 - 1.4 * s:.0f}"/>'
        f'<text x="8" y="{154 - 1.4 * s:.0f}">{s}</text>'
        for s in (0, 50, 100)
    )
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in xy)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="var(--bar)"><title>#{n} {score:.0f}</title></circle>'
        for (x, y), (_, n, score) in zip(xy, rows, strict=True)
    )
    ends = [(xy[0][0], rows[0][0])] + ([(xy[-1][0], rows[-1][0])] if len(rows) > 1 else [])
    dates = "".join(
        f'<text x="{x:.0f}" y="170" text-anchor="middle">{time.strftime("%m-%d", time.localtime(at))}</text>'
        for x, at in ends
    )
    return (
        f'<svg viewBox="0 0 640 176" role="img" aria-label="{escape(say("page_timeline"))}">{grid}'
        f'<polyline points="{line}" fill="none" stroke="var(--bar)" stroke-width="2"/>{dots}{dates}</svg>'
    )


def _calibration(seen: Progress, say: Messages) -> str:
    dots = "".join(
        f'<circle cx="{40 + 2 * g:.1f}" cy="{220 - 2 * s:.1f}" r="4" fill="var(--bar)" fill-opacity=".6"/>'
        for g, s in seen.guesses
    )
    return (
        f'<svg viewBox="0 0 250 250" style="max-width:26rem" role="img" aria-label="{escape(say("page_calibration"))}">'
        '<line class="axis" x1="40" y1="220" x2="240" y2="20" stroke-dasharray="4"/>'
        '<line class="axis" x1="40" y1="220" x2="240" y2="220"/><line class="axis" x1="40" y1="220" x2="40" y2="20"/>'
        f'{dots}<text x="110" y="242">{escape(say("page_guess"))}</text>'
        f'<text x="0" y="120">{escape(say("page_score"))}</text></svg>'
    )


def _quoted(answer: str, grade: Grade | None) -> str:
    """The answer with the judge's quotes marked; offsets are checked against the text they claim to be."""
    spans = sorted(
        {
            (v.quote.start, v.quote.end)
            for v in (grade.verdicts if grade else ())
            if v.quote and answer[v.quote.start : v.quote.end] == v.quote.text
        }
    )
    out, at = [], 0
    for start, end in spans:
        if start < at:
            continue
        out += [escape(answer[at:start]), "<mark>", escape(answer[start:end]), "</mark>"]
        at = end
    return "".join([*out, escape(answer[at:])])


def _verdicts(grade: Grade, say: Messages) -> str:
    rows = []
    for v in grade.verdicts:
        mark = MARK[v.status][0]
        earned = "–" if v.status is Status.UNJUDGED else f"{v.weight * credit(v):g}"
        cite = f" <small>↳ {escape(v.citation.ref)}</small>" if v.citation else ""
        rows.append(
            f'<li><span class="{v.status.value}">{mark} {earned}/{v.weight}</span> {escape(v.text)}{cite}</li>'
        )
    for h in grade.pitfalls:
        rows.append(
            f'<li><span class="missing">！ −{h.penalty}</span> {escape(h.claim)} → {escape(h.correction)}</li>'
        )
    score = f"<p><b>{escape(score_line(grade.score, say))}</b></p>" if grade.score else ""
    return f"<ul>{''.join(rows)}</ul>{score}"


def _interview(store: Store, interview: int, say: Messages) -> str:
    row, found = store.interview(interview), summary(store, interview)
    head = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.started))
    average = f" · {say('page_average', score=found.average)}" if found.average is not None else ""
    parts = [f"<h2>{escape(say('page_interview', id=interview))} <small>{head}{average}</small></h2>"]
    for round_ in store.rounds(interview):
        parts.append(f"<h3>{escape(round_.question.question)}</h3>")
        for turn in store.turns(round_.id):
            if turn.follow_up:
                parts.append(f"<p><b>{escape(say('follow_up'))}</b> {escape(turn.prompt)}</p>")
            if turn.answer is not None:
                parts.append(f"<blockquote>{_quoted(turn.answer, turn.grade)}</blockquote>")
        parts.append(
            _verdicts(round_.merged, say)
            if round_.merged
            else f'<p class="dim">{escape(say("page_no_grade"))}</p>'
        )
        if round_.merged and round_.question.reference:
            parts.append(
                f"<details><summary>{escape(say('reference'))}</summary>"
                f"<blockquote>{escape(round_.question.reference.strip())}</blockquote></details>"
            )
    return "".join(parts)


def page(store: Store, interviews: Sequence[int], now: float, say: Messages) -> str:
    """The whole page. Plots are over everything stored; transcripts are those of `interviews`."""
    seen = progress(store, now)
    plots = ""
    if seen.topics:
        plots = (
            f"<h2>{escape(say('page_topics'))}</h2>{_topics(seen, say)}"
            f"<h2>{escape(say('page_timeline'))}</h2>{_timeline(seen, say)}"
        )
    if seen.bias is not None:
        bias = say("page_bias", n=len(seen.guesses), bias=seen.bias)
        plots += f"<h2>{escape(say('page_calibration'))}</h2>{_calibration(seen, say)}<p>{escape(bias)}</p>"
    head = headline(seen, say)
    if seen.premises:
        head += " · " + say("resistance", kept=seen.resisted, asked=seen.premises)
    title = escape(say("page_title"))
    return (
        f'<!doctype html><html lang="{say.lang}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body><h1>{title}</h1><p>{escape(head)}</p>"
        f"{plots}{''.join(_interview(store, i, say) for i in interviews)}</body></html>"
    )
