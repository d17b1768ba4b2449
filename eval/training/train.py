"""Train the embedded judge: `python eval/training/train.py` (about four hours on 2 cores with AMX).

labelled answers → LoRA adapter, in four stages (finetune.py) → calibration and thresholds on
eval/answers/dev.jsonl (calibrate.py). Writes two files to eval/calibration/: <model>.lora.gguf and
<model>-adapter.json. What each stage ends with is kept under COACH_HOME/cache/training; `--from 3` begins with the
third, `--from 5` only calibrates.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import calibrate
import data
import finetune
import torch
from torch import Tensor

from coach.bank import load_bank
from coach.config import load_settings
from coach.embed import load_embedder
from coach.judge.evidence import Evidence
from coach.llm.models import EMBEDDED, find_model
from coach.text import sha256

OUT = data.EVAL / "calibration"
EPOCHS = (1.4, 1.0, 1.0, 1.0)
RATES = (finetune.RATE, finetune.RATE * 0.75, finetune.RATE * 0.5, finetune.RATE * 0.75)
SHUFFLED = 3  # from this stage on, claims come in random order
AVERAGED = frozenset({3})  # stages that end with the mean of the weights before and after them


def states_of(reader: finetune.Reader, cases: list[data.Case], texts: dict[str, str]) -> dict[str, Tensor]:
    """{case: (claims, hidden)}, what the output layer gets at the end of each claim."""
    found = {}
    with torch.no_grad():
        for case in cases:
            passes = reader.passes(case.question, texts[case.id], case.claims)
            found[case.id] = torch.cat([reader.states(*p) for p in passes])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="first", type=int, choices=range(1, finetune.STAGES + 2), default=1)
    args = parser.parse_args()
    settings = load_settings()
    model = find_model(settings.models_dir, settings.model_file)
    if model is None:
        raise SystemExit("fetch the embedded model first: coach models pull")
    bank = load_bank(settings.knowledge / "questions")
    cache = settings.home / "cache" / "training"
    reader = finetune.Reader(model, data.HERE / "start.npz", cache / "states")

    stages = data.stages(bank)
    for number in range(args.first, len(stages) + 1):
        cases, end = stages[number - 1], finetune.checkpoint(cache, number)
        reader.adapt(finetune.FROZEN[number - 1])
        if number > 1:
            finetune.restore(reader, finetune.checkpoint(cache, number - 1))
        claims = sum(len(c.claims) for c in cases)
        print(f"stage {number}: {len(cases)} answers, {claims} claims", flush=True)
        finetune.train(reader, cases, EPOCHS[number - 1], end, RATES[number - 1], number >= SHUFFLED)
        if number in AVERAGED:
            finetune.average(end, finetune.checkpoint(cache, number - 1))
    reader.adapt(finetune.FROZEN[-1])
    finetune.restore(reader, finetune.checkpoint(cache, len(stages)))
    reader.keep = False
    embedder = load_embedder("e5")

    def states_and_evidence(cases: list[data.Case]) -> tuple[dict[str, Tensor], dict[str, list[Evidence]]]:
        evidence = {c.id: calibrate.evidence_of(embedder, c) for c in cases}
        texts = {c.id: calibrate.shown(c, evidence[c.id]) for c in cases}
        return states_of(reader, cases, texts), evidence

    def logits(states: dict[str, Tensor]) -> dict[str, list[float]]:
        return {name: reader.read_out(s).tolist() for name, s in states.items()}

    dev = data.labelled(data.EVAL / "answers" / "dev.jsonl", bank)
    states, evidence = states_and_evidence(dev)
    adapter = OUT / f"{EMBEDDED.name}.lora.gguf"
    finetune.write_adapter(reader, model, adapter, finetune.steady(torch.cat(list(states.values()))))
    points, pitfalls = calibrate.rows_of(dev, logits(states), evidence)
    judged = data.criteria(data.HERE / "levels.jsonl", bank)
    ordered = calibrate.levels(judged, logits(states_and_evidence(judged)[0]))
    fitted_on = (
        f"adapter trained on {len(data.training_cases(bank))} answers (eval/training), calibration fitted on {len(dev)} answers to "
        f"{len({c.question_id for c in dev})} other questions (eval/answers/dev.jsonl) and {len(judged)} to questions with "
        "criteria; labels written by LLM agents, "
        "not human-calibrated"
    )
    made_for = {"model": EMBEDDED.digest, "adapter": sha256(adapter.read_bytes()), **reader.prompts}
    record = {"made_for": made_for, **calibrate.calibration(points, pitfalls, ordered, fitted_on)}
    text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
    Path(OUT / f"{EMBEDDED.name}-adapter.json").write_text(text, encoding="utf8")
    print(f"written to {OUT}: {adapter.name}, {EMBEDDED.name}-adapter.json")


if __name__ == "__main__":
    main()
