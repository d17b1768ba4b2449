"""Any OpenAI-compatible endpoint, the embedded server included. The only file that knows openai's exceptions.

Retries with exponential backoff (429, 5xx, dropped connections; Retry-After is honoured) are the openai client's.
"""

from __future__ import annotations

import time
from email.utils import mktime_tz, parsedate_tz
from typing import Any, Unpack, cast

from coach.domain import Usage
from coach.errors import LLMError, LLMRejected, LLMUnavailable, LLMUnreadable
from coach.llm.base import Capabilities, ChatOptions, Reply
from coach.prompts import Messages

MAX_RETRIES = 4


def _schema_format(schema: dict[str, Any], mode: str) -> dict[str, Any] | None:
    if mode == "schema":
        return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}}
    return {"type": "json_object"} if mode == "object" else None


def request_options(options: ChatOptions, json_mode: str) -> dict[str, Any]:
    """The parameters of one chat completion beside model and messages."""
    wanted: dict[str, Any] = {
        "max_tokens": options["max_tokens"],
        "temperature": options.get("temperature", 0.0),
    }
    if options.get("top_logprobs"):
        wanted |= {"logprobs": True, "top_logprobs": options["top_logprobs"]}
    if "seed" in options:
        wanted["seed"] = options["seed"]
    if "schema" in options and (form := _schema_format(options["schema"], json_mode)):
        wanted["response_format"] = form
    return wanted


def retry_after(response: Any) -> float | None:
    """Seconds the endpoint asks to wait (`retry-after-ms`, else `Retry-After` in seconds or as a date)."""
    headers = getattr(response, "headers", {})
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    when = parsedate_tz(headers.get("retry-after", ""))
    return max(0.0, mktime_tz(when) - time.time()) if when else None


class OpenAIChat:
    """`http_client` lets tests stand in for the network and keeps proxies away from the loopback server."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        api_key: str | None,
        timeout: float = 60.0,
        name: str | None = None,
        capabilities: Capabilities | None = None,
        http_client: Any = None,
        max_retries: int = MAX_RETRIES,
    ) -> None:
        from openai import OpenAI  # 0.6 s

        self.model = model
        self.base_url = base_url
        self.name = name or model
        self._capabilities = capabilities
        self._client = OpenAI(
            base_url=base_url,
            api_key=api_key or "none",
            timeout=timeout,
            max_retries=max_retries,
            http_client=http_client,
        )

    @property
    def capabilities(self) -> Capabilities:
        if self._capabilities is None:
            self._capabilities = self._probe()
        return self._capabilities

    def _probe(self) -> Capabilities:
        """Two tiny calls find out what the endpoint does. A refused parameter means no; a dead endpoint raises."""
        schema = {
            "type": "object",
            "properties": {"ok": {"type": "boolean"}},
            "required": ["ok"],
            "additionalProperties": False,
        }
        ask: Messages = [{"role": "user", "content": 'Reply with the JSON object {"ok": true}'}]
        logprobs, json_mode = False, "none"
        try:
            logprobs = bool(self.chat(ask, max_tokens=1, top_logprobs=5).first_token)
        except LLMRejected:
            self.chat(ask, max_tokens=1)  # a wrong key or model name fails here too, and must be reported
        for mode in ("schema", "object"):
            try:
                self._request(ask, max_tokens=16, response_format=_schema_format(schema, mode))
            except LLMRejected:
                continue
            json_mode = mode
            break
        return Capabilities(logprobs=logprobs, json_mode=json_mode)

    def chat(self, messages: Messages, **options: Unpack[ChatOptions]) -> Reply:
        json_mode = self.capabilities.json_mode if "schema" in options else "none"
        return self._request(messages, **request_options(options, json_mode))

    def _request(self, messages: Messages, **options: Any) -> Reply:
        import openai

        start = time.perf_counter()
        try:
            completion = self._client.chat.completions.create(
                model=self.model, messages=cast(Any, messages), **options
            )
        except openai.OpenAIError as e:
            error = self._translated(e)
            error.status = getattr(e, "status_code", None)
            error.retry_after = retry_after(getattr(e, "response", None))
            raise error from e
        except ValueError as e:  # a body that claims to be JSON and is not
            raise LLMUnreadable(
                f"{self.base_url} sent a broken reply: {e}", "try again, or check the endpoint"
            ) from e
        return read_completion(completion, time.perf_counter() - start, self.base_url)

    def _translated(self, error: Exception) -> LLMError:
        import openai

        where = f"{self.model} at {self.base_url}"
        if isinstance(error, openai.APITimeoutError):
            return LLMUnavailable(f"{where} did not answer in time", "raise COACH_TIMEOUT or try again")
        if isinstance(error, openai.APIConnectionError):
            return LLMUnavailable(
                f"{where} cannot be reached", "is the endpoint running? check with: coach doctor"
            )
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            return LLMRejected(f"{where} refused the key", "set COACH_API_KEY")
        if isinstance(error, openai.NotFoundError):
            return LLMRejected(f"{where}: no such model or path (404)", "check COACH_LLM and COACH_BASE_URL")
        if isinstance(error, openai.RateLimitError):
            return LLMUnavailable(f"{where} is limiting the rate (429)", "wait, or use fewer jobs")
        if isinstance(error, openai.InternalServerError):
            return LLMUnavailable(f"{where} failed ({error.status_code})", "try again later")
        if isinstance(error, openai.APIStatusError):
            return LLMRejected(f"{where} refused the request ({error.status_code}): {error.message[:200]}")
        return LLMUnreadable(f"{where} sent a reply that is no chat completion: {str(error)[:200]}")


def read_completion(completion: Any, seconds: float, where: str) -> Reply:
    """LLMUnreadable when it is no chat completion; `where` is named in the message."""
    choices = getattr(completion, "choices", None)
    if not choices or getattr(choices[0], "message", None) is None:
        raw = completion if isinstance(completion, str) else repr(completion)
        what = "a web page" if raw.lstrip()[:1] == "<" else "something"
        raise LLMUnreadable(
            f"{where} answered with {what} that is no chat completion",
            "COACH_BASE_URL should be the API address, usually ending in /v1",
            raw=raw[:2000],
        )
    choice, usage = choices[0], completion.usage
    first = None
    content = choice.logprobs.content if choice.logprobs else None
    if content:
        first = tuple((t.token, t.logprob) for t in content[0].top_logprobs) or (
            (content[0].token, content[0].logprob),
        )
    details = getattr(usage, "prompt_tokens_details", None)
    return Reply(
        text=choice.message.content or "",
        first_token=first,
        finish_reason=choice.finish_reason or "",
        usage=Usage(
            calls=1,
            prompt_tokens=getattr(usage, "prompt_tokens", 0) or 0,
            cached_tokens=getattr(details, "cached_tokens", 0) or 0,
            completion_tokens=getattr(usage, "completion_tokens", 0) or 0,
            seconds=seconds,
        ),
    )
