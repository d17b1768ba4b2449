"""The `coach` command with the embedded judge's states computed by torch: `python eval/training/fast.py eval run --no-holistic`

The same weights and adapter as the shipped engine, dequantised, about eight times as fast on a processor with AMX.
For measuring many answers; it cannot chat, so neither criteria nor the holistic baseline can be asked. Grades made
this way differ from the engine's by rounding: eval/README.md says by how much.
"""

from __future__ import annotations

from collections.abc import Sequence

import finetune
import numpy as np
import torch
from data import HERE
from numpy.typing import NDArray

from coach import wiring, wiring_batch
from coach.cli import main
from coach.config import Settings, load_settings
from coach.domain import Usage
from coach.errors import LLMRejected
from coach.llm.base import Capabilities, ChatOptions, Reply
from coach.llm.embedded import STATE_TOKENS
from coach.llm.models import EMBEDDED, find_model
from coach.llm.providers import adapter_file
from coach.prompts import Messages
from coach.text import sha256


class TorchModel:
    """Stands for the embedded model where only states are read."""

    name = EMBEDDED.name
    digest = EMBEDDED.digest
    max_state_tokens = STATE_TOKENS
    capabilities = Capabilities(logprobs=True, json_mode="none")

    def __init__(self, settings: Settings) -> None:
        model = find_model(settings.models_dir, settings.model_file)
        if model is None:
            raise SystemExit("fetch the embedded model first: coach models pull")
        cache = settings.home / "cache" / "training"
        self._reader = finetune.Reader(model, HERE / "start.npz", cache / "states", keep=False)
        finetune.restore(self._reader, cache / "checkpoint.pt")
        self.adapter = sha256(adapter_file().read_bytes())

    def chat(self, messages: Messages, **options: ChatOptions) -> Reply:
        raise LLMRejected("fast.py reads states and cannot chat", "leave it out, or use coach")

    def count_tokens(self, text: str) -> int:
        return self._reader.recorder.count_tokens(text)

    def states(self, prefix: str, pieces: Sequence[str]) -> tuple[NDArray[np.float32], Usage]:
        recorder = self._reader.recorder
        recorder.seen = []
        recorder.states(prefix, pieces)
        ((ids, ends),) = recorder.seen
        with torch.no_grad():
            return self._reader.states(ids, ends).numpy(), Usage(calls=1, prompt_tokens=len(ids))


if __name__ == "__main__":
    model = TorchModel(load_settings())
    for room in (wiring, wiring_batch):
        room.open_llm = lambda settings, paced=False: model  # type: ignore[attr-defined]
    main()
