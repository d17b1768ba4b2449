"""A scripted judge endpoint that grades the same answer the same way every time, and one that misbehaves.

Run as a program (`python -m tests.batch_fakes PORT LATENCY FAULT_RATE SEED`) it serves until it is killed.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import socket
import struct
import sys
import threading
import time
import zlib
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fakes import completion

FAULTS = ("429", "500", "hang", "truncated", "drip", "reset", "schema", "empty")


def judge_reply(body: dict[str, Any]) -> str:
    """A structured verdict for every point of the prompt, decided by a checksum of answer and point."""
    prompt = body["messages"][1]["content"] if len(body["messages"]) > 1 else ""
    found = re.search(r"<<<\n(.*?)\n>>>", prompt, re.S)
    if not found:
        return '{"ok": true}'
    answer = found[1].strip()
    points = prompt.partition("\nPOINTS\n")[2].partition("\n\nPITFALLS\n")[0]
    quote = re.split(r"[。，\n]", answer)[0][:30]
    rows = []
    for line in points.splitlines():
        match = re.match(r"- ([a-z0-9][a-z0-9\-_.]*)(?: \(levels\))?:", line)
        if not match:
            continue
        value = zlib.crc32(f"{match[1]}\0{answer}".encode()) % 100
        status = "covered" if value < 50 else "partial" if value < 70 else "missing"
        rows.append(
            {
                "id": match[1],
                "status": status,
                "level": value % 3,
                "quote": "" if status == "missing" else quote,
                "reason": "因为",
                "confidence": 0.9,
            }
        )
    return json.dumps({"points": rows, "pitfalls": []}, ensure_ascii=False)


class FaultyEndpoint:
    """A judge on loopback. Every request draws a fault with probability `rate`; bursts of 429 last `burst` requests."""

    def __init__(
        self, rate: float = 0.0, seed: int = 0, latency: float = 0.0, port: int = 0, hang: float = 3.0
    ) -> None:
        self.faults: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()
        self.calls = 0
        self.running = 0
        self.most = 0
        self.closed = False
        rng, lock = random.Random(seed), threading.Lock()
        endpoint, burst = self, [0]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if endpoint.closed:  # a connection that outlived its server
                    self.close_connection = True
                    self.connection.close()
                    return
                with lock:
                    endpoint.calls += 1
                    endpoint.running += 1
                    endpoint.most = max(endpoint.most, endpoint.running)
                    fault = rng.choice(FAULTS) if rng.random() < rate else ""
                    if fault == "429":
                        burst[0] = 6
                    elif burst[0]:
                        burst[0] -= 1
                        fault = "429"
                    endpoint.faults[fault] += 1
                try:
                    time.sleep(latency)
                    self._answer(body, fault)
                finally:
                    with lock:
                        endpoint.running -= 1

            def _answer(self, body: dict[str, Any], fault: str) -> None:
                text = judge_reply(body)
                if fault == "schema":
                    text = '{"points": [{"id": "no-such-point", "verdict": "great"}]}'
                data = completion(text).encode()
                if fault == "429":
                    return self._send(429, b'{"error":{"message":"slow down"}}', {"Retry-After": "0.1"})
                if fault == "500":
                    return self._send(500, b'{"error":{"message":"oops"}}')
                if fault == "empty":
                    return self._send(200, b"")
                if fault == "hang":
                    time.sleep(hang)
                if fault == "reset":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True
                    return None
                if fault == "truncated":
                    return self._send(200, data[: len(data) // 2])
                if fault == "drip":
                    self._head(200, len(data), {})
                    for i in range(0, len(data), max(1, len(data) // 20)):
                        self.wfile.write(data[i : i + max(1, len(data) // 20)])
                        time.sleep(hang / 20)
                    return None
                if not fault:
                    endpoint.answers[zlib.crc32(json.dumps(body["messages"]).encode())] += 1
                return self._send(200, data)

            def _head(self, status: int, length: int, headers: dict[str, str]) -> None:
                self.send_response(status)
                for key, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(length))
                self.end_headers()

            def _send(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
                self._head(status, len(data), headers or {})
                self.wfile.write(data)

            def log_message(self, *args: object) -> None:
                pass

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError, ValueError, OSError):
                    super().handle()

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256
            allow_reuse_address = True

            def handle_error(self, *args: object) -> None:
                pass

        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FaultyEndpoint:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.closed = True
        self._server.shutdown()
        self._server.server_close()


if __name__ == "__main__":
    port, latency, rate, seed = sys.argv[1:5]
    with FaultyEndpoint(float(rate), int(seed), float(latency), int(port)) as served:
        print(served.url, flush=True)
        while True:
            time.sleep(3600)
