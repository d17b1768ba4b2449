"""An HTTP client whose requests end: a body that drips in slower than the timeout is cut off.

httpx times out between two reads, so an endpoint that sends a byte now and then would hold a worker for ever.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx

MAX_BODY = 64 * 1024 * 1024
_STARTED = "coach_started"


class _Stream(httpx.SyncByteStream):
    def __init__(self, inner: httpx.SyncByteStream, request: httpx.Request, until: float) -> None:
        self._inner = inner
        self._request = request
        self._until = until

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self._inner:
            size += len(part)
            if time.monotonic() > self._until:
                raise httpx.ReadTimeout("the reply was not complete in time", request=self._request)
            if size > MAX_BODY:
                raise httpx.ReadError(f"the reply is longer than {MAX_BODY} bytes", request=self._request)
            yield part

    def close(self) -> None:
        self._inner.close()


def deadline_client(seconds: float, connections: int = 512) -> httpx.Client:
    """`seconds` from the start of a request to the last byte of its reply. Hooks, not a transport of our own: with
    one of those httpx ignores the proxies of the environment."""

    def begin(request: httpx.Request) -> None:
        request.extensions[_STARTED] = time.monotonic()

    def limit(response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.SyncByteStream)
        until = response.request.extensions[_STARTED] + seconds
        response.stream = _Stream(response.stream, response.request, until)

    return httpx.Client(
        timeout=httpx.Timeout(seconds, connect=min(seconds, 15.0)),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        event_hooks={"request": [begin], "response": [limit]},
        follow_redirects=True,
    )
