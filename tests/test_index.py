from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from coach.embed import VectorCache
from coach.errors import IndexStateError
from coach.index import CURATED, Changes, Root, build, open_index, pending
from coach.index import build as build_function
from coach.retrieve import retrieve
from tests.fakes import HashEmbedder


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "attention.md").write_text(
        "# 注意力\n\n## 缩放\n除以根号 d_k，避免 softmax 饱和。\n\n## 多头\n多头在不同子空间里看。\n",
        encoding="utf8",
    )
    (folder / "lora.md").write_text("# LoRA\n\n## 初始化\nB 矩阵初始化为零。\n", encoding="utf8")
    return folder


def refresh(tmp_path: Path, notes: Path, embedder: HashEmbedder, rebuild: bool = False) -> Changes:
    cache = VectorCache(tmp_path / "vectors.sqlite")
    return build(tmp_path / "index", [Root(CURATED, notes)], embedder, cache, rebuild=rebuild)


def test_build_then_search(tmp_path: Path, notes: Path, embedder: HashEmbedder) -> None:
    made = refresh(tmp_path, notes, embedder)
    assert (made.added, made.chunks, made.embedded) == (["notes/attention.md", "notes/lora.md"], 3, 3)
    index = open_index(tmp_path / "index", embedder)
    best = retrieve(index, "B 初始化为零", 2)[0]
    assert best.chunk.ref == "notes/lora.md:4-4" and best.dense and best.lexical
    assert [c.heading for c in index.section("notes/attention.md#缩放")] == ["注意力 › 缩放"]
    assert index.section("notes/attention.md#没有") == []


def test_a_refresh_embeds_only_what_changed(tmp_path: Path, notes: Path, embedder: HashEmbedder) -> None:
    refresh(tmp_path, notes, embedder)
    (notes / "attention.md").write_text(
        (notes / "attention.md").read_text(encoding="utf8").replace("不同子空间", "多个子空间"),
        encoding="utf8",
    )
    (notes / "new.md").write_text("## 新\n新的一节。\n", encoding="utf8")
    (notes / "lora.md").unlink()
    made = refresh(tmp_path, notes, embedder)
    assert (made.added, made.changed, made.removed) == (
        ["notes/new.md"],
        ["notes/attention.md"],
        ["notes/lora.md"],
    )
    assert made.embedded == 2 and made.chunks == 3
    index = open_index(tmp_path / "index", embedder)
    found = {p.chunk.file for p in retrieve(index, "初始化 子空间 新的", 10)}
    assert found == {"notes/attention.md", "notes/new.md"}


def test_an_unchanged_tree_embeds_nothing_even_when_touched(
    tmp_path: Path, notes: Path, embedder: HashEmbedder
) -> None:
    refresh(tmp_path, notes, embedder)
    generation = (tmp_path / "index" / "CURRENT").read_text()
    before = embedder.encoded
    os.utime(notes / "lora.md", (1, 1))
    assert not refresh(tmp_path, notes, embedder)
    assert embedder.encoded == before and (tmp_path / "index" / "CURRENT").read_text() == generation
    assert not pending(tmp_path / "index", [Root(CURATED, notes)], embedder.name)


def test_a_renamed_file_is_moved_without_embedding(
    tmp_path: Path, notes: Path, embedder: HashEmbedder
) -> None:
    refresh(tmp_path, notes, embedder)
    (notes / "lora.md").rename(notes / "peft.md")
    made = refresh(tmp_path, notes, embedder)
    assert (made.added, made.removed, made.embedded) == (["notes/peft.md"], ["notes/lora.md"], 0)


def test_two_embedders_never_share_an_index(tmp_path: Path, notes: Path, embedder: HashEmbedder) -> None:
    refresh(tmp_path, notes, embedder)
    other = HashEmbedder()
    other.name = "hash-other"
    for call in (lambda: open_index(tmp_path / "index", other), lambda: refresh(tmp_path, notes, other)):
        with pytest.raises(IndexStateError, match="cannot be mixed") as e:
            call()
        assert "--rebuild" in e.value.hint
    assert refresh(tmp_path, notes, other, rebuild=True).embedded == 3


def test_an_unreadable_note_is_reported_and_the_rest_indexed(
    tmp_path: Path, notes: Path, embedder: HashEmbedder
) -> None:
    (notes / "broken.md").write_bytes(b"\x00\x01")
    made = refresh(tmp_path, notes, embedder)
    assert made.chunks == 3 and len(made.problems) == 1 and "broken.md" in made.problems[0]


def test_no_index_and_a_damaged_one_say_what_to_do(
    tmp_path: Path, notes: Path, embedder: HashEmbedder
) -> None:
    with pytest.raises(IndexStateError, match="no index yet"):
        open_index(tmp_path / "index", embedder)
    refresh(tmp_path, notes, embedder)
    folder = tmp_path / "index" / (tmp_path / "index" / "CURRENT").read_text()
    (folder / "manifest.json").write_text("{", encoding="utf8")
    with pytest.raises(IndexStateError, match="damaged"):
        open_index(tmp_path / "index", embedder)


class SlowEmbedder(HashEmbedder):
    """Takes its time, so that a build can be killed in the middle of it."""

    def encode_document(self, texts):  # type: ignore[no-untyped-def]
        time.sleep(0.2)
        return self._encode(texts)


def _build_slowly(tmp_path: Path, notes: Path) -> None:
    build_function(
        tmp_path / "index", [Root(CURATED, notes)], SlowEmbedder(), VectorCache(tmp_path / "vectors.sqlite")
    )


def _stored(tmp_path: Path) -> int:
    with sqlite3.connect(tmp_path / "vectors.sqlite", timeout=10) as db:
        return int(db.execute("SELECT count(*) FROM vectors").fetchone()[0])


def test_a_killed_build_leaves_the_previous_index_and_its_vectors(
    tmp_path: Path, notes: Path, embedder: HashEmbedder
) -> None:
    refresh(tmp_path, notes, embedder)
    for i in range(40):
        (notes / f"more{i}.md").write_text(f"## 第 {i} 节\n内容 {i}。\n", encoding="utf8")
    process = multiprocessing.get_context("spawn").Process(target=_build_slowly, args=(tmp_path, notes))
    process.start()
    deadline = time.monotonic() + 60
    while _stored(tmp_path) <= 3 and time.monotonic() < deadline:  # until the first batch is kept
        time.sleep(0.05)
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    index = open_index(tmp_path / "index", embedder)
    assert len(index.chunks) == 3 and retrieve(index, "初始化为零", 1)[0].chunk.file == "notes/lora.md"
    again = refresh(tmp_path, notes, embedder)
    assert again.chunks == 43 and again.embedded < 40  # the batches finished before the kill were kept
    assert len(list((tmp_path / "index").glob("gen-*"))) <= 2


def test_two_builders_at_once_agree(tmp_path: Path, notes: Path, embedder: HashEmbedder) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_build_slowly, args=(tmp_path, notes)) for _ in range(2)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    assert [p.exitcode for p in processes] == [0, 0]
    assert len(open_index(tmp_path / "index", embedder).chunks) == 3
