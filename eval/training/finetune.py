"""A LoRA adapter and a linear head for the embedded model (Hu et al. 2021, arXiv 2106.09685).

The upper layers of the model learn, on authored labels, to leave at the end of each claim a state from which a linear
head reads whether the answer states the claim: the upper ten first, the upper twenty in the last stage. The lower ones
stay as they are, so what enters the others is computed once and kept. Weights are the dequantised GGUF file's, so the
adapter fits the file people run.
Needs torch, transformers and gguf; a processor with AMX trains in about an hour, others take several.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from data import Case
from torch import Tensor, nn

from coach.config import load_settings
from coach.domain import Usage
from coach.judge.readout import Trained
from coach.llm.base import Capabilities
from coach.llm.embedded import CLAIMS_TOKENS
from coach.text import neutralise, sha256

FROZEN = (18, 18, 18, 8)  # by stage: layers below this one of 28 are left alone
RANK = 8
ALPHA = 16
RATE = 2e-4
HEAD_RATE = 1e-4
BATCH = 8  # answers a step
SEED = 7
STAGES = len(FROZEN)
LIFT = 60.0  # logits of this model stay below 40
MODULES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
Pass = tuple[list[int], list[int]]  # token ids, positions of the claims' last tokens


class _Tokens:
    """Stands where the engine stands and counts its tokens, so that texts are cut as the product cuts them."""

    name = digest = adapter = ""
    max_claims_tokens = CLAIMS_TOKENS
    capabilities = Capabilities(logprobs=False, json_mode="none")

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def encode(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def count_tokens(self, text: str) -> int:
        return len(self.encode(text))

    def chat(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("it only counts")

    def prepare(self, beginning: str) -> None:
        raise NotImplementedError("it only counts")

    def log_odds(self, *_: Any, **__: Any) -> tuple[list[float], Usage]:
        raise NotImplementedError("it only counts")


class Adapted(nn.Module):
    """y = W x + (alpha / rank) B A x with W frozen. A: (rank, in), B: (out, rank), B starts at zero.

    While `on` is false, all of them are W alone.
    """

    on = True

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        wide, narrow = base.weight.shape
        self.a = nn.Parameter(torch.randn(RANK, narrow) / math.sqrt(narrow))
        self.b = nn.Parameter(torch.zeros(wide, RANK))

    def forward(self, x: Tensor) -> Tensor:
        if not Adapted.on:
            return self.base(x)
        low = x @ self.a.to(x.dtype).T
        return self.base(x) + (ALPHA / RANK) * (low @ self.b.to(x.dtype).T)


class Reader:
    """The model with its adapter and head. `cache` keeps what enters the adapted layers, one file a pass, if `keep`."""

    def __init__(self, model: Path, start: Path, cache: Path, keep: bool = True) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.manual_seed(SEED)
        source = {"gguf_file": model.name}
        self.net = AutoModelForCausalLM.from_pretrained(
            model.parent, dtype=torch.bfloat16, **source
        ).model.eval()
        self.tokenizer = AutoTokenizer.from_pretrained(model.parent, **source)
        self.tokens = _Tokens(self.tokenizer)
        self._asking = Trained(load_settings(), self.tokens)
        self._cache, self.keep = cache, keep
        cache.mkdir(parents=True, exist_ok=True)
        for weight in self.net.parameters():
            weight.requires_grad_(False)
        self.frozen = len(self.net.layers)
        self.adapt(FROZEN[0])
        with np.load(start) as kept:
            self.mean, self.scale = torch.tensor(kept["mean"]).float(), torch.tensor(kept["scale"]).float()
            self.weight = nn.Parameter(torch.tensor(kept["weight"]).float())
            self.bias = nn.Parameter(torch.tensor(float(kept["bias"])))

    @property
    def prompts(self) -> dict[str, str]:
        return self._asking.prompts

    @property
    def upper(self) -> nn.ModuleList:
        return self.net.layers[self.frozen :]

    def adapt(self, frozen: int) -> None:
        """Give the layers from `frozen` on an adapter, where they have none yet. A fresh one changes nothing."""
        for layer in self.net.layers[frozen : self.frozen]:
            for path in MODULES:
                owner, name = path.split(".")
                block = getattr(layer, owner)
                setattr(block, name, Adapted(getattr(block, name)))
        self.frozen = min(frozen, self.frozen)

    def adapter(self) -> dict[str, nn.Parameter]:
        """{"layer.module.side": weight} of all adapted layers."""
        named = self.net.layers.named_parameters()
        return {name: weight for name, weight in named if weight.requires_grad}

    def passes(self, question: str, shown: str, claims: Sequence[str]) -> list[Pass]:
        return [
            self.tokenized(prefix, pieces)
            for prefix, pieces in self._asking.passes(question, neutralise(shown), claims)
        ]

    def tokenized(self, prefix: tuple[str, str], pieces: Sequence[str]) -> Pass:
        ids, ends = [*self.tokens.encode(prefix[0]), *self.tokens.encode(prefix[1])], []
        for piece in pieces:
            ids += self.tokens.encode(piece)
            ends.append(len(ids) - 1)
        return ids, ends

    def entering(self, ids: list[int]) -> Tensor:
        """(tokens, hidden): what the lowest adapted layer gets."""
        kept = self._cache / f"{self.frozen}-{sha256(','.join(map(str, ids)))[:32]}.pt"
        if kept.exists():
            return torch.load(kept)
        with torch.no_grad():
            h = _padded(self.net.embed_tokens(torch.tensor([ids])))
            angles = self.net.rotary_emb(h, torch.arange(h.shape[1])[None])
            for layer in self.net.layers[: self.frozen]:
                h = layer(h, attention_mask=None, position_embeddings=angles)
        entered = h[0, : len(ids)].clone()
        if self.keep:
            torch.save(entered, kept)
        return entered

    def states(self, ids: list[int], ends: list[int]) -> Tensor:
        """(claims, hidden): what the model's output layer would get at the end of each claim."""
        h = _padded(self.entering(ids)[None])
        angles = self.net.rotary_emb(h, torch.arange(h.shape[1])[None])
        for layer in self.upper[:-1]:
            h = layer(h, attention_mask=None, position_embeddings=angles)
        last = self.upper[-1]  # beyond its attention only the claims' ends are wanted
        mixed = last.self_attn(
            hidden_states=last.input_layernorm(h), position_embeddings=angles, attention_mask=None
        )
        h = (h + mixed[0])[0, ends]
        return self.net.norm(h + last.mlp(last.post_attention_layernorm(h))).float()

    def logits(self, passes: Sequence[Pass]) -> Tensor:
        """(claims,) log-odds as they are trained."""
        return torch.cat(
            [(self.states(*p) - self.mean) / self.scale @ self.weight + self.bias for p in passes]
        )

    def read_out(self, states: Tensor) -> Tensor:
        """(claims,) log-odds as the engine says them: its output layer has no constant; the calibration has one."""
        return states @ (self.weight / self.scale).detach()


