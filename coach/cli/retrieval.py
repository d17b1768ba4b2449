"""`coach eval retrieval`: measured retrieval, beside a naive baseline."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from coach.cli.common import progress, settings


def retrieval(
    qrels: Path = typer.Argument(..., help="JSON Lines: query and the file:line ranges that answer it."),
    baseline: bool = typer.Option(
        True, "--baseline/--no-baseline", help="Also measure e5 over 500-character windows."
    ),
    minimum: float | None = typer.Option(
        None, "--min-recall", min=0, max=1, help="Exit 1 when recall@5 is below this."
    ),
    rewriting: bool = typer.Option(
        False, "--rewrite", help="Also measure queries that the LLM has rewritten (method `rewritten`)."
    ),
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Measure how well search finds the lines that answer a query.

    A row is {"query": "…", "relevant": ["file.md:12-15"], "kind": "…"}; `file`, `line_start`, `line_end` work as well.

    \b
    coach notes import ~/notes/llm
    coach eval retrieval qrels.jsonl
    coach eval retrieval qrels.jsonl --no-baseline --min-recall 0.8 --json
    """
    from coach import wiring
    from coach.embed import load_embedder
    from coach.retrieval_eval import DEPTHS, load_qrels, roots_of, run

    queries = load_qrels(qrels)
    config = settings()
    with progress("embedding") as bar:
        index = wiring.index(config, bar)
    cache = wiring.vector_cache(config, load_embedder(config.embedder))
    with progress("baseline") as bar, progress("searching") as searching:
        found = run(
            index, config.home, queries, cache,
            baseline=baseline, rewrite=wiring.rewriter(config) if rewriting else None,
            embedding=bar, searching=searching,
        )  # fmt: skip
    roots = roots_of(index, queries)
    if as_json:
        plain = {m: {k: asdict(v) for k, v in kinds.items()} for m, kinds in found.items()}
        typer.echo(json.dumps({"searched": {r: index.roots[r] for r in roots}, "methods": plain}, indent=2))
    else:
        typer.echo("searched in: " + ", ".join(f"{r} ({index.roots[r]} chunks)" for r in roots))
        typer.echo(
            f"{'method':10} {'kind':8} {'n':>4} "
            + " ".join(f"{f'R@{k}':>6}" for k in DEPTHS)
            + "    MRR   nDCG     ms    p95"
        )
        for method, kinds in found.items():
            for kind, m in kinds.items():
                recall = " ".join(f"{m.recall[k]:6.3f}" for k in DEPTHS)
                typer.echo(
                    f"{method:10} {kind:8} {m.n:4} {recall} {m.mrr:6.3f} {m.ndcg:6.3f} {m.ms:6.1f} {m.p95_ms:6.1f}"
                )
    whole = found["coach"].get("all") or next(iter(found["coach"].values()))
    if minimum is not None and whole.recall[5] < minimum:
        typer.secho(f"recall@5 {whole.recall[5]:.3f} is below {minimum}", fg="red", err=True)
        raise typer.Exit(1)
