"""The OpenAI-compatible client against a real HTTP server that misbehaves on purpose."""

from __future__ import annotations

import json

import pytest

from coach.config import load_settings, normalise_base_url
from coach.errors import CoachError, LLMRejected, LLMUnavailable, LLMUnreadable, ModelError, UsageError
from coach.llm import describe, open_llm
from coach.llm.openai_chat import OpenAIChat
from tests.fakes import ScriptedEndpoint, completion

ASK = [{"role": "user", "content": "hi"}]


def chat(url: str, retries: int = 0) -> OpenAIChat:
    return OpenAIChat("m", base_url=normalise_base_url(url), api_key="k", timeout=2, max_retries=retries)


@pytest.mark.parametrize(
    ("pasted", "used"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h:1/v1/", "http://h:1/v1"),
        ("http://h:1/v1/chat/completions", "http://h:1/v1"),
        ("http://h:1/v1/embeddings", "http://h:1/v1"),
        ("https://h/compatible-mode/v1", "https://h/compatible-mode/v1"),
        ("https://h/api/paas/v4", "https://h/api/paas/v4"),
        ("https://h/v1beta/openai", "https://h/v1beta/openai"),
    ],
)
def test_endpoint_addresses_are_accepted_as_people_paste_them(pasted: str, used: str) -> None:
    assert normalise_base_url(pasted) == used


def test_an_address_that_is_no_url_is_refused() -> None:
    with pytest.raises(UsageError, match="no URL"):
        normalise_base_url("localhost:8000")


def test_a_reply_is_read_with_usage_and_logprobs() -> None:
    with ScriptedEndpoint(
        lambda body, n: (200, {}, completion("是", [("是", -0.1), ("否", -2.3)]))
    ) as server:
        reply = chat(server.url).chat(ASK, max_tokens=1, top_logprobs=2)
    assert reply.text == "是" and reply.usage.prompt_tokens == 12
    assert reply.mass(frozenset({"是"})) == pytest.approx(0.905, abs=0.001)
    assert server.calls[0]["logprobs"] is True and server.calls[0]["temperature"] == 0


@pytest.mark.parametrize(
    ("status", "headers", "body", "error", "message"),
    [
        pytest.param(401, {}, "{}", LLMRejected, "key", id="401"),
        pytest.param(404, {}, "{}", LLMRejected, "404", id="404"),
        pytest.param(400, {}, '{"error": {"message": "bad thing"}}', LLMRejected, "bad thing", id="400"),
        pytest.param(429, {}, "{}", LLMUnavailable, "rate", id="429"),
        pytest.param(500, {}, "{}", LLMUnavailable, "500", id="500"),
        pytest.param(
            200, {"Content-Type": "text/html"}, "<html>hello</html>", LLMUnreadable, "web page", id="html"
        ),
        pytest.param(200, {}, '{"choices": [', LLMUnreadable, "broken", id="cut off JSON"),
        pytest.param(200, {}, '{"choices": []}', LLMUnreadable, "no chat completion", id="no choice"),
    ],
)
def test_every_failure_is_one_of_ours(
    status: int, headers: dict[str, str], body: str, error: type[CoachError], message: str
) -> None:
    with (
        ScriptedEndpoint(lambda _, n: (status, headers, body)) as server,
        pytest.raises(error, match=message),
    ):
        chat(server.url).chat(ASK, max_tokens=1)


def test_nobody_listening() -> None:
    with pytest.raises(LLMUnavailable, match="cannot be reached"):
        chat("http://127.0.0.1:9").chat(ASK, max_tokens=1)


def test_busy_replies_are_retried_within_bounds() -> None:
    def script(body: dict[str, object], n: int) -> tuple[int, dict[str, str], str]:
        return (429, {"Retry-After": "0"}, "{}") if n < 3 else (200, {}, completion("ok"))

    with ScriptedEndpoint(script) as server:
        assert chat(server.url, retries=3).chat(ASK, max_tokens=1).text == "ok"
        assert len(server.calls) == 3


def test_capabilities_are_found_by_asking() -> None:
    def script(body: dict[str, object], n: int) -> tuple[int, dict[str, str], str]:
        if body.get("response_format", {"type": ""})["type"] == "json_schema" or "logprobs" in body:  # type: ignore[index]
            return 400, {}, json.dumps({"error": {"message": "unsupported"}})
        return 200, {}, completion('{"ok": true}')

    with ScriptedEndpoint(script) as server:
        can = chat(server.url).capabilities
    assert (can.logprobs, can.json_mode) == (False, "object")


def test_settings_choose_the_provider(tmp_path) -> None:  # type: ignore[no-untyped-def]
    home = {"COACH_HOME": str(tmp_path)}
    assert "embedded" in describe(load_settings(home))
    # A key lying around in the environment must not send answers to anybody.
    assert load_settings(home | {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://h/v1"}).base_url is None
    remote = load_settings(home | {"COACH_LLM": "m", "OPENAI_BASE_URL": "https://h", "OPENAI_API_KEY": "k"})
    assert (remote.base_url, remote.api_key) == ("https://h/v1", "k")
    with pytest.raises(ModelError, match="no model to grade with"):
        open_llm(load_settings(home))
    with pytest.raises(ModelError, match="no model is named"):
        open_llm(load_settings(home | {"COACH_BASE_URL": "https://h"}))


def test_a_broken_config_file_is_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "config.toml").write_text("llm = ")
    with pytest.raises(UsageError, match=r"config\.toml"):
        load_settings({"COACH_HOME": str(tmp_path)})
