"""Train the embedded model's readout and calibration: `python eval/training/train.py` (about three hours on 2 cores).

answers.jsonl → one forward pass an answer (hidden states, cached, resumable) → a linear probe on the states →
out-of-fold log-odds, fused with embedding and lexical evidence by a logistic calibration → thresholds. Everything
that is fitted is scored on questions it was not fitted on (GroupKFold by question, fixed seed). Writes
eval/calibration/<model>.npz (probe) and <model>-probe.json (calibration); prints what the report table needs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coach.bank import Bank, load_bank
from coach.config import load_settings
from coach.embed import Embedder, load_embedder
from coach.judge.evidence import gather
from coach.judge.pointwise import features
from coach.judge.readout import Probe
from coach.llm import open_llm
from coach.text import sha256

HERE = Path(__file__).resolve().parent
CALIBRATION = HERE.parent / "calibration"
SEED = 7
FOLDS = 10
AXES = 512
STRENGTHS = (0.0003, 0.001, 0.003, 0.01)
POINT_FEATURES = ["logit", "similarity", "margin", "whole", "recall", "span_recall"]
PITFALL_FEATURES = ["logit", "similarity", "margin", "recall", "contrast"]
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Data:
    """One row per (answer, claim). `label` is 0, 0.5 or 1; for pitfalls 1 means asserted."""

    state: Array
    evidence: list[dict[str, float]]
    label: Array
    question: NDArray[np.str_]
    tier: NDArray[np.str_]
    answer: NDArray[np.str_]
    weight: Array
    pitfall: NDArray[np.bool_]

    def where(self, mask: NDArray[np.bool_]) -> Data:
        index = np.flatnonzero(mask)
        return Data(
            self.state[index], [self.evidence[i] for i in index], self.label[index], self.question[index],
            self.tier[index], self.answer[index], self.weight[index], self.pitfall[index],
        )  # fmt: skip


def claims_of(bank: Bank, question_id: str) -> tuple[list[Any], list[Any]]:
    question = bank.get(question_id)
    return sorted(question.rubric, key=lambda p: p.text), sorted(question.pitfalls, key=lambda p: p.claim)


def read_rows(paths: list[Path]) -> list[dict[str, Any]]:
    rows = []
    for path in paths:
        for number, line in enumerate(path.read_text(encoding="utf8").splitlines(), 1):
            try:
                rows.append(json.loads(line))
            except ValueError as e:
                raise SystemExit(f"{path}:{number}: {e}") from e
    return rows


def with_rule_made(rows: list[dict[str, Any]], bank: Bank) -> list[dict[str, Any]]:
    """Answers that say nothing about the question, made by rule: all labels are 0 by construction.

    Every question gets the excellent answer to a question of another topic; every third one also an echo of itself
    or a confession of not knowing.
    """
    first = {r["question_id"]: r for r in rows if r["tier"] == "excellent" and r["question_id"] in bank}
    ids = sorted(first)
    made = []
    for i, question_id in enumerate(ids):
        question = bank.get(question_id)
        texts = []
        for step in range(1, len(ids)):
            other = ids[(i + 37 * step) % len(ids)]
            if bank.get(other).topic != question.topic:
                texts.append(("off-topic", first[other]["answer"]))
                break
        stem = question.question.rstrip("？?。")
        if i % 3 == 0:
            texts.append(
                (
                    "echo",
                    f"{stem}，这个问题很重要，面试经常问。{stem}，要从原理和实践两方面来看，我觉得需要结合具体场景。",
                )
            )
        elif i % 3 == 1:
            texts.append(("unknown", "这个我不太清楚，之前没有接触过，回去会好好看一下。"))
        made += [
            {
                "id": f"{question_id}.{tier}", "question_id": question_id, "tier": tier, "lang": "zh", "answer": text,
                "labels": {p.id: 0 for p in question.rubric}, "pitfalls": [],
            }
            for tier, text in texts
        ]  # fmt: skip
    return rows + made


def load(rows: list[dict[str, Any]], cache: Path, only_cached: bool) -> tuple[Data, Any]:
    settings = load_settings()
    bank = load_bank(settings.knowledge / "questions")
    embedder = load_embedder("e5")
    llm: Any = open_llm(settings)
    probe = Probe(settings, llm, None)
    version = "".join(probe.prompts.values())
    rows = with_rule_made(rows, bank)
    cache.mkdir(parents=True, exist_ok=True)
    parts: list[Array] = []
    out: dict[str, list[Any]] = {
        k: [] for k in ("evidence", "label", "question", "tier", "answer", "weight", "pitfall")
    }
    for n, row in enumerate(rows, 1):
        if row["question_id"] not in bank:
            continue
        points, pitfalls = claims_of(bank, row["question_id"])
        claims = [p.text for p in points] + [p.claim for p in pitfalls]
        question = bank.get(row["question_id"]).question
        key = cache / (
            sha256("\0".join([version, llm.digest, question, row["answer"], *claims]))[:32] + ".npy"
        )
        if not key.exists():
            if only_cached:
                continue
            np.save(key, probe.states(question, row["answer"].strip(), claims)[0].astype(np.float16))
            print(f"\r{n}/{len(rows)}", end="", flush=True)
        parts.append(np.load(key).astype(np.float32))
        corrections = [p.correction for p in pitfalls]
        out["evidence"] += evidence_of(embedder, row["answer"], claims, corrections, key.with_suffix(".json"))
        for point in points:
            out["label"].append(row["labels"].get(point.id, np.nan))
            out["weight"].append(point.weight)
        for pitfall in pitfalls:
            out["label"].append(float(pitfall.id in row["pitfalls"]))
            out["weight"].append(pitfall.penalty)
        for name, value in (("question", row["question_id"]), ("tier", row["tier"]), ("answer", row["id"])):
            out[name] += [value] * len(claims)
        out["pitfall"] += [False] * len(points) + [True] * len(pitfalls)
    data = Data(
        np.concatenate(parts), out["evidence"], np.array(out["label"], dtype=np.float32), np.array(out["question"]),
        np.array(out["tier"]), np.array(out["answer"]), np.array(out["weight"], dtype=np.float32), np.array(out["pitfall"]),
    )  # fmt: skip
    return data.where(~np.isnan(data.label)), llm


def evidence_of(
    embedder: Embedder, answer: str, claims: list[str], corrections: list[str], cached: Path
) -> list[dict[str, float]]:
    """Features without the log-odds, one dict per claim (points, then pitfalls with their contrast)."""
    if cached.exists():
        kept: list[dict[str, float]] = json.loads(cached.read_text())
        return kept
    found = gather(embedder, answer, [*claims, *corrections])
    n, m = len(claims), len(corrections)
    contrast = [0.0] * (n - m) + [found[n - m + i].similarity - found[n + i].similarity for i in range(m)]
    rows = [features(found[i], 0.0, answer, contrast[i]) for i in range(n)]
    cached.write_text(json.dumps(rows))
    return rows


def rotated(states: Array) -> tuple[Array, Array, Array, Array]:
    """(coordinates, mean, scale, basis): standardised states on their leading principal axes.

    A ridge penalty does not change under rotation, so a logistic regression here is the one on the states, minus
    directions of no variance, and a hundred times faster. Labels play no part in it.
    """
    mean, scale = states.mean(0), np.maximum(states.std(0), 1e-4)
    xs = (states - mean) / scale
    values, vectors = np.linalg.eigh(xs.T @ xs / len(xs))
    basis = vectors[:, np.argsort(values)[::-1][:AXES]].astype(np.float32)
    return np.asarray(xs @ basis, dtype=np.float32), mean, scale, basis


def soft(x: Array, label: Array) -> tuple[Array, NDArray[np.int64], Array]:
    """A label of one half is half a positive and half a negative."""
    both = np.concatenate([x, x])
    y = np.concatenate([np.ones(len(x), dtype=np.int64), np.zeros(len(x), dtype=np.int64)])
    w = np.concatenate([label, 1 - label])
    keep = w > 0
    return both[keep], y[keep], w[keep]


def fit_logistic(x: Array, label: Array, c: float) -> tuple[Array, Array, Array, float]:
    """(mean, scale, coefficients, intercept) of an L2-regularised logistic regression on standardised columns."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = x.mean(0), np.maximum(x.std(0), 1e-6)
    xs, y, w = soft((x - mean) / scale, label)
    model = LogisticRegression(C=c, solver="newton-cholesky").fit(xs, y, sample_weight=w)
    return mean, scale, model.coef_[0].astype(np.float32), float(model.intercept_[0])


