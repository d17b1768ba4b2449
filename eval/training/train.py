"""Train the embedded judge: `python eval/training/train.py` (about 80 minutes on 2 cores with AMX).

labelled answers → LoRA adapter and head (finetune.py) → calibration and thresholds on eval/answers/dev.jsonl
(calibrate.py). Writes three files to eval/calibration/: <model>.lora.gguf, <model>.npz, <model>-probe.json. Interrupted
work is kept under COACH_HOME/cache/training; `--calibrate` does the last stage alone.
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


def logits_of(
    reader: finetune.Reader, cases: list[data.Case], texts: dict[str, str]
) -> dict[str, list[float]]:
    with torch.no_grad():
        return {c.id: reader.logits(reader.passes(c.question, texts[c.id], c.claims)).tolist() for c in cases}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=float, default=1.6)
    parser.add_argument(
        "--calibrate", action="store_true", help="keep the trained adapter, fit the calibration"
    )
    args = parser.parse_args()
    settings = load_settings()
    model = find_model(settings.models_dir, settings.model_file)
    if model is None:
        raise SystemExit("fetch the embedded model first: coach models pull")
    bank = load_bank(settings.knowledge / "questions")
    cache = settings.home / "cache" / "training"
    checkpoint = cache / "checkpoint.pt"
    reader = finetune.Reader(model, data.HERE / "start.npz", cache / "states")

    cases = data.training_cases(bank)
    if not args.calibrate:
        print(
            f"{len(cases)} answers, {len({c.question_id for c in cases})} questions, {sum(len(c.claims) for c in cases)} claims",
            flush=True,
        )
        finetune.train(reader, cases, args.epochs, checkpoint)
    finetune.restore(reader, checkpoint)
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
    fitted_on = (
        f"readout trained on {len(cases)} answers (eval/training), calibration fitted on {len(dev)} answers to "
        f"{len({c.question_id for c in dev})} other questions (eval/answers/dev.jsonl); labels written by LLM agents, "
        "not human-calibrated"
    )
    record = calibrate.calibration(points, pitfalls, fitted_on)
    text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
    Path(OUT / f"{EMBEDDED.name}-probe.json").write_text(text, encoding="utf8")
    print(f"written to {OUT}: {adapter.name}, {EMBEDDED.name}.npz, {EMBEDDED.name}-probe.json")


if __name__ == "__main__":
    main()
