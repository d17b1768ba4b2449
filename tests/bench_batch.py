"""Speed and memory of `coach batch`, printed, never asserted.

    python -m tests.bench_batch throughput --rows 2000 --jobs 32 --latency 0.2
    python -m tests.bench_batch memory --rows 100000
    python -m tests.bench_batch profile --rows 300
    python -m tests.bench_batch scaling --rows 600 --jobs 4 --latency 0.2

`scaling` is `throughput` by one and by two workers of a Ray cluster on this machine. Both need an index in COACH_HOME (coach index) and grades against a scripted endpoint in another process.
`memory` grades with a grader that does nothing, so that only reading, storing and reporting remain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from coach.batch.engine import Engine
from coach.domain import Fingerprint, Grade, Question, Status, Verdict
from tests.batch_fakes import judge_reply
from tests.fakes import completion

QUESTIONS = ("attention-scaling-sqrt-dk", "lora-initialization", "dpo-principle", "kv-cache-principle")
CLAUSES = (
    "点积的方差等于 d_k，分数会随维度变大。",
    "softmax 饱和以后梯度接近零，训练就学不动。",
    "B 置零、A 随机初始化，一开始增量为零。",
    "低秩矩阵只训练很少的参数，显存省得多。",
    "DPO 直接用偏好对优化策略，不需要单独的奖励模型。",
    "参考模型约束住策略，不让它跑得太远。",
    "缓存历史的 key 和 value，每步只算新词元。",
    "我在项目里试过，效果和预期差不多。",
    "这个结论来自独立同分布的假设。",
    "实际部署还要看显存带宽和批大小。",
)


async def _serve(latency: float) -> None:
    """A minimal HTTP/1.1 server: 200 ms of nothing, then a verdict. One task a connection costs little CPU."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(re.search(rb"content-length: (\d+)", head.lower())[1])  # type: ignore[index]
                body = json.loads(await reader.readexactly(length))
                data = completion(judge_reply(body)).encode()
                await asyncio.sleep(latency)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
                    % len(data)
                    + data
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


def answers(n: int, questions: tuple[str, ...], seed: int = 0) -> Iterator[dict[str, str]]:
    rng = random.Random(seed)
    for i in range(n):
        text = f"第{i}份。" + "".join(rng.sample(CLAUSES, 6))
        yield {"id": f"r{i}", "question_id": rng.choice(questions), "answer": text, "candidate": f"c{i % 97}"}


def write_rows(path: Path, n: int, questions: tuple[str, ...]) -> None:
    with path.open("w", encoding="utf8") as f:
        for row in answers(n, questions):
            f.write(json.dumps(row, ensure_ascii=False) + "\n")


def _grade_all(engine: Engine, folder: Path, source: Path, xlsx: bool = True) -> dict[str, float]:
    from coach import wiring
    from coach.batch.finish import write_reports
    from coach.batch.plan import Mapper
    from coach.batch.questions import QuestionFinder
    from coach.batch.readers import tables
    from coach.batch.run import Options, Run
    from coach.config import load_settings

    mapper = Mapper(QuestionFinder(wiring.bank(load_settings())), {})
    marks = {}
    with Run(engine, Options(out=folder)) as run:
        for name, step in (
            ("read", lambda: run.read(tables(source), mapper)),
            ("grade", run.execute),
            ("report", lambda: write_reports(run, str(source), xlsx)),
        ):
            wall, cpu = time.perf_counter(), time.process_time()
            step()
            marks[name] = time.perf_counter() - wall
            marks[f"{name} cpu"] = time.process_time() - cpu
    return marks


def _endpoint(latency: float) -> tuple[subprocess.Popen[str], int]:
    code = f"import asyncio; from tests.bench_batch import _serve; asyncio.run(_serve({latency}))"
    server = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert server.stdout
    return server, int(server.stdout.readline())


def throughput(rows: int, jobs: int, latency: float, profile: bool = False) -> None:
    from coach import wiring, wiring_batch
    from coach.config import load_settings

    server, port = _endpoint(latency)
    try:
        settings = load_settings(
            {
                **os.environ,
                "COACH_LLM": "scripted",
                "COACH_BASE_URL": f"http://127.0.0.1:{port}",
                "COACH_VOTES": "1",  # rates are of one call a row
            }
        )
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            known = tuple(q for q in QUESTIONS if q in wiring.bank(settings))
            write_rows(folder / "rows.jsonl", rows, known)
            engine = wiring_batch.batch_engine(settings, "structured", jobs)
            for q in known:  # what is loaded once per run is not a cost per call
                engine.grade(wiring.bank(settings).get(q), "先热身。")
            if profile:
                import cProfile
                import pstats

                entries = [
                    (wiring.bank(settings).get(r["question_id"]), r["answer"]) for r in answers(rows, known)
                ]
                with cProfile.Profile() as profiler:
                    for question, answer in entries:
                        engine.grade(question, answer)
                pstats.Stats(profiler).sort_stats("cumulative").print_stats(45)
                return
            marks = _grade_all(engine, folder / "out", folder / "rows.jsonl")
    finally:
        server.kill()
        server.wait()
    ideal = jobs / latency
    rate = rows / marks["grade"]
    print(f"{rows} rows, {jobs} jobs, {latency * 1000:.0f} ms: {marks['grade']:.2f} s")
    print(f"rate {rate:.1f}/s of {ideal:.1f}/s ideal = {rate / ideal:.1%}")
    print(f"CPU per judged call {1000 * marks['grade cpu'] / rows:.2f} ms")
    print({k: round(v, 2) for k, v in marks.items()})