def fit_probe(x: Array, label: Array, c: float) -> tuple[Array, Array, Array, float]:
    """As `fit_logistic`, on coordinates of `rotated`, whose scales must be left as they are."""
    from sklearn.linear_model import LogisticRegression

    xs, y, w = soft(x, label)
    model = LogisticRegression(C=c, solver="newton-cholesky").fit(xs, y, sample_weight=w)
    zeros, ones = np.zeros(x.shape[1], dtype=np.float32), np.ones(x.shape[1], dtype=np.float32)
    return zeros, ones, model.coef_[0].astype(np.float32), float(model.intercept_[0])


def apply(fitted: tuple[Array, Array, Array, float], x: Array) -> Array:
    mean, scale, coefficient, intercept = fitted
    return np.asarray((x - mean) / scale @ coefficient + intercept, dtype=np.float32)


def out_of_fold(
    x: Array, label: Array, groups: NDArray[np.str_], fit: Callable[[Array, Array], Any]
) -> Array:
    from sklearn.model_selection import GroupKFold

    out = np.zeros(len(x), dtype=np.float32)
    for train, test in GroupKFold(FOLDS, shuffle=True, random_state=SEED).split(x, label, groups):
        out[test] = apply(fit(x[train], label[train]), x[test])
    return out


def auc(label: Array, value: Array) -> float:
    from sklearn.metrics import roc_auc_score

    sure = label != 0.5
    return float(roc_auc_score(label[sure] == 1, value[sure]))


