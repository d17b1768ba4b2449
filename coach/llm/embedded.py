"""The embedded model: llama.cpp's own OpenAI-compatible server, in this process, on a loopback port.

Because it is an HTTP endpoint like any other, the embedded model and a remote one are one code path.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coach.domain import Usage
from coach.errors import LLMRejected, LLMUnavailable, ModelError
from coach.llm.base import Capabilities, Reply
from coach.llm.models import EMBEDDED
from coach.llm.openai_chat import OpenAIChat
from coach.prompts import Messages
from coach.text import sha256

CONTEXT_TOKENS = 4096
# A pass that reads states must fit into one physical batch, and every token of it holds a row of logits
# (0.6 MB each): 512 keeps the whole process under 2.5 GiB. Longer cases are read in several passes.
STATE_TOKENS = 512


@cache
def _server(model: Path, adapter: Path | None) -> tuple[Any, str, str]:
    """(server, address, key). One per process and model; kept alive by the cache until the process ends."""
    try:
        import xllamacpp
    except ImportError as e:
        raise ModelError(
            "the embedded engine xllamacpp is not installed",
            "make setup — or: pip install 'interview-coach[local]'",
        ) from e

    key = secrets.token_urlsafe(24)  # other users of this machine share the loopback interface
    threads = max(
        1, min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    )
    p = xllamacpp.CommonParams()
    p.model.path = str(model)
    p.hostnames = ["127.0.0.1"]
    p.port = 0
    p.api_keys = [key]
    p.n_ctx = CONTEXT_TOKENS
    p.n_batch = p.n_ubatch = STATE_TOKENS
    p.embedding = True  # beside chat, one state per token: what a trained readout reads
    p.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_NONE
    p.embd_normalize = -1
    p.n_parallel = 1  # one slot, so that consecutive prompts find their prefix in its cache
    p.n_gpu_layers = 0
    p.cpuparams.n_threads = threads
    p.cpuparams_batch.n_threads = threads
    # Weights are repacked for the processor while they load; a memory map would keep the file resident beside them.
    p.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    p.cache_ram_mib = 0  # prompts of earlier answers never come back; keeping their states costs up to 8 GiB
    p.warmup = False
    p.ui = False
    if adapter:
        info = xllamacpp.CommonAdapterLoraInfo()
        info.path, info.scale = str(adapter), 1.0
        p.lora_adapters = [info]
    p.verbosity = -1
    try:
        server = xllamacpp.Server(p)
    except Exception as e:
        raise ModelError(
            f"the engine could not load {model}: {e}", "check the file with: coach models list"
        ) from e
    return server, server.listening_address, key


class EmbeddedChat(OpenAIChat):
    """Chat with the embedded model. `server` holds the engine alive as long as someone may ask it.

    The adapter was trained to make states readable, on the shipped weights; chat is the model's own, without it.
    """

    def __init__(self, model: Path, timeout: float, adapter: Path | None = None) -> None:
        import httpx

        shipped = model.name == EMBEDDED.file
        adapter = adapter if shipped and adapter and adapter.is_file() else None
        server, address, key = _server(model, adapter)
        self.server = server
        name = EMBEDDED.name if shipped else model.stem
        self.digest = EMBEDDED.digest if shipped else ""
        self.adapter = sha256(adapter.read_bytes()) if adapter else ""
        self._native = httpx.Client(
            base_url=address, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=600.0
        )
        super().__init__(
            name,
            base_url=f"{address}/v1",
            api_key=key,
            timeout=max(timeout, 600.0),  # a slow machine is slow, not down
            capabilities=Capabilities(logprobs=True, json_mode="schema"),
            http_client=httpx.Client(trust_env=False, timeout=600.0),
            max_retries=1,
        )

    max_state_tokens = STATE_TOKENS

    def _request(self, messages: Messages, **options: Any) -> Reply:
        if self.adapter:
            options["extra_body"] = {"lora": [{"id": 0, "scale": 0.0}]}
        return super()._request(messages, **options)

    def _tokenize(self, text: str) -> list[int]:
        tokens: list[int] = self._post("/tokenize", {"content": text, "parse_special": True})["tokens"]
        return tokens

    def count_tokens(self, text: str) -> int:
        return len(self._tokenize(text))

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        import httpx

        try:
            response = self._native.post(path, json=body)
            response.raise_for_status()
            return response.json()
        except (httpx.HTTPError, ValueError) as e:
            raise LLMUnavailable(
                f"the embedded engine failed at {path}: {e}", "try again; if it persists: coach doctor"
            ) from e

    def states(self, prefix: str, pieces: Sequence[str]) -> tuple[NDArray[np.float32], Usage]:
        """One forward pass. LLMRejected when the text is longer than `max_state_tokens`."""
        start = time.perf_counter()
        ids = self._tokenize(prefix)
        ends = []
        for piece in pieces:
            ids += self._tokenize(piece)
            ends.append(len(ids) - 1)
        if len(ids) > STATE_TOKENS:
            raise LLMRejected(f"{len(ids)} tokens are too many for one pass of {STATE_TOKENS}")
        rows = self._post("/embedding", {"content": ids})[0]["embedding"]
        states = np.array([rows[i] for i in ends], dtype=np.float32)
        return states, Usage(calls=1, prompt_tokens=len(ids), seconds=time.perf_counter() - start)
