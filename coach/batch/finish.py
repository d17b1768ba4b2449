"""What a run leaves behind beside grades.jsonl: grades.csv, grades.xlsx, summary.json, report.html."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from coach.batch import page, tables
from coach.batch.engine import cost_of
from coach.batch.records import Record
from coach.batch.run import Run
from coach.batch.similar import clusters
from coach.batch.stats import Stats
from coach.batch.store import write_text

SUMMARY = "summary.json"


def records(run: Run, by_question: bool = False) -> Iterator[tuple[Record, str]]:
    """(record, question key) of every row that has one, read from grades.jsonl as they are needed."""
    with run.grades.open("rb") as f:
        for entry, offset, length in run.spool.finished(by_question):
            f.seek(offset)
            yield json.loads(f.read(length)), entry.qkey


def write_reports(run: Run, source: str, xlsx: bool = True) -> dict[str, Any]:
    """Writes all four, each atomically; returns the summary."""
    stats = Stats()
    for record, qkey in records(run):
        stats.add(record, qkey, run.spool.question(qkey) if qkey else None)
    summary = summarise(run, stats, source)
    copies = list(
        clusters((e.qkey, e.question_id, e.id, e.answer) for e, _, _ in run.spool.finished(True) if e.qkey)
    )
    summary["similar_answers"] = [
        {"question_id": c.question_id, "ids": c.ids, "overlap": c.overlap} for c in copies
    ]
    out = run.options.out
    columns = tables.header(tables.point_columns(stats))
    tables.write_csv(out / "grades.csv", columns, tables.table((r for r, _ in records(run)), stats))
    if xlsx:
        tables.write_workbook(out / "grades.xlsx", columns, tables.table((r for r, _ in records(run)), stats))
    write_text(out / "report.html", page.page(stats, copies, facts(summary), run.outcome.stopped))
    write_text(out / SUMMARY, json.dumps(summary, ensure_ascii=False, indent=2) + "\n")
    return summary


def summarise(run: Run, stats: Stats, source: str) -> dict[str, Any]:
    o, done = run.options, run.outcome
    return {
        "input": source,
        "counts": done.counts,
        "stopped": done.stopped,
        "this_run": {
            "graded": done.graded,
            "reused": done.reused,
            "seconds": round(done.seconds, 2),
            "usage": done.spent.model_dump(),
            "cost": cost_of(done.spent, o.price_in, o.price_out),
            "retries": done.retries,
        },
        "total_cost": cost_of(stats.usage, o.price_in, o.price_out),
        "prices_per_million": {"in": o.price_in, "out": o.price_out},
        "fingerprint": run.engine.fingerprint.model_dump(mode="json"),
        "warnings": done.warnings,
        **stats.as_dict(),
    }


def facts(summary: dict[str, Any]) -> list[tuple[str, str]]:
    f, usage, this = summary["fingerprint"], summary["usage"], summary["this_run"]
    cost = summary["total_cost"]
    return [
        ("输入", summary["input"]),
        ("评分模型", f"{f['model']}（{f['judge']}）"),
        ("校准 / 知识 / 向量", f"{f['calibration']} / {f['knowledge']} / {f['embedder']}"),
        ("版本", f["version"]),
        (
            "词元",
            f"输入 {usage['prompt_tokens']:,}（缓存 {usage['cached_tokens']:,}），输出 {usage['completion_tokens']:,}",
        ),
        ("费用", "未设单价（COACH_PRICE_IN / COACH_PRICE_OUT）" if cost is None else f"{cost:.4f}"),
        ("本次", f"新评 {this['graded']:,}，沿用 {this['reused']:,}，{this['seconds']:,.0f} 秒"),
        *((f"错误：{reason}", str(n)) for reason, n in summary["errors"].items()),
    ]
