"""Settings, read once: option, then environment, then `config.toml` in COACH_HOME, then the default.

Environment: COACH_HOME, COACH_LLM (model name), COACH_BASE_URL, COACH_API_KEY — the last two fall back to
OPENAI_BASE_URL and OPENAI_API_KEY when COACH_LLM is set — COACH_MODEL_FILE (a GGUF file), COACH_EMBEDDER,
COACH_RERANKER (a cross-encoder for the best passages, none by default), COACH_CHROMA_URL (a Chroma server that holds the
index, instead of COACH_HOME), COACH_TIMEOUT (seconds a request may take), COACH_PRICE_IN / COACH_PRICE_OUT (currency
units per million tokens), COACH_LANG (zh or en: what the coach speaks), COACH_VOTES (how often at most a structured judge
reads a finding it is unsure of: 3 by default, or 1).
"""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coach.errors import UsageError

PACKAGE = Path(__file__).resolve().parent
MAX_ANSWER_CHARS = 20_000


def resource(name: str) -> Path:
    """A top-level data folder: beside the package in a checkout, inside it in an installed wheel."""
    bundled = PACKAGE / "_data" / name
    return bundled if bundled.exists() else PACKAGE.parent / name


@dataclass(frozen=True, slots=True)
class Settings:
    home: Path
    knowledge: Path
    prompts: Path
    llm: str | None
    base_url: str | None
    api_key: str | None
    model_file: Path | None
    embedder: str
    timeout: float
    price_in: float | None = None
    price_out: float | None = None
    reranker: str | None = None
    chroma_url: str | None = None
    lang: str = "zh"
    votes: int = 3

    @property
    def index_dir(self) -> Path:
        return self.home / "index"

    @property
    def own_bank(self) -> Path:
        """Questions the person accepted from imported notes."""
        return self.home / "bank"

    @property
    def models_dir(self) -> Path:
        return self.home / "models"


def normalise_base_url(url: str) -> str:
    """Accept an endpoint as people paste it: with or without /v1, /chat/completions or a trailing slash.

    >>> normalise_base_url("http://localhost:8000/v1/chat/completions/")
    'http://localhost:8000/v1'
    >>> normalise_base_url("https://example.org/compatible-mode/v1")
    'https://example.org/compatible-mode/v1'
    """
    url = url.strip().rstrip("/")
    if not re.match(r"https?://[^/]", url):
        raise UsageError(
            f"the endpoint address is no URL: {url!r}", "set COACH_BASE_URL to http(s)://host[:port][/v1]"
        )
    url = re.sub(r"/(chat/completions|completions|embeddings|models)$", "", url).rstrip("/")
    # A path that already ends in a version (/v1, /api/v3, /v1beta) is kept; a bare host gets the usual one.
    return url if re.search(r"/v\d+[a-z]*\d*(/openai)?$", url) else url + "/v1"


def _chroma_url(url: str) -> str:
    """
    >>> _chroma_url("http://localhost:8000/")
    'http://localhost:8000'
    """
    url = url.strip().rstrip("/")
    if not re.fullmatch(r"https?://[^/?#@]+", url):
        raise UsageError(
            f"the Chroma server's address is no URL: {url!r}", "set COACH_CHROMA_URL to http(s)://host[:port]"
        )
    return url


def _votes(text: str) -> int:
    """
    >>> _votes("3")
    3
    """
    if text not in ("1", "3"):  # a fifth reading would repeat the third, word for word
        raise UsageError(
            f"COACH_VOTES={text!r} is neither 1 nor 3",
            "set 1 for one reading, 3 for up to three where the judge is unsure",
        )
    return int(text)


def _home(env: dict[str, str]) -> Path:
    if env.get("COACH_HOME"):
        return Path(env["COACH_HOME"]).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("interview-coach", appauthor=False)


def load_settings(env: dict[str, str] | None = None) -> Settings:
    """Raises UsageError naming the setting when one cannot be used."""
    env = dict(os.environ) if env is None else env
    home = _home(env)
    file = home / "config.toml"
    stored: dict[str, Any] = {}
    if file.is_file():
        try:
            stored = tomllib.loads(file.read_text(encoding="utf8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise UsageError(f"{file}: {e}", "mend or delete the file") from e

    def get(key: str) -> str | None:
        value = env.get(f"COACH_{key.upper()}") or stored.get(key)
        return str(value) if value not in (None, "") else None

    def number(key: str) -> float | None:
        text = get(key)
        if text is None:
            return None
        try:
            return float(text)
        except ValueError as e:
            raise UsageError(f"COACH_{key.upper()}={text!r} is no number") from e

    llm = get("llm")
    base_url = get("base_url")
    # OPENAI_* alone must not send a candidate's answers anywhere: an endpoint is used only when asked for.
    if (llm and llm != "embedded") or base_url:
        base_url = base_url or env.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
    api_key = get("api_key") or (env.get("OPENAI_API_KEY") if base_url else None)
    knowledge = get("knowledge")
    model_file = get("model_file")
    chroma_url = get("chroma_url")
    return Settings(
        home=home,
        knowledge=Path(knowledge).expanduser().absolute() if knowledge else resource("knowledge"),
        prompts=resource("prompts"),
        llm=llm,
        base_url=normalise_base_url(base_url) if base_url else None,
        api_key=api_key,
        model_file=Path(model_file).expanduser() if model_file else None,
        embedder=get("embedder") or "e5",
        timeout=number("timeout") or 60.0,
        price_in=number("price_in"),
        price_out=number("price_out"),
        reranker=get("reranker"),
        chroma_url=_chroma_url(chroma_url) if chroma_url else None,
        lang=get("lang") or "zh",
        votes=_votes(get("votes") or "3"),
    )
