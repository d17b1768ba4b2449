"""Putting the model file together, on small parts made here."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from coach.errors import ModelError
from coach.llm import models
from coach.llm.models import EMBEDDED, find_model, pull, wheel_parts

DATA = b"GGUF" + bytes(range(256)) * 64
SPEC = replace(
    EMBEDDED,
    file="tiny.gguf",
    size=len(DATA),
    digest=hashlib.sha256(DATA).hexdigest(),
    wheel="tiny_part{i}",
    parts=3,
)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three packages that hold the parts; importing one of them would fail."""
    site = tmp_path / "site"
    for i in range(1, 4):
        data = site / f"tiny_part{i}" / "data"
        data.mkdir(parents=True)
        (data.parent / "__init__.py").write_text("raise RuntimeError('must not be imported')")
        (data / f"part{i:02d}.bin").write_bytes(DATA[(i - 1) * 6000 : i * 6000])
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    return site


def test_parts_are_joined_checked_and_found_again(tmp_path: Path, wheels: Path) -> None:
    seen: list[int] = []
    path, origin = pull(tmp_path / "models", lambda done, total: seen.append(done), SPEC)
    assert path.read_bytes() == DATA and origin == "3 data wheels" and seen[-1] == len(DATA)
    assert find_model(tmp_path / "models", spec=SPEC) == path
    assert pull(tmp_path / "models", spec=SPEC)[1] == "already here"
    assert not list((tmp_path / "models").glob("*.part"))


def test_a_wrong_digest_is_refused_and_kept_aside(tmp_path: Path, wheels: Path) -> None:
    (wheels / "tiny_part2" / "data" / "part02.bin").write_bytes(b"x" * 6000)
    with pytest.raises(ModelError, match="wrong digest"):
        pull(tmp_path / "models", spec=SPEC)
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["tiny.gguf.wrong-digest"]


def test_a_damaged_file_in_place_is_refused_and_kept_aside(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "tiny.gguf").write_bytes(b"GGUF" + b"x" * (len(DATA) - 4))
    with pytest.raises(ModelError, match="wrong digest"):
        find_model(folder, spec=SPEC)
    assert (folder / "tiny.gguf.wrong-digest").exists() and not (folder / "tiny.gguf").exists()


def test_missing_parts_are_named(tmp_path: Path, wheels: Path) -> None:
    (wheels / "tiny_part3" / "data" / "part03.bin").unlink()
    with pytest.raises(ModelError, match=r"\[3\] are missing"):
        wheel_parts(SPEC)


def test_no_wheels_and_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match="could not be fetched") as e:
        pull(tmp_path / "models", spec=replace(SPEC, wheel="nowhere_part{i}"))
    assert "make setup" in e.value.hint
    assert not list((tmp_path / "models").glob("*"))


def test_interrupting_a_pull_leaves_nothing_behind(tmp_path: Path, wheels: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(tmp_path / "models", stop, SPEC)
    assert not list((tmp_path / "models").glob("*"))


def test_an_explicit_file_must_be_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no file"):
        find_model(tmp_path, tmp_path / "nope")
    (tmp_path / "text.gguf").write_text("hello")
    with pytest.raises(ModelError, match="no GGUF"):
        find_model(tmp_path, tmp_path / "text.gguf")


def test_the_hub_is_asked_with_its_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == f"/{SPEC.repository}/resolve/main/tiny.gguf"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(DATA)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    path, origin = models.pull(tmp_path / "models", spec=replace(SPEC, wheel="nowhere_part{i}"))
    server.shutdown()
    server.server_close()
    assert path.read_bytes() == DATA and origin == SPEC.repository
