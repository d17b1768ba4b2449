"""Which language model grades, and why. A new provider is one factory and one row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coach.config import Settings, resource
from coach.errors import ModelError
from coach.llm.base import LLM
from coach.llm.models import EMBEDDED, find_model, wheel_parts


def adapter_file() -> Path:
    """The LoRA adapter of the embedded model, made by eval/training."""
    return resource("eval") / "calibration" / f"{EMBEDDED.name}.lora.gguf"


def _embedded(settings: Settings, paced: bool) -> LLM:
    model = find_model(settings.models_dir, settings.model_file)
    if model is None:
        raise ModelError(
            "there is no model to grade with: neither the embedded one nor an endpoint",
            "fetch the embedded model with: coach models pull\n"
            "      or use an endpoint: COACH_LLM=<model> COACH_BASE_URL=<url> COACH_API_KEY=<key>",
        )
    from coach.llm.embedded import EmbeddedChat

    return EmbeddedChat(model, settings.timeout, adapter_file())


def _openai(settings: Settings, paced: bool) -> LLM:
    from coach.llm.openai_chat import OpenAIChat

    if not settings.llm:
        raise ModelError("an endpoint is set but no model is named", "set COACH_LLM to the model's name")
    assert settings.base_url is not None  # provider() chose us because it is set
    if paced:
        from coach.llm.deadline import deadline_client

        return OpenAIChat(
            settings.llm,
            base_url=settings.base_url,
            api_key=settings.api_key,
            timeout=settings.timeout,
            http_client=deadline_client(settings.timeout),
            max_retries=0,
        )
    return OpenAIChat(
        settings.llm, base_url=settings.base_url, api_key=settings.api_key, timeout=settings.timeout
    )


PROVIDERS: dict[str, Callable[[Settings, bool], LLM]] = {"embedded": _embedded, "openai": _openai}


def provider(settings: Settings) -> str:
    return "openai" if settings.base_url else "embedded"


def open_llm(settings: Settings, *, paced: bool = False) -> LLM:
    """`paced`: the caller retries and slows down by itself, over all its threads, and no request may outlive the timeout."""
    return PROVIDERS[provider(settings)](settings, paced)


def describe(settings: Settings) -> str:
    """One line for `coach doctor`: who will grade and how that was decided. Loads nothing."""
    if provider(settings) == "openai":
        return f"{settings.llm or '(no model named)'} at {settings.base_url} (COACH_LLM / COACH_BASE_URL)"
    if settings.model_file:
        return f"{settings.model_file.name} (COACH_MODEL_FILE)"
    path = settings.models_dir / EMBEDDED.file
    if path.is_file():
        return f"{EMBEDDED.name}, embedded ({path})"
    return f"{EMBEDDED.name}, embedded — not fetched yet ({'data wheels are installed' if wheel_parts() else 'no data wheels installed'})"
