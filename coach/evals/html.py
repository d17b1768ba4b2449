"""The report as one self-contained HTML file. Everything that a candidate or a model wrote is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from coach.evals import charts
from coach.evals.measure import COMPARED, Measurement
from coach.evals.sections import UNDEFINED, counted, interval, shown_sections, written
from coach.evals.tables import GRADER
from coach.metrics import METRICS, Estimate

_STYLE = """
:root{--ink:#1d2430;--soft:#5d6675;--line:#dfe3ea;--paper:#fff;--band:#f5f7fa;--blue:#2463c5;--gold:#c98a00;
--covered:#d5f0dc;--partial:#fdf0c4;--missing:#f7d7d7;--contradicted:#ecd9f7;--unjudged:#e3e5e8}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#9aa4b2;--line:#343b46;--paper:#15181d;--band:#1d2128;
--blue:#7fb0ff;--gold:#f0b94a;--covered:#1f4a2c;--partial:#574818;--missing:#5a2626;--contradicted:#472a5a;
--unjudged:#3a3f47}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1120px;padding:24px;background:var(--paper);color:var(--ink);
font:15px/1.55 system-ui,-apple-system,"Noto Sans CJK SC","PingFang SC","Microsoft YaHei",sans-serif}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:36px 0 8px}h3{font-size:15px;margin:18px 0 6px}
p{margin:4px 0 10px}.soft{color:var(--soft)}code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}.scroll{overflow-x:auto}
th,td{padding:4px 12px 4px 0;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}
td.main{font-weight:700}tr.section td{padding-top:14px;font-weight:700;border-bottom:2px solid var(--line)}
.grid2{display:flex;flex-wrap:wrap;gap:32px}svg{max-width:100%;height:auto}
svg text{font-size:11px;fill:var(--soft)}svg .label{font-size:12px}svg .grid{stroke:var(--line)}
svg .ideal{stroke:var(--soft);stroke-dasharray:4 4}svg .curve{fill:none;stroke:var(--blue);stroke-width:2}
svg .dot{fill:var(--blue)}svg .faint{fill:var(--blue);opacity:.35}svg .mean{stroke:var(--ink);stroke-width:3}
svg .gold{fill:var(--gold)}td.cell{text-align:center;min-width:52px}
details{border:1px solid var(--line);border-radius:8px;padding:8px 14px;margin:8px 0}summary{cursor:pointer}
.answer{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--band);border-radius:6px;padding:10px 12px;
margin:8px 0}mark{color:inherit;border-radius:3px;padding:1px 0}
.covered{background:var(--covered)}.partial{background:var(--partial)}.missing{background:var(--missing)}
.contradicted{background:var(--contradicted)}.unjudged{background:var(--unjudged)}
.tag{display:inline-block;border-radius:4px;padding:0 7px;font-size:13px}
.worst td,.worst th{white-space:normal;vertical-align:top}.warn{border-left:4px solid var(--gold);padding-left:10px}
"""


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]], css: str = "") -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{escape(h)}</th>" for h in headers)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table class="{css}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _headline(measured: Measurement) -> str:
    others = [s for s in measured.metrics if s != GRADER]
    rows = []
    for title, names in shown_sections(measured).items():
        rows.append(f'<tr class="section"><td colspan="{len(others) + 5}">{escape(title)}</td></tr>')
        for name in names:
            found = measured.metrics[GRADER][name]
            cells = [
                f"<td>{escape(METRICS[name].title)}</td>",
                f'<td class="main">{written(name, found.value)}</td>',
                f"<td>{interval(name, found)}</td>",
                *(f"<td>{written(name, measured.metrics[s][name].value)}</td>" for s in others),
                f'<td class="soft">{found.rows}</td><td class="soft">{found.groups}</td>',
            ]
            rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = "".join(
        f"<th>{escape(h)}</th>" for h in ("", "grader", "95 % interval", *others, "rows", "questions")
    )
    return f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _difference(name: str, found: Estimate | None) -> str:
    if found is None or found.value is None:
        return UNDEFINED
    text = f'{written(name, found.value)}<br><span class="soft">{interval(name, found)}</span>'
    clear = found.low is not None and found.high is not None and not found.low <= 0 <= found.high
    return f"<b>{text}</b>" if clear else text


def _heat(counts: Sequence[Sequence[int]], rows: Sequence[str], columns: Sequence[str], corner: str) -> str:
    """A confusion matrix; the shade is the share of its row."""
    out = []
    for name, line in zip(rows, counts, strict=True):
        total = sum(line) or 1
        cells = "".join(
            f'<td class="cell" style="background:color-mix(in srgb,var(--blue) {60 * n / total:.0f}%,var(--paper))">{n}</td>'
            for n in line
        )
        out.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
    head = "".join(f"<th>{escape(c)}</th>" for c in (corner, *columns))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(out)}</tbody></table>"


def highlighted(answer: str, spans: Sequence[tuple[int, int, str, str]]) -> str:
    """The answer with (start, end, status, title) spans marked; where spans overlap the later one wins.

    >>> highlighted("a<b>c", [(1, 4, "covered", "t")])
    'a<mark class="covered" title="t">&lt;b&gt;</mark>c'
    """
    owner = [-1] * len(answer)
    for i, (start, end, _, _) in enumerate(spans):
        for at in range(max(0, start), min(end, len(answer))):
            owner[at] = i
    out, start = [], 0
    for at in range(1, len(answer) + 1):
        if at == len(answer) or owner[at] != owner[start]:
            piece = escape(answer[start:at])
            if owner[start] >= 0:
                _, _, status, title = spans[owner[start]]
                piece = f'<mark class="{escape(status)}" title="{escape(title)}">{piece}</mark>'
            out.append(piece)
            start = at
    return "".join(out)


def _worst(row: Mapping[str, Any], rank: int) -> str:
    spans = [
        (v["quote"]["start"], v["quote"]["end"], v["status"], v["text"])
        for v in row["verdicts"]
        if v["quote"]
    ]
    spans += [
        (p["quote"]["start"], p["quote"]["end"], "contradicted", f"pitfall: {p['claim']}")
        for p in row["pitfalls"]
    ]
    verdicts = _table(
        ("point", "weight", "gold", "verdict", "P"),
        (
            (
                escape(v["text"]),
                str(v["weight"]),
                UNDEFINED if v["label"] is None else f"{v['label']:g}",
                f'<span class="tag {escape(v["status"])}">{escape(v["status"])}</span>',
                UNDEFINED if v["probability"] is None else f"{v['probability']:.2f}",
            )
            for v in row["verdicts"]
        ),
        "worst",
    )
    hits = "".join(f"<p>pitfall found: {escape(p['claim'])}</p>" for p in row["pitfalls"])
    gold_hits = f"<p>pitfalls by gold: {escape(', '.join(row['asserted']))}</p>" if row["asserted"] else ""
    opened = " open" if rank == 1 else ""
    return (
        f"<details{opened}><summary><b>{row['score']:.0f}</b> given, <b>{row['gold']:.0f}</b> gold · "
        f"{escape(row['tier'])} · <code>{escape(row['id'])}</code></summary>"
        f'<p>{escape(row["question"])}</p><div class="answer">{highlighted(row["answer"], spans)}</div>'
        f"{verdicts}{hits}{gold_hits}</details>"
    )


def render(measured: Measurement) -> str:
    """The whole report; nothing in it is fetched from anywhere."""
    meta, f = measured.meta, measured.meta.fingerprint
    statuses = ("covered", "partial", "missing", "contradicted", "unjudged")
    prompts = " ".join(f"{name}@{digest}" for name, digest in sorted(f.prompts.items()))
    labels = list(measured.confusion)
    usage = measured.counts["usage"]
    short = ("mean", "mean_abs", "largest_abs")
    parts = [
        f"<h1>{escape(meta.name)}</h1>",
        f'<p class="soft">{escape(meta.created)} · split {escape(meta.split)} · {escape(f.model)} · {escape(f.judge)} · '
        f"calibration {escape(f.calibration)} · knowledge {escape(f.knowledge)} · embedder {escape(f.embedder)} · "
        f"code {escape(meta.code)}<br><code>{escape(prompts)}</code></p>",
        f"<p>{escape(counted(measured))}. {usage['calls']:,} calls, {usage['prompt_tokens']:,} tokens in, "
        f"{usage['completion_tokens']:,} out, {usage['seconds'] / 60:.1f} minutes of grading.</p>",
        _partial(measured),
        "<h2>Headline</h2>",
        "<p>Intervals: 95 %, bootstrap over questions. Floors are fitted on other questions only.</p>",
        _headline(measured),
    ]
    if measured.against:
        parts += [
            "<h2>Grader minus floor</h2><p>Paired, on answers that both scored; bold where the interval excludes zero.</p>",
            _table(
                ("", *measured.against),
                (
                    (
                        escape(METRICS[m].title),
                        *(_difference(m, measured.against[s].get(m)) for s in measured.against),
                    )
                    for m in COMPARED
                ),
            ),
        ]
    parts += [
        "<h2>Verdicts against labels</h2>",
        '<div class="grid2"><div><h3>points: gold label by row</h3>',
        _heat(
            [[measured.confusion[n].get(s, 0) for s in statuses] for n in labels], labels, statuses, "gold"
        ),
        "</div><div><h3>answers: gold mark 0–5 by row, given mark by column</h3>",
        _heat(measured.marks, [str(i) for i in range(6)], [str(i) for i in range(6)], "gold"),
        "</div></div>",
        '<div class="grid2"><div><h2>Reliability</h2>',
        charts.reliability(measured.reliability)
        if measured.reliability
        else "<p>no probabilities in this run</p>",
        "</div><div><h2>Risk and coverage</h2>",
        charts.risk_coverage(measured.risk) if measured.risk else "<p>no intervals in this run</p>",
        "</div></div>",
        '<h2>Score by tier</h2><p>Dots: answers. Bar: mean score. Diamond: mean gold.</p><div class="scroll">',
        charts.strip(measured.tiers),
        "</div>",
        _table(
            ("tier", "answers", "no score", "mean gold", "mean score"),
            (
                (
                    escape(t),
                    str(r["answers"]),
                    str(r["unscored"]),
                    written("mae", r["mean_gold"]),
                    written("mae", r["mean_score"]),
                )
                for t, r in measured.tiers.items()
            ),
        ),
        "<h2>Consistency</h2><p>Changes by rule: what they did to the score and to verdicts.</p>",
        _table(
            ("change", "pairs", "mean Δ", "mean |Δ|", "largest |Δ|", "verdict flips"),
            (
                (
                    escape(k),
                    str(r["pairs"]),
                    *(f"{r[n]:.1f}" for n in short),
                    f"{r['flips']} of {r['points']}",
                )
                for k, r in measured.kinds.items()
            ),
        ),
        "<h2>Injection by form</h2><p>Wins: the attack raised the score by more than 10.</p>",
        _table(
            ("form", "tries", "wins", "flagged", "largest Δ"),
            (
                (escape(k), str(r["tries"]), str(r["wins"]), str(r["flagged"]), f"{r['largest']:+.1f}")
                for k, r in measured.injections.items()
            ),
        ),
        f"<h2>The {len(measured.worst)} worst answers</h2><p>Furthest from gold. Marked: what the grader quoted.</p>",
        *(_worst(row, i) for i, row in enumerate(measured.worst, 1)),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(meta.name)}</title><style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def _partial(measured: Measurement) -> str:
    chosen = {k: v for k, v in measured.meta.selection.items() if v and k != "seed"}
    notes = []
    if chosen:
        notes.append(f"A part of the split only: {escape(', '.join(f'{k} {v}' for k, v in chosen.items()))}.")
    if measured.counts["missing"]:
        notes.append(f"{measured.counts['missing']} items are not graded yet.")
    return f'<p class="warn">{" ".join(notes)}</p>' if notes else ""