def table(evidence: list[dict[str, float]], logit: Array, names: list[str]) -> Array:
    return np.array(
        [[float(z) if n == "logit" else e[n] for n in names] for e, z in zip(evidence, logit, strict=True)],
        dtype=np.float32,
    )


def scores(data: Data, probability: Array, covered: float, partial: float) -> tuple[Array, Array]:
    """(predicted, gold) score per answer in [0, 1], pitfalls left aside."""
    credit = np.where(probability >= covered, 1.0, np.where(probability >= partial, 0.5, 0.0))
    ids, row = np.unique(data.answer, return_inverse=True)
    total = np.bincount(row, weights=data.weight, minlength=len(ids))
    pred = np.bincount(row, weights=data.weight * credit, minlength=len(ids)) / total
    gold = np.bincount(row, weights=data.weight * data.label, minlength=len(ids)) / total
    return pred.astype(np.float32), gold.astype(np.float32)


def thresholds(data: Data, probability: Array) -> tuple[float, float]:
    """The pair that makes the score of an answer closest to gold (mean absolute error)."""
    grid = [(c, p) for c in np.arange(0.4, 0.76, 0.02) for p in np.arange(0.2, 0.56, 0.02) if p <= c]
    return min(grid, key=lambda g: float(np.abs(np.subtract(*scores(data, probability, *g))).mean()))


