"""The `coach` command with the embedded judge computed by torch: `python eval/training/fast.py eval run`

The same weights and adapter as the shipped engine, dequantised, about eight times as fast on a processor with AMX.
For measuring many answers. Grades made this way differ from the engine's by rounding: eval/README.md says by how much.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, Unpack

import finetune
import torch
from data import HERE

from coach import wiring, wiring_batch
from coach.cli import main
from coach.config import Settings, load_settings
from coach.domain import Usage
from coach.errors import LLMRejected
from coach.llm.base import Capabilities, ChatOptions, OnEach, Prefix, Reply
from coach.llm.embedded import CLAIMS_TOKENS
from coach.llm.models import EMBEDDED, find_model
from coach.llm.providers import adapter_file
from coach.prompts import Messages
from coach.text import sha256


class TorchModel:
    """Stands for the embedded model and its adapter."""

    name = EMBEDDED.name
    digest = EMBEDDED.digest
    max_claims_tokens = CLAIMS_TOKENS
    capabilities = Capabilities(logprobs=True, json_mode="none")

    def __init__(self, settings: Settings) -> None:
        model = find_model(settings.models_dir, settings.model_file)
        if model is None:
            raise SystemExit("fetch the embedded model first: coach models pull")
        cache = settings.home / "cache" / "training"
        self._reader = finetune.Reader(model, HERE / "start.npz", cache / "states", keep=False)
        self._reader.adapt(finetune.FROZEN[-1])
        finetune.restore(self._reader, finetune.checkpoint(cache, finetune.STAGES))
        self.adapter = sha256(adapter_file().read_bytes())
        self._said = cache / "said.jsonl"
        lines = self._said.read_text(encoding="utf8").split("\n")[:-1] if self._said.exists() else []
        self._known: dict[str, Any] = {row["key"]: row for row in map(json.loads, lines)}

    def chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Reply:
        """Greedy, without the adapter, as the engine chats; so what was said once is kept for every later run.

        Schemas cannot be enforced here.
        """
        if options.get("schema") or options.get("temperature"):
            raise LLMRejected("fast.py answers greedily and in free text", "use coach")
        key = sha256(json.dumps([messages, options, self.digest], ensure_ascii=False, sort_keys=True))
        if key not in self._known:
            reply = self._chat(messages, **options)
            row = {
                "key": key,
                "text": reply.text,
                "usage": reply.usage.model_dump(),
                "first": reply.first_token,
            }
            with self._said.open("a", encoding="utf8") as f:
                f.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._known[key] = row
        row = self._known[key]
        first = tuple((t, v) for t, v in row["first"]) if row["first"] else None
        return Reply(row["text"], Usage.model_validate(row["usage"]), first)

    def _chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Reply:
        tokenizer, net = self._reader.tokenizer, self._reader.net
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        began, given, cache, first = time.perf_counter(), torch.tensor([ids]), None, None
        said: list[int] = []
        finetune.Adapted.on = False
        try:
            while len(said) < options["max_tokens"]:
                with torch.no_grad():
                    out = net(input_ids=given, past_key_values=cache, use_cache=True)
                    logits = (out.last_hidden_state[0, -1] @ net.embed_tokens.weight.T).float()
                cache = out.past_key_values
                if first is None and (wanted := options.get("top_logprobs")):
                    top = torch.log_softmax(logits, -1).topk(wanted)
                    first = tuple(
                        (tokenizer.decode([i]), v)
                        for v, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)
                    )
                token = int(logits.argmax())
                if token == tokenizer.eos_token_id:
                    break
                said.append(token)
                given = torch.tensor([[token]])
        finally:
            finetune.Adapted.on = True
        usage = Usage(
            calls=1, prompt_tokens=len(ids), completion_tokens=len(said), seconds=time.perf_counter() - began
        )
        return Reply(tokenizer.decode(said, skip_special_tokens=True), usage, first)

    def count_tokens(self, text: str) -> int:
        return self._reader.tokens.count_tokens(text)

    def prepare(self, beginning: str) -> None:
        """Nothing: all is read at once."""

    def log_odds(
        self, prefix: Prefix, pieces: Sequence[str], on_each: OnEach | None = None
    ) -> tuple[list[float], Usage]:
        """All at once: no piece sees what comes after it."""
        ids, ends = self._reader.tokenized(prefix, pieces)
        with torch.no_grad():
            found = self._reader.read_out(self._reader.states(ids, ends)).tolist()
        for i, logit in enumerate(found):
            if on_each:
                on_each(i, logit)
        return found, Usage(calls=1, prompt_tokens=len(ids))


if __name__ == "__main__":
    model = TorchModel(load_settings())
    for room in (wiring, wiring_batch):
        room.open_llm = lambda settings, paced=False: model  # type: ignore[attr-defined]
    main()
