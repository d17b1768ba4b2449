"""`coach bank draft` and `coach bank review`: questions from your own notes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from coach.cli.common import progress, settings
from coach.errors import UsageError

if TYPE_CHECKING:
    from coach.drafts import Draft


def draft(
    name: str = typer.Argument(..., help="A note set (coach notes show)."),
    model: bool = typer.Option(
        True, "--model/--no-model", help="Let the LLM draft the points; else sentences of the note."
    ),
    limit: int | None = typer.Option(
        None, "--limit", min=1, help="Draft at most so many now; the rest next time."
    ),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Draft bank questions from questions of your notes that the bank does not ask. Every point cites its line.

    \b
    coach bank draft llm --limit 20
    coach bank draft llm --no-model
    coach bank review llm
    """
    from coach import report
    from coach.drafts import draft_all
    from coach.llm import open_llm
    from coach.notes.sets import load_set

    config = settings()
    result = load_set(config.home, name)
    llm = open_llm(config) if model else None
    with progress("drafting") as bar:
        drafts, made = draft_all(config, llm, result, limit=limit, progress=bar)
    if as_json:
        typer.echo(report.as_json(list(drafts.values())))
        return
    for d in drafts.values():
        typer.echo(f"{d.id}  {d.status}  {len(d.points)} points ({d.made_by})  {d.question}  ↳ {d.source}")
    typer.echo(f"{made} new, {len(drafts)} drafts; look at them with: coach bank review {name}")


def review(
    name: str = typer.Argument(..., help="A note set with drafts."),
    accept: list[str] = typer.Option([], "--accept", help="Accept this draft and ask nothing."),
    reject: list[str] = typer.Option([], "--reject", help="Reject this draft and ask nothing."),
) -> None:
    """Go through the drafts: accept, edit the points, reject, or leave for later. Every decision is saved at once.

    Accepted questions are written to COACH_HOME/bank/NAME.yaml in the form of the bank, with topic `imported`.

    \b
    coach bank review llm
    coach bank review llm --accept draft-0a1b2c3d4e --reject draft-5f6a7b8c9d
    """
    from coach.drafts import drafts_file, load_drafts, save_drafts

    config = settings()
    path = drafts_file(config.home, name)
    drafts = load_drafts(path)
    if not drafts:
        raise UsageError(f"no drafts of {name!r}", f"coach bank draft {name}")
    unknown = [i for i in (*accept, *reject) if i not in drafts]
    if unknown:
        raise UsageError(f"no such draft: {', '.join(unknown)}", f"coach bank draft {name} lists them")
    if accept or reject:
        for i in accept:
            drafts[i].as_question()
            drafts[i] = drafts[i].model_copy(update={"status": "accepted"})
        for i in reject:
            drafts[i] = drafts[i].model_copy(update={"status": "rejected"})
        save_drafts(path, drafts.values())
    else:
        _talk(drafts, lambda: save_drafts(path, drafts.values()))
    from coach.drafts import write_bank

    file, count = write_bank(config.home, name, drafts.values())
    typer.echo(f"已接受 {count} 题" + (f"，写在 {file}" if count else ""))


def _talk(drafts: dict[str, Draft], save: object) -> None:
    assert callable(save)
    open_ = [d for d in drafts.values() if d.status == "draft"]
    for n, d in enumerate(open_, 1):
        typer.echo(f"\n[{n}/{len(open_)}] 草稿（未审） {d.question}   ↳ {d.source}")
        for i, p in enumerate(d.points, 1):
            typer.echo(f"  {i}. {p.text}   ↳ {p.citation.ref}")
        if not d.points:
            typer.echo("  （笔记里没有答案，没有要点）")
        typer.echo("a 接受 · d 1,3 删掉要点后接受 · r 拒绝 · 回车 以后再说 · q 结束")
        said = sys.stdin.readline()
        if not said or said.strip() == "q":
            return
        word = said.strip().lower()
        if word.startswith("d"):
            gone = {
                int(x)
                for x in word[1:].replace("，", ",").replace(" ", ",").split(",")
                if x.strip().isdigit()
            }
            d = d.model_copy(update={"points": tuple(p for i, p in enumerate(d.points, 1) if i not in gone)})
            word = "a"
        if word == "a" and not d.points:
            typer.echo("没有要点的题不能接受，先留着。")
        elif word in ("a", "r"):
            drafts[d.id] = d.model_copy(update={"status": "accepted" if word == "a" else "rejected"})
            save()