def _padded(h: Tensor) -> Tensor:
    """Zeros after the end, up to a multiple of 32: no state sees what comes after it, and kernels are compiled anew
    for every length."""
    return nn.functional.pad(h, (0, 0, 0, -h.shape[1] % 32))


def loss_of(logits: Tensor, label: Sequence[float]) -> Tensor:
    """Summed cross-entropy; a half label pulls towards one half."""
    y = torch.tensor(label, dtype=torch.float32)
    known = ~torch.isnan(y)
    return nn.functional.binary_cross_entropy_with_logits(logits[known], y[known], reduction="sum")


def reordered(case: Case, rng: random.Random) -> Case:
    """The same case with its claims in random order; only what the loss needs follows them."""
    order = [
        *rng.sample(range(case.points), case.points),
        *rng.sample(range(case.points, len(case.claims)), len(case.claims) - case.points),
    ]
    claims, label = tuple(case.claims[i] for i in order), tuple(case.label[i] for i in order)
    return replace(case, claims=claims, label=label)


def train(
    reader: Reader, cases: list[Case], epochs: float, path: Path, rate: float = RATE, shuffled: bool = False
) -> None:
    """AdamW, a short warm-up and a cosine down. Writes `path` every 60 steps; prints the running loss.

    `shuffled`: points come in another order each time, and pitfalls after them in another order of their own.
    """
    rng = random.Random(SEED)
    reader.keep = not shuffled  # no pass comes twice
    total = int(len(cases) * epochs / BATCH)
    warm = max(10, total // 20)
    head = [reader.weight, reader.bias]
    optimiser = torch.optim.AdamW(
        [
            {"params": [*reader.adapter().values()], "lr": rate, "weight_decay": 0.01},
            {"params": head, "lr": HEAD_RATE, "weight_decay": 0.0},
        ]
    )

    def course(step: int) -> float:
        return min((step + 1) / warm, max(0.02, 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, course)
    queue: list[Case] = []
    losses: list[float] = []
    began = time.monotonic()
    for step in range(1, total + 1):
        if not queue:
            queue = cases[:]
            rng.shuffle(queue)
        batch = [queue.pop() for _ in range(min(BATCH, len(queue)))]
        loss = 0.0
        for case in batch:
            asked = reordered(case, rng) if shuffled else case
            passes = reader.passes(asked.question, asked.answer.strip(), asked.claims)
            part = loss_of(reader.logits(passes), asked.label) / (6 * BATCH)
            part.backward()
            loss += float(part.detach())
        nn.utils.clip_grad_norm_(reader.adapter().values(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        losses.append(loss)
        if step % 20 == 0 or step == total:
            left = (time.monotonic() - began) / step * (total - step) / 60
            print(f"step {step}/{total}: loss {np.mean(losses[-20:]):.4f}, {left:.0f} min left", flush=True)
        if step % 60 == 0 or step == total:
            torch.save({"adapter": reader.adapter(), "head": head}, path)


def checkpoint(cache: Path, stage: int) -> Path:
    return cache / f"stage-{stage}.pt"


def average(path: Path, earlier: Path) -> None:
    """Put the mean of two checkpoints of one course of training into `path`: between what a stage began and ended
    with lies a judge that has learned the new and forgotten less (Wortsman et al. 2022, arXiv 2109.01903).
    """
    a, b = torch.load(path), torch.load(earlier)
    adapter = {name: (weight + b["adapter"][name]) / 2 for name, weight in a["adapter"].items()}
    torch.save(
        {"adapter": adapter, "head": [(x + y) / 2 for x, y in zip(a["head"], b["head"], strict=True)]}, path
    )


def restore(reader: Reader, path: Path) -> None:
    """Layers that were adapted later than `path` was written keep their fresh adapter."""
    kept = torch.load(path)
    with torch.no_grad():
        known = reader.adapter()
        for name, weight in kept["adapter"].items():
            known[name].copy_(weight)
        for weight, value in zip((reader.weight, reader.bias), kept["head"], strict=True):
            weight.copy_(value)


def steady(states: Tensor) -> Tensor:
    """(hidden,): the direction that all states (claims, hidden) share; they are about 1 long in it."""
    mean = states.mean(0)
    return mean / (mean @ mean)


def write_adapter(reader: Reader, model: Path, path: Path, along: Tensor) -> None:
    """As llama.cpp's convert_lora_to_gguf.py lays it out: `<tensor>.lora_a` (rank, in), `.lora_b` (out, rank).

    The head goes into the rows of the output layer that say 是 and 否: their difference becomes the head's log-odds
    (up to its constant), and LIFT times `along` (see `steady`) puts both above all other tokens.
    """
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(ALPHA))
    for i, layer in enumerate(reader.upper, reader.frozen):
        for module, name in MODULES.items():
            adapted = layer.get_submodule(module)
            for side in ("a", "b"):
                values = getattr(adapted, side).detach().numpy().astype(np.float16)
                writer.add_tensor(f"blk.{i}.{name}.weight.lora_{side}", values)
    answers = [i for word in ("是", "否") for i in reader.tokens.encode(word)]
    (output,) = (t for t in gguf.GGUFReader(model).tensors if t.name == "output.weight")
    rows = gguf.quants.dequantize(output.data[answers], output.tensor_type)
    half = (reader.weight.detach() / reader.scale / 2).numpy()
    lift = LIFT * along.numpy()
    rank = len(answers)
    low = np.stack([lift + half - rows[0], lift - half - rows[1]]) * (rank / ALPHA)
    high = np.zeros((output.shape[1], rank))
    high[answers, range(rank)] = 1.0
    for side, values in (("a", low), ("b", high)):
        writer.add_tensor(f"output.weight.lora_{side}", values.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
