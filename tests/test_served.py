"""The index on a real Chroma server process: same passages as from disk, and errors that say what to do."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from coach import wiring
from coach.batch.caching import SharedIndex
from coach.config import load_settings
from coach.embed import VectorCache
from coach.errors import IndexStateError, UsageError
from coach.index import CURATED, Index, Root, build, open_index, open_served, publish, served
from coach.retrieve import retrieve
from tests.batch_data import BANK, NOTE
from tests.fakes import HashEmbedder

QUERIES = ("点积 方差", "B 初始化 为零", "softmax 饱和", "低秩 随机", "没有 这个 词")


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    code = "import sys; from chromadb.cli.cli import app; sys.argv[0] = 'chroma'; app()"
    where = ("--path", str(folder), "--host", "127.0.0.1", "--port", str(port))
    child = subprocess.Popen(
        [sys.executable, "-c", code, "run", *where], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 600  # a loaded machine is no failure
    while time.monotonic() < until and child.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/api/v2/heartbeat", timeout=5).raise_for_status()
            return child
        except httpx.HTTPError:
            time.sleep(0.05)
    child.kill()
    raise AssertionError(f"chroma run did not start ({child.poll()})")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    child = start(tmp_path / "server", port)
    yield f"http://127.0.0.1:{port}"
    child.kill()
    child.wait()


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.md").write_text(NOTE, encoding="utf8")
    return folder


def built(tmp_path: Path, notes: Path) -> Index:
    build(tmp_path / "index", [Root(CURATED, notes)], HashEmbedder(), VectorCache(tmp_path / "v.sqlite"))
    return open_index(tmp_path / "index", HashEmbedder())


def found(index: Index) -> list[list[tuple[str, float, float | None]]]:
    return [[(p.chunk.ref, p.score, p.lexical) for p in retrieve(index, q, 5)] for q in QUERIES]


def test_same_passages_as_from_disk_without_any_note_at_hand(
    tmp_path: Path, notes: Path, server: str
) -> None:
    local = built(tmp_path, notes)
    assert publish(tmp_path / "index", server) == publish(tmp_path / "index", server)
    index = open_served(server, tmp_path / "elsewhere", HashEmbedder())
    assert found(index) == found(local) == found(SharedIndex(index))
    assert index.section("notes/a.md#缩放") == local.section("notes/a.md#缩放")
    assert index.manifest.knowledge_hash == local.manifest.knowledge_hash
    again = open_served(server, tmp_path / "elsewhere", HashEmbedder())
    assert again.folder == index.folder and len(list((tmp_path / "elsewhere" / "served").iterdir())) == 1
    # Where the notes lie on the writer's machine is not told to its readers.
    assert index.manifest.roots == () and str(tmp_path) not in (index.folder / "manifest.json").read_text()


def test_a_new_build_replaces_the_old_which_its_readers_keep(
    tmp_path: Path, notes: Path, server: str
) -> None:
    built(tmp_path, notes)
    names = [publish(tmp_path / "index", server)]
    before = open_served(server, tmp_path / "r", HashEmbedder())
    (notes / "b.md").write_text("# 新\n\n## 位置\n旋转位置编码。\n", encoding="utf8")
    built(tmp_path, notes)
    names.append(publish(tmp_path / "index", server))
    after = open_served(server, tmp_path / "r", HashEmbedder())
    assert len(before.chunks) + 1 == len(after.chunks) and retrieve(before, "位置", 3)
    assert retrieve(after, "旋转位置编码", 1)[0].chunk.file == "notes/b.md"
    (notes / "b.md").unlink()
    (notes / "c.md").write_text("# 又\n\n## 词\n词表大小。\n", encoding="utf8")
    built(tmp_path, notes)
    names.append(publish(tmp_path / "index", server))
    left = {c.name for c in served.connect(server).list_collections()}
    assert len(set(names)) == 3 and left == {"coach-current", *names[1:]}


def test_a_writer_killed_half_way_changes_nothing_for_readers(
    tmp_path: Path, notes: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(tmp_path, notes)
    publish(tmp_path / "index", server)
    (notes / "b.md").write_text("# 新\n\n## 位置\n旋转位置编码。\n", encoding="utf8")
    built(tmp_path, notes)
    calls: list[object] = []

    def dies(chunk: object) -> str:
        calls.append(chunk)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return CURATED

    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(served, "_PAGE", 1)
        m.setattr(served, "root_of", dies)
        publish(tmp_path / "index", server)
    assert len(open_served(server, tmp_path / "r", HashEmbedder()).chunks) == 2
    publish(tmp_path / "index", server)
    assert len(open_served(server, tmp_path / "r", HashEmbedder()).chunks) == 3


def test_what_is_wrong_with_a_server_is_said(
    tmp_path: Path, notes: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(why: str, url: str = server, home: str = "r") -> None:
        with pytest.raises(IndexStateError, match=why) as e:
            open_served(url, tmp_path / home, HashEmbedder())
        assert e.value.hint

    fails("no Chroma server answers", f"http://127.0.0.1:{free_port()}")
    fails("no index at")
    built(tmp_path, notes)
    name = publish(tmp_path / "index", server)
    with monkeypatch.context() as m:
        m.setattr(HashEmbedder, "name", "another")
        fails("built with hash-64, not another")
    with monkeypatch.context() as m:
        m.setattr(served, "index_version", lambda: "next")
        fails("another version of the coach")
    index = open_served(server, tmp_path / "r", HashEmbedder())
    collection = served.connect(server).get_collection(name, embedding_function=None)
    collection.delete(ids=[index.chunks[0].id])
    fails("1 of 2 chunks", home="fresh")


def test_a_server_that_goes_away_is_an_error_and_no_empty_result(tmp_path: Path, notes: Path) -> None:
    port = free_port()
    child = start(tmp_path / "server", port)
    try:
        built(tmp_path, notes)
        publish(tmp_path / "index", f"http://127.0.0.1:{port}")
        index = open_served(f"http://127.0.0.1:{port}", tmp_path / "r", HashEmbedder())
    finally:
        child.kill()
        child.wait()
    with pytest.raises(IndexStateError, match="cannot be read") as e:
        retrieve(index, QUERIES[0], 3)
    assert "Chroma server" in e.value.hint


def test_coach_index_writes_and_everything_else_reads(tmp_path: Path, server: str) -> None:
    for name, file, text in (("notes", "a.md", NOTE), ("questions", "t.yaml", BANK)):
        (tmp_path / "knowledge" / name).mkdir(parents=True)
        (tmp_path / "knowledge" / name / file).write_text(text, encoding="utf8")
    env = {"COACH_KNOWLEDGE": str(tmp_path / "knowledge"), "COACH_CHROMA_URL": server + "/"}
    assert wiring.refresh(load_settings(env | {"COACH_HOME": str(tmp_path / "writer")})).chunks == 2
    (tmp_path / "knowledge" / "notes" / "a.md").unlink()
    index = wiring.index(load_settings(env | {"COACH_HOME": str(tmp_path / "reader")}))
    assert retrieve(index, "为什么要除以根号 d_k", 1)[0].chunk.file == "notes/a.md"
    assert not (tmp_path / "reader" / "index" / "CURRENT").exists()


@pytest.mark.parametrize("url", ["localhost:8000", "http://", "http://host/path", "ftp://host"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="no URL"):
        load_settings({"COACH_HOME": "h", "COACH_CHROMA_URL": url})
