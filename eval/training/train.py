"""Train the embedded judge: `python eval/training/train.py` (about two hours on 2 cores with AMX).

labelled answers → LoRA adapter and head, in two stages (finetune.py) → calibration and thresholds on
eval/answers/dev.jsonl (calibrate.py). Writes three files to eval/calibration/: <model>.lora.gguf, <model>.npz,
<model>-probe.json. What each stage ends with is kept under COACH_HOME/cache/training; `--from 2` begins with the
second, `--from 3` only calibrates.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import calibrate
import data
import finetune
import numpy as np
import torch

from coach.bank import load_bank
from coach.config import load_settings
from coach.embed import load_embedder
from coach.llm.models import EMBEDDED, find_model
from coach.text import sha256

OUT = data.EVAL / "calibration"
EPOCHS = (1.4, 1.0)
RATES = (finetune.RATE, finetune.RATE * 0.75)


def logits_of(
    reader: finetune.Reader, cases: list[data.Case], texts: dict[str, str]
) -> dict[str, list[float]]:
    with torch.no_grad():
        return {c.id: reader.logits(reader.passes(c.question, texts[c.id], c.claims)).tolist() for c in cases}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="first", type=int, choices=(1, 2, 3), default=1)
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
        cases = stages[number - 1]
        if number > 1:
            finetune.restore(reader, finetune.checkpoint(cache, number - 1))
        claims = sum(len(c.claims) for c in cases)
        print(f"stage {number}: {len(cases)} answers, {claims} claims", flush=True)
        finetune.train(
            reader, cases, EPOCHS[number - 1], finetune.checkpoint(cache, number), RATES[number - 1]
        )
    finetune.restore(reader, finetune.checkpoint(cache, len(stages)))
    adapter = OUT / f"{EMBEDDED.name}.lora.gguf"
    finetune.write_adapter(reader, adapter)
    np.savez_compressed(
        OUT / f"{EMBEDDED.name}.npz",
        mean=reader.start.mean.astype(np.float16), scale=reader.start.scale.astype(np.float16),
        weight=reader.weight.detach().numpy().astype(np.float16), bias=np.float32(reader.bias.item()),
        model_digest=EMBEDDED.digest, adapter=sha256(adapter.read_bytes()), prompt_hash=reader.prompt_hash,
    )  # fmt: skip

    dev = data.labelled(data.EVAL / "answers" / "dev.jsonl", bank)
    embedder = load_embedder("e5")
    evidence = {c.id: calibrate.evidence_of(embedder, c) for c in dev}
    texts = {c.id: calibrate.shown(c, evidence[c.id]) for c in dev}
    points, pitfalls = calibrate.rows_of(dev, logits_of(reader, dev, texts), evidence)
    judged = data.criteria(data.HERE / "criteria.jsonl", bank)
    shown = {c.id: calibrate.shown(c, calibrate.evidence_of(embedder, c)) for c in judged}
    ordered = calibrate.levels(judged, logits_of(reader, judged, shown))
    fitted_on = (
        f"readout trained on {len(data.training_cases(bank))} answers (eval/training), calibration fitted on {len(dev)} answers to "
        f"{len({c.question_id for c in dev})} other questions (eval/answers/dev.jsonl) and {len(judged)} to questions with "
        "criteria; labels written by LLM agents, "
        "not human-calibrated"
    )
    record = calibrate.calibration(points, pitfalls, ordered, fitted_on)
    text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
    Path(OUT / f"{EMBEDDED.name}-probe.json").write_text(text, encoding="utf8")
    print(f"written to {OUT}: {adapter.name}, {EMBEDDED.name}.npz, {EMBEDDED.name}-probe.json")


if __name__ == "__main__":
    main()