def head(names: list[str], fitted: tuple[Array, Array, Array, float]) -> dict[str, Any]:
    mean, scale, coefficient, intercept = fitted
    return {
        "features": names,
        "mean": [round(float(v), 5) for v in mean],
        "scale": [round(float(v), 5) for v in scale],
        "coefficient": [round(float(v), 5) for v in coefficient],
        "intercept": round(intercept, 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("answers", nargs="*", type=Path, default=[HERE / "answers.jsonl"])
    parser.add_argument(
        "--only-cached", action="store_true", help="train on the answers whose states are at hand"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the figures, write nothing")
    args = parser.parse_args()
    cache = load_settings().home / "cache" / "states"
    data, llm = load(read_rows(args.answers), cache, args.only_cached)
    points, traps = data.where(~data.pitfall), data.where(data.pitfall)
    print(
        f"\n{len(np.unique(data.answer))} answers, {len(np.unique(data.question))} questions, {len(points.label)} points, {len(traps.label)} pitfalls"
    )

    axes, mean, scale, basis = rotated(data.state)
    tried = {
        c: out_of_fold(axes, data.label, data.question, lambda x, y, c=c: fit_probe(x, y, c))
        for c in STRENGTHS
    }
    best = max(STRENGTHS, key=lambda c: auc(points.label, tried[c][~data.pitfall]))
    raw = tried[best]
    print(f"probe C={best}: AUC points {auc(points.label, raw[~data.pitfall]):.3f}", end=", ")
    print(f"pitfalls {auc(traps.label, raw[data.pitfall]):.3f}")
    everyone = np.random.default_rng(SEED).permutation(np.unique(data.question))
    for share in (0.125, 0.25, 0.5):
        keep = np.isin(data.question, everyone[: max(FOLDS, round(share * len(everyone)))])
        z = out_of_fold(axes[keep], data.label[keep], data.question[keep], lambda x, y: fit_probe(x, y, best))
        m = ~data.pitfall[keep]
        print(f"  learning curve: {int(m.sum())} points → AUC {auc(data.label[keep][m], z[m]):.3f}")

    x = table(points.evidence, raw[~data.pitfall], POINT_FEATURES)
    z = out_of_fold(x, points.label, points.question, lambda a, b: fit_logistic(a, b, 0.3))
    p = 1 / (1 + np.exp(-z))
    covered, partial = thresholds(points, p)
    pred, gold = scores(points, p, covered, partial)
    sure = points.label != 0.5
    said, truth = p[sure] >= covered, points.label[sure] == 1
    print(f"fused: AUC {auc(points.label, z):.3f}; covered ≥ {covered:.2f}, partial ≥ {partial:.2f}")
    print(
        f"  balanced accuracy {(said[truth].mean() + (~said[~truth]).mean()) / 2:.3f}, TNR {(~said[~truth]).mean():.3f}, TPR {said[truth].mean():.3f}"
    )
    print(f"  per answer: r {np.corrcoef(pred, gold)[0, 1]:.3f}, MAE {np.abs(pred - gold).mean():.3f}")
    for tier in np.unique(points.tier):
        m = np.isin(np.unique(points.answer), points.answer[points.tier == tier])
        print(f"  {tier:16} graded {pred[m].mean():.2f} gold {gold[m].mean():.2f}")

    tx = table(traps.evidence, raw[data.pitfall], PITFALL_FEATURES)
    tz = out_of_fold(tx, traps.label, traps.question, lambda a, b: fit_logistic(a, b, 0.3))
    tp = 1 / (1 + np.exp(-tz))
    # A false accusation costs more trust than a missed trap: at most 1 % of honest claims may be flagged.
    asserted = float(np.quantile(tp[traps.label == 0], 0.99))
    print(
        f"pitfalls: AUC {auc(traps.label, tz):.3f}; asserted ≥ {asserted:.2f}, recall {(tp[traps.label == 1] >= asserted).mean():.2f}"
    )
    if args.dry_run:
        return

    _, _, coefficient, bias = fit_probe(axes, data.label, best)
    weight = basis @ coefficient
    np.savez_compressed(
        CALIBRATION / f"{llm.name}.npz",
        mean=mean.astype(np.float16), scale=scale.astype(np.float16), weight=weight.astype(np.float16), bias=np.float32(bias),
        model_digest=llm.digest, prompt_hash=next(iter(Probe(load_settings(), llm, None).prompts.values())),
    )  # fmt: skip
    record = {
        "fitted_on": f"eval/training: {len(np.unique(data.answer))} answers to {len(np.unique(data.question))} questions, {len(points.label)} labelled points; labels written by LLM agents, not human-calibrated",
        "point": head(POINT_FEATURES, fit_logistic(x, points.label, 0.3)),
        "pitfall": head(PITFALL_FEATURES, fit_logistic(tx, traps.label, 0.3)),
        "thresholds": {
            "covered": round(covered, 3),
            "partial": round(partial, 3),
            "asserted": round(asserted, 3),
        },
    }
    (CALIBRATION / f"{llm.name}-probe.json").write_text(
        json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf8"
    )
    print(f"written: {llm.name}.npz, {llm.name}-probe.json")


if __name__ == "__main__":
    main()
