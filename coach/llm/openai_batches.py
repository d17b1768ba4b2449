"""The Batch API of endpoints that have one: a file of requests in, a file of replies out, within a day, for less."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coach.errors import LLMError, LLMRejected, LLMUnavailable

TAG = "coach_requests"
ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class BatchState:
    """`status` as the API names it; file ids are "" while there is no such file."""

    id: str
    status: str
    output: str
    errors: str
    done: int
    total: int
    problem: str = ""

    @property
    def ended(self) -> bool:
        return self.status in ENDED


class BatchApi:
    """Raises only the LLMError family. A connection error is asked again by the openai client."""

    def __init__(self, base_url: str, api_key: str | None, timeout: float) -> None:
        from openai import OpenAI

        self._where = base_url
        self._client = OpenAI(base_url=base_url, api_key=api_key or "none", timeout=timeout, max_retries=5)

    def submit(self, path: Path, tag: str) -> str:
        """Id of the batch for this file. One already submitted under the same tag is adopted, never paid twice."""
        try:
            for known in self._client.batches.list(limit=100):
                if (known.metadata or {}).get(TAG) == tag and known.status not in ("failed", "cancelled"):
                    return known.id
            with path.open("rb") as f:
                uploaded = self._client.files.create(file=f, purpose="batch")
            made = self._client.batches.create(
                input_file_id=uploaded.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={TAG: tag},
            )
        except Exception as e:
            raise self._translated(e) from e
        return made.id

    def state(self, batch_id: str) -> BatchState:
        try:
            b = self._client.batches.retrieve(batch_id)
        except Exception as e:
            raise self._translated(e) from e
        counts = b.request_counts
        problems = [str(x.message) for x in (b.errors.data or [])] if b.errors else []
        return BatchState(
            b.id,
            b.status,
            b.output_file_id or "",
            b.error_file_id or "",
            (counts.completed + counts.failed) if counts else 0,
            counts.total if counts else 0,
            "; ".join(problems)[:300],
        )

    def lines(self, file_id: str) -> Iterator[dict[str, Any]]:
        """The JSON objects of a result file; a line that is none is skipped, for its request is then asked again."""
        try:
            with self._client.files.with_streaming_response.content(file_id) as response:
                for line in response.iter_lines():
                    try:
                        value = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(value, dict):
                        yield value
        except Exception as e:
            raise self._translated(e) from e

    def _translated(self, error: Exception) -> LLMError:
        import openai

        status = getattr(error, "status_code", None)
        if isinstance(error, openai.APIStatusError) and status is not None and status < 500 and status != 429:
            hint = "this endpoint may have no Batch API; use --engine local" if status == 404 else ""
            return LLMRejected(f"{self._where} refused the batch ({status}): {error.message[:200]}", hint)
        if isinstance(error, openai.OpenAIError | OSError):
            return LLMUnavailable(
                f"{self._where} cannot be used for batches: {error}", "run the same command again"
            )
        raise error


def read_reply(body: Any, where: str) -> Any:
    """The reply inside a result line's `response.body`; LLMUnreadable when it is none."""
    from openai.types.chat import ChatCompletion

    from coach.errors import LLMUnreadable
    from coach.llm.openai_chat import read_completion

    try:
        completion = ChatCompletion.model_validate(body)
    except ValueError as e:
        raise LLMUnreadable(
            f"{where} sent a batch reply that is no chat completion", raw=str(body)[:2000]
        ) from e
    return read_completion(completion, 0.0, where)
