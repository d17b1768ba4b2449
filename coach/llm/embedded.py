"""The embedded model: llama.cpp's own OpenAI-compatible server, in this process, on a loopback port.

Because it is an HTTP endpoint like any other, the embedded model and a remote one are one code path.
"""

from __future__ import annotations

import os
import secrets
from functools import cache
from pathlib import Path
from typing import Any

from coach.errors import ModelError
from coach.llm.base import Capabilities
from coach.llm.models import EMBEDDED
from coach.llm.openai_chat import OpenAIChat

CONTEXT_TOKENS = 8192


@cache
def _server(model: Path) -> tuple[Any, str, str]:
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
    p.warmup = False
    p.ui = False
    p.verbosity = -1
    try:
        server = xllamacpp.Server(p)
    except Exception as e:
        raise ModelError(
            f"the engine could not load {model}: {e}", "check the file with: coach models list"
        ) from e
    return server, server.listening_address, key


class EmbeddedChat(OpenAIChat):
    """Chat with the embedded model. `server` holds the engine alive as long as someone may ask it."""

    def __init__(self, model: Path, timeout: float) -> None:
        import httpx

        server, address, key = _server(model)
        self.server = server
        name = EMBEDDED.name if model.name == EMBEDDED.file else model.stem
        super().__init__(
            name,
            base_url=f"{address}/v1",
            api_key=key,
            timeout=max(timeout, 600.0),  # a slow machine is slow, not down
            capabilities=Capabilities(logprobs=True, json_mode="schema"),
            http_client=httpx.Client(trust_env=False, timeout=600.0),
            max_retries=1,
        )
