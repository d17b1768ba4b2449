"""Stand-ins for tests, named for what they are: a scripted model, a hashing embedder, a scripted HTTP endpoint."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Unpack

import numpy as np

from coach.domain import Usage
from coach.errors import LLMRejected
from coach.llm.base import Capabilities, ChatOptions, OnEach, Prefix, Reply
from coach.prompts import Messages
from coach.text import tokens


class ScriptedLLM:
    """Answers with what a function makes of the last message: a string, a P(yes), or an exception to raise."""

    name = "scripted"

    def __init__(
        self,
        answer: Callable[[Messages], str | float | Exception],
        json_mode: str = "schema",
        logprobs: bool = True,
    ) -> None:
        self._answer = answer
        self.capabilities = Capabilities(logprobs=logprobs, json_mode=json_mode)
        self.asked: list[Messages] = []

    def chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Reply:
        self.asked.append(messages)
        made = self._answer(messages)
        if isinstance(made, Exception):
            raise made
        usage = Usage(calls=1, prompt_tokens=10, completion_tokens=1)
        if isinstance(made, float):
            yes, no = float(np.log(max(made, 1e-9))), float(np.log(max(1 - made, 1e-9)))
            return Reply(
                text="是" if made > 0.5 else "否", usage=usage, first_token=(("是", yes), ("否", no))
            )
        return Reply(text=made, usage=usage, finish_reason="stop")


class AdaptedFake(ScriptedLLM):
    """One character is one token; the log-odds after a piece are its length."""

    def __init__(self, digest: str = "model-1", adapter: str = "adapter-1", room: int = 10_000) -> None:
        super().__init__(lambda m: 0.9)
        self.digest, self.adapter, self.max_claims_tokens = digest, adapter, room
        self.passes: list[tuple[tuple[str, str], list[str]]] = []
        self.prepared: list[str] = []

    def count_tokens(self, text: str) -> int:
        return len(text)

    def prepare(self, beginning: str) -> None:
        self.prepared.append(beginning)

    def log_odds(
        self, prefix: Prefix, pieces: Sequence[str], on_each: OnEach | None = None
    ) -> tuple[list[float], Usage]:
        if sum(map(len, (*prefix, *pieces))) > self.max_claims_tokens:
            raise LLMRejected("too long")
        self.passes.append((prefix, list(pieces)))
        for i, piece in enumerate(pieces):
            if on_each:
                on_each(i, float(len(piece)))
        return [float(len(p)) for p in pieces], Usage(calls=1)


class HashEmbedder:
    """Bag-of-words vectors by feature hashing: texts that share words are near. Not a semantic model."""

    name = "hash-64"
    dim = 64

    def __init__(self) -> None:
        self.encoded = 0

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += len(texts)
        out = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in tokens(text) or ["∅"]:
                out[row, int(hashlib.md5(word.encode()).hexdigest(), 16) % self.dim] += 1
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)

    encode_query = _encode
    encode_document = _encode


class ScriptedEndpoint:
    """A real HTTP server on loopback. `script` maps (request body, call number) to (status, headers, body)."""

    def __init__(
        self, script: Callable[[dict[str, Any], int], tuple[int, dict[str, str], bytes | str]]
    ) -> None:
        self.calls: list[dict[str, Any]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.calls.append(body)
                status, headers, content = script(body, len(endpoint.calls))
                data = content.encode() if isinstance(content, str) else content
                self.send_response(status)
                for key, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> ScriptedEndpoint:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def completion(text: str, logprobs: list[tuple[str, float]] | None = None) -> str:
    """The body of a chat completion as OpenAI-compatible endpoints send it."""
    choice: dict[str, Any] = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
    }
    if logprobs is not None:
        top = [{"token": t, "logprob": lp, "bytes": None} for t, lp in logprobs]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    return json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": "scripted",
            "choices": [choice],
            "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
        }
    )
