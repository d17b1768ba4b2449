"""The embedded model: llama.cpp's own OpenAI-compatible server, in this process, on a loopback port.

Because it is an HTTP endpoint like any other, the embedded model and a remote one are one code path.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from coach.domain import Usage
from coach.errors import LLMRejected, LLMUnavailable, LLMUnreadable, ModelError
from coach.llm.base import Capabilities, OnEach, Prefix, Reply
from coach.llm.models import EMBEDDED
from coach.llm.openai_chat import OpenAIChat
from coach.prompts import Messages
from coach.text import sha256

CONTEXT_TOKENS = 4096
# The adapter was trained on question, answer and claims of this length; more claims are read in several goes.
CLAIMS_TOKENS = 512


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

    The adapter, trained on the shipped weights, is at work in `log_odds` only; chat is the model's own.
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
        self._answers: tuple[int, ...] | None = None
        self._turn = threading.Lock()  # one slot: what is in its cache is known between two requests only
        self._begun: list[int] | None = None  # what exactly it holds, when that is known
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

    max_claims_tokens = CLAIMS_TOKENS

    def _request(self, messages: Messages, **options: Any) -> Reply:
        if self.adapter:
            options["extra_body"] = {"lora": [{"id": 0, "scale": 0.0}]}
        with self._turn:
            self._begun = None
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

    def prepare(self, beginning: str) -> None:
        with self._turn:
            self._begin(self._tokenize(beginning))

    def _begin(self, ids: list[int]) -> Usage:
        """Have the engine hold exactly `ids`.

        What the cache holds moves the last digits of a number. Every answer is computed in the same steps, whether
        its beginning was read ahead or not and whatever was asked before, so that a grade repeats.
        """
        if self._begun == ids:
            return Usage()
        self._begun, (_, usage) = None, self._next(ids, fresh=True)
        self._begun = ids
        return usage

    def _next(self, ids: list[int], fresh: bool = False) -> tuple[Any, Usage]:
        """The engine's reply to one token after `ids`."""
        start = time.perf_counter()
        body = {"prompt": ids, "n_predict": 1, "n_probs": 4, "temperature": 0.0, "cache_prompt": not fresh,
                "lora": [{"id": 0, "scale": 1.0}]}  # fmt: skip
        reply = self._post("/completion", body)
        cached = int(reply.get("timings", {}).get("cache_n", 0))
        took = time.perf_counter() - start
        return reply, Usage(calls=1, prompt_tokens=len(ids), cached_tokens=cached, seconds=took)

    def log_odds(
        self, prefix: Prefix, pieces: Sequence[str], on_each: OnEach | None = None
    ) -> tuple[list[float], Usage]:
        """One request a piece: all that came before it is in the engine's cache, so only the piece is computed."""
        beginning, rest = map(self._tokenize, prefix)
        parts = [self._tokenize(piece) for piece in pieces]
        if (size := len(beginning) + len(rest) + sum(map(len, parts))) > CLAIMS_TOKENS:
            raise LLMRejected(f"{size} tokens are too many for one go of {CLAIMS_TOKENS}")
        found = []
        with self._turn:
            usage = self._begin(beginning)
            self._begun = None
            ids = beginning + rest
            for i, part in enumerate(parts):
                ids = ids + part
                reply, used = self._next(ids)
                usage += used
                found.append(self._said_yes(reply))
                if on_each:
                    on_each(i, found[-1])
        return found, usage

    def _said_yes(self, reply: Any) -> float:
        """The adapter lifts both answers above every other token, so both are among the likeliest."""
        if self._answers is None:
            self._answers = tuple(self._tokenize(word)[0] for word in ("是", "否"))
        try:
            near = {
                t["id"]: float(t["logprob"]) for t in reply["completion_probabilities"][0]["top_logprobs"]
            }
            yes, no = (near[i] for i in self._answers)
        except (KeyError, IndexError, TypeError, ValueError) as e:
            raise LLMUnreadable(f"the embedded engine said neither 是 nor 否: {e!r}") from e
        return yes - no
