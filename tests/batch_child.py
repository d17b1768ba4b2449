"""A batch run in a process of its own, to be killed: `python -m tests.batch_child FOLDER URL`.

FOLDER holds `bank/`, `notes/` and `rows.jsonl`; the index is built on the first call. Same code path as the CLI from
the endpoint client inwards; only the embedder is the hashing one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from coach.bank import load_bank
from coach.batch.caching import SharedIndex, batch_grade, shared_grader
from coach.batch.engine import Engine
from coach.batch.finish import write_reports
from coach.batch.pacing import PacedLLM, Throttle
from coach.batch.plan import Mapper
from coach.batch.questions import QuestionFinder
from coach.batch.readers import tables
from coach.batch.run import Options, Outcome, Run
from coach.config import load_settings
from coach.embed import VectorCache
from coach.index import CURATED, Root, build, open_index
from coach.judge import make_judge
from coach.llm import open_llm
from tests.fakes import HashEmbedder


def engine_for(folder: Path, url: str, jobs: int = 8, timeout: float = 1.0) -> Engine:
    settings = load_settings(
        {
            "COACH_HOME": str(folder / "home"),
            "COACH_LLM": "scripted",
            "COACH_BASE_URL": url,
            "COACH_TIMEOUT": str(timeout),
        }
    )
    embedder = HashEmbedder()
    if not (folder / "index" / "CURRENT").exists():
        build(folder / "index", [Root(CURATED, folder / "notes")], embedder, VectorCache(folder / "v.sqlite"))
    index = SharedIndex(open_index(folder / "index", embedder))
    llm = PacedLLM(open_llm(settings, paced=True), Throttle(jobs), attempts=6)
    grader = shared_grader(settings, make_judge(settings, llm, index.embedder, "structured"), index, llm)
    return Engine(batch_grade(grader, index), grader.fingerprint, jobs, llm)


def run_batch(folder: Path, engine: Engine, out: str = "out", **options: object) -> Outcome:
    mapper = Mapper(QuestionFinder(load_bank(folder / "bank")), {})
    with Run(engine, Options(out=folder / out, **options)) as run:  # type: ignore[arg-type]
        run.read(tables(folder / "rows.jsonl"), mapper)
        outcome = run.execute()
        write_reports(run, "rows.jsonl", xlsx=False)
    return outcome


if __name__ == "__main__":
    where, address = Path(sys.argv[1]), sys.argv[2]
    sys.exit(run_batch(where, engine_for(where, address)).exit_code())