def scaling(rows: int, jobs: int, latency: float) -> None:
    """The rate while all workers are at work: between a tenth and nine tenths of the rows."""
    from functools import partial

    from coach import wiring, wiring_batch
    from coach.batch.grading import WorkerGrading
    from coach.batch.plan import Mapper
    from coach.batch.questions import QuestionFinder
    from coach.batch.ray_workers import RayWorkers, cluster
    from coach.batch.readers import tables
    from coach.batch.run import Options, Run
    from coach.config import load_settings

    server, port = _endpoint(latency)
    rates: list[float] = []
    try:
        settings = load_settings(
            {
                **os.environ,
                "COACH_LLM": "scripted",
                "COACH_BASE_URL": f"http://127.0.0.1:{port}",
                "COACH_VOTES": "1",  # rates are of one call a row
            }
        )
        bank = wiring.bank(settings)
        with tempfile.TemporaryDirectory() as name, cluster("local", 2):
            folder = Path(name)
            write_rows(folder / "rows.jsonl", rows, tuple(q for q in QUESTIONS if q in bank))
            engine = wiring_batch.batch_engine(settings, "structured", jobs)
            make = partial(wiring_batch.worker_engine, settings, "structured", jobs)
            for workers in (1, 2):
                times: list[float] = []
                grading = WorkerGrading(partial(RayWorkers, make, engine.fingerprint, workers, jobs))
                options = Options(out=folder / f"out-{workers}")
                with Run(engine, options, progress=lambda *_, t=times: t.append(time.perf_counter())) as run:
                    run.read(tables(folder / "rows.jsonl"), Mapper(QuestionFinder(bank), {}))
                    outcome = run.execute(grading)
                first, last = rows // 10, rows - rows // 10
                rates.append((last - first) / (times[last - 1] - times[first - 1]))
                print(
                    f"{workers} workers, {jobs} jobs each, {latency * 1000:.0f} ms: {rates[-1]:.1f} rows/s of "
                    f"{workers * jobs / latency:.1f} ideal; {outcome.seconds:.1f} s with starting the workers"
                )
    finally:
        server.kill()
        server.wait()
    print(f"1 → 2 workers: {rates[1] / rates[0]:.2f} times the rate")


def nothing_grader(questions: int = 4) -> Engine:
    """Verdicts without a judge: only for measuring what is around grading."""
    fingerprint = Fingerprint(
        model="none",
        judge="none",
        prompts={},
        calibration="none",
        knowledge="none",
        embedder="none",
        version="0",
    )

    def grade(question: Question, answer: str) -> Grade:
        from coach.score import score

        verdicts = tuple(
            Verdict(
                point_id=p.id,
                text=p.text,
                weight=p.weight,
                status=Status.COVERED if (hash(answer) >> i) & 1 else Status.MISSING,
                probability=0.9 if (hash(answer) >> i) & 1 else 0.1,
            )
            for i, p in enumerate(question.rubric)
        )
        return Grade(
            question_id=question.id, question=question.question, answer=answer, status="ok", verdicts=verdicts,
            score=score(verdicts), fingerprint=fingerprint,
        )  # fmt: skip

    return Engine(grade, fingerprint, jobs=4)


def memory(rows: int, xlsx: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        code = f"from pathlib import Path; from tests.bench_batch import *; write_rows(Path({name!r})/'rows.jsonl', {rows}, QUESTIONS[:3])"
        subprocess.run([sys.executable, "-c", code], check=True)
        marks = _grade_all(nothing_grader(), folder / "out", folder / "rows.jsonl", xlsx)
        size = (folder / "out" / "grades.jsonl").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{rows} rows: peak {peak:.0f} MiB, grades.jsonl {size / 2**20:.0f} MiB")
    print({k: round(v, 2) for k, v in marks.items()})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("throughput", "memory", "profile", "scaling"))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=32)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--no-xlsx", action="store_true")
    args = parser.parse_args()
    if args.what == "memory":
        memory(args.rows, not args.no_xlsx)
    elif args.what == "scaling":
        scaling(args.rows, args.jobs, args.latency)
    else:
        throughput(
            args.rows, args.jobs, 0.0 if args.what == "profile" else args.latency, args.what == "profile"
        )
