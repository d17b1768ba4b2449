"""Bringing notes in: files of every kind, bad input, personal data, repeats, incremental indexing, report."""

from __future__ import annotations

import contextlib
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from coach.embed import VectorCache
from coach.errors import NoteError, UsageError
from coach.index import CURATED, Root, build, open_index
from coach.notes import documents
from coach.notes.documents import read_source, source_files
from coach.notes.personal import mask, screen_line
from coach.notes.sets import Result, import_notes, load_set, note_sets, read_units
from coach.notes_report import as_json, as_markdown, counts, ranges
from coach.retrieve import explain, retrieve
from tests.fakes import HashEmbedder

NOTE = """# 面试题
1. <u>归并排序怎么做？</u>

   先把序列对半分开，各自排好，再把两个有序的序列合并成一个。

2. 什么是快速排序？

3. 堆排序是什么？

   建一个堆，反复取出堆顶，每次取出之后都重新调整成堆。
"""


def bring(home: Path, *paths: Path, name: str = "mine", keep: bool = False) -> Result:
    return import_notes(home, name, list(paths), keep_personal=keep)


# ── readers ──────────────────────────────────────────────────────────────────────────────────────
def test_html_becomes_rows_at_source_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text(
        "<html><head><script>x()</script></head><body>\n<nav>导航</nav>\n<h1>面试题</h1>\n<ol>\n<li>甲是什么？</li>\n"
        "<li>乙<b>怎么</b>做？</li>\n</ol>\n<pre>def f():\n    return 1</pre>\n<table><tr><td>a</td><td>b</td></tr></table></body></html>",
        encoding="utf8",
    )
    rows = [(n, t) for n, t in read_source(path).rows if t]
    assert rows[:3] == [(3, "# 面试题"), (5, "1. 甲是什么？"), (6, "2. 乙**怎么**做？")]
    assert (9, "    return 1") in [(n, t) for n, t in rows] or any(t == "    return 1" for _, t in rows)
    assert rows[-1][1] == "| a | b |" and not any("导航" in t or "x()" in t for _, t in rows)
    made = bring(tmp_path / "home", path)
    assert [u.question_line for u in made.units if u.question] == [5, 6]


def test_docx_headings_lists_and_tables(tmp_path: Path) -> None:
    import docx

    document = docx.Document()
    document.add_heading("甲是什么？", level=2)
    document.add_paragraph("甲是一种把大问题拆成小问题的方法，拆完再逐个解决。")
    document.add_table(rows=1, cols=2).rows[0].cells[0].text = "格"
    path = tmp_path / "a.docx"
    document.save(str(path))
    unit = bring(tmp_path / "home", path).units[0]
    assert (unit.question, unit.question_line, unit.answer) == (
        "甲是什么？",
        1,
        "full",
    ) and "| 格 |" in unit.text


def _pdf(text: str) -> bytes:
    """A minimal one-page PDF by hand: no library that writes PDFs is a dependency."""
    stream = f"BT /F1 12 Tf 72 700 Td {text} ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = b"%PDF-1.4\n", []
    for n, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (n, body)
    table = b"".join(b"%010d 00000 n \n" % p for p in places)
    return (
        out
        + b"xref\n0 6\n0000000000 65535 f \n"
        + table
        + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % len(out)
    )


def test_pdf_text_and_a_pdf_without(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(_pdf("(What is attention and why does it work so well?) Tj"))
    assert "attention" in read_source(path).rows[0][1]
    path.write_bytes(_pdf(""))
    with pytest.raises(NoteError, match="no text, only pictures"):
        read_source(path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        pytest.param("a.md", b"\x89PNG\r\n\x1a\n", "a PNG image", id="renamed-binary"),
        pytest.param("a.md", b"ok\0\0", "binary", id="nul"),
        pytest.param("a.md", b"", "empty", id="empty"),
        pytest.param(
            "a.md", b"ok\n\xff\x00".replace(b"\x00", b"\xfe\x81\x20"), ":2: neither", id="no-encoding"
        ),
        pytest.param("a.pdf", b"%PDF-1.4 broken", "cannot be read", id="broken-pdf"),
        pytest.param("a.docx", b"no zip", "no docx", id="broken-docx"),
        pytest.param("a.xyz", b"text", "no reader", id="suffix"),
    ],
)
def test_unusable_files_say_why(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(NoteError, match=message) as e:
        read_source(path)
    assert str(path) in str(e.value)


def test_gb18030_is_tried_and_said(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("什么是注意力？\n注意力是一种加权求和。".encode("gb18030"))
    source = read_source(path)
    assert source.rows[0][1] == "什么是注意力？" and "GB18030" in source.remark


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("word/document.xml", b"0" * (30 << 20))
    with pytest.raises(NoteError, match="zip bomb"):
        read_source(path)


def test_a_huge_file_and_one_that_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.md"
    path.write_text("甲" * 100, encoding="utf8")
    monkeypatch.setattr(documents, "MAX_BYTES", 100)
    with pytest.raises(NoteError, match="too large"):
        read_source(path)
    monkeypatch.setattr(documents, "MAX_BYTES", 10_000)
    real = Path.read_bytes

    def growing(self: Path) -> bytes:
        data = real(self)
        self.write_bytes(data + b"more")
        return data

    monkeypatch.setattr(Path, "read_bytes", growing)
    with pytest.raises(NoteError, match="changed while it was read"):
        read_source(path)


def test_folders_end_at_circular_links_and_skip_hidden(tmp_path: Path) -> None:
    folder = tmp_path / "n"
    (folder / "sub").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name in ("a.md", "sub/a.md", ".git/b.md", "c.png"):
        (folder / name).write_text("x", encoding="utf8")
    (folder / "sub" / "loop").symlink_to(folder, target_is_directory=True)
    files, problems = source_files([folder, tmp_path / "none", tmp_path / "n" / "*.md"])
    assert [n for _, n in files] == ["a.md", "sub/a.md", "a-2.md"] and len(problems) == 1


@given(st.binary(max_size=300))
@hypothesis_settings(max_examples=60, deadline=None)
def test_no_bytes_break_the_text_reader(data: bytes) -> None:
    with contextlib.suppress(NoteError):
        documents.decode(data, Path("a.md"))


# ── sets ─────────────────────────────────────────────────────────────────────────────────────────
def test_import_counts_answers_and_keeps_lines(tmp_path: Path) -> None:
    path = tmp_path / "n.md"
    path.write_text(NOTE, encoding="utf8")
    made = bring(tmp_path / "home", path)
    assert counts(made)["answers"] == {
        "full": 2,
        "partial": 0,
        "outline": 0,
        "image_only": 0,
        "truncated": 0,
        "none": 1,
    }
    lines = NOTE.split("\n")
    for unit in made.units:
        assert (
            [t for t in unit.lines if t] and unit.lines[0] in lines[unit.first_line - 1]
        ) or unit.answer == "none"
    assert (
        note_sets(tmp_path / "home") == ["mine"] and load_set(tmp_path / "home", "mine").units == made.units
    )


def test_an_unchanged_import_parses_nothing_and_a_gone_source_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "n"
    folder.mkdir()
    (folder / "a.md").write_text(NOTE, encoding="utf8")
    (folder / "b.md").write_text("## 甲是什么？\n甲是一种足够长的说明，用来讲清楚它。", encoding="utf8")
    bring(tmp_path / "home", folder)
    monkeypatch.setattr("coach.notes.sets.parse_source", lambda *a: pytest.fail("parsed again"))
    assert len(bring(tmp_path / "home", folder).sources) == 2
    (folder / "b.md").unlink()
    assert bring(tmp_path / "home", folder).removed == ["b.md"]
    assert [s.name for s in load_set(tmp_path / "home", "mine").sources] == ["a.md"]


def test_one_bad_file_does_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(NOTE, encoding="utf8")
    (tmp_path / "b.md").write_bytes(b"\0\1")
    made = bring(tmp_path / "home", tmp_path / "a.md", tmp_path / "b.md", tmp_path / "none.md")
    assert len(made.units) == 3 and len(made.problems) == 2
    with pytest.raises(NoteError, match="nothing was imported"):
        bring(tmp_path / "home2", tmp_path / "b.md")
    assert not note_sets(tmp_path / "home2")


def test_names_and_missing_sets(tmp_path: Path) -> None:
    for bad in ("notes", "../x", "", "a/b"):
        with pytest.raises(UsageError, match="cannot name"):
            import_notes(tmp_path, bad, [tmp_path])
    with pytest.raises(UsageError, match="no note set"):
        load_set(tmp_path, "gone")


def test_a_damaged_unit_file_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "x.units"
    path.write_text("{", encoding="utf8")
    with pytest.raises(NoteError, match="damaged") as e:
        read_units(path)
    assert "import" in e.value.hint


# ── repeats ──────────────────────────────────────────────────────────────────────────────────────
def test_repeated_questions_merge_into_the_answered_one(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(
        "# 面试题\n1. 什么是 KV Cache？\n2. 乙是什么？\n3. 什么是KV-cache?", encoding="utf8"
    )
    (tmp_path / "b.md").write_text(
        "## 什么是 kv cache？\n把算过的键和值存下来，生成下一个词时不用重算。", encoding="utf8"
    )
    made = bring(tmp_path / "home", tmp_path / "a.md", tmp_path / "b.md")
    assert [u.question for u in made.units] == ["乙是什么？", "什么是 kv cache？"]
    assert [(m.first_line, m.kept) for m in made.sources[0].merged] == [(4, "a.md:2"), (2, "b.md:1")]


def test_a_copied_block_is_indexed_once(tmp_path: Path) -> None:
    block = "\n".join(f"   第{c}条是很长的一条说明，讲的是第{c}件事情应该怎样做。" for c in "一二三四五六")
    text = f"# 面试题\n1. 甲怎么优化？\n\n{block}\n\n2. 乙是什么，甲怎么优化？\n\n   乙是另一种东西，和甲不一样。\n{block}\n"
    (tmp_path / "a.md").write_text(text, encoding="utf8")
    made = bring(tmp_path / "home", tmp_path / "a.md")
    assert [m.what for m in made.sources[0].merged] == ["block"]
    assert "第一条" not in made.units[1].text and "另一种东西" in made.units[1].text


# ── personal data ────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("联系 13800138000 即可", ["phone"]),
        ("电话：010-6552 9988", ["phone"]),
        ("写信到 someone@example.com 吧", ["e-mail"]),
        ("证件 11010519491231002X", ["ID number"]),
        ("微信号: some_id2020", ["account"]),
        ("面试官您好，我是张小三，来自某地", ["self-introduction"]),
        ("我本科毕业于某某大学", ["self-introduction"]),
        ("S级：甲（投）、乙（挂）、丙（测评）、丁（复活甲）、戊（无）", ["application log"]),
        ("某厂 笔试(04-01 19:00)", ["application log"]),
    ],
)
def test_personal_data_is_found_and_masked(text: str, kinds: list[str]) -> None:
    screened, found = screen_line(text, 7)
    assert [f.kind for f in found] == kinds and all(f.line == 7 and "…" in f.excerpt for f in found)
    assert not any(
        token in screened
        for token in ("13800138000", "someone@", "11010519491231002X", "some_id2020", "张小三")
    )


@pytest.mark.parametrize(
    "text",
    [
        "![74040486190](assets/1740404861907.png)",
        "模型有 13800138000000 个参数",
        "7B、13B、33B、65B，词表 151936，隐藏维 18432",
        "证件 110105194912310021 的校验位是错的",
        "训练时间约 2921340 秒，1024 张卡",
        "log σ( β * log (π_θ(y_w | x) / π_ref(y_w | x)) - β * log (x) )",
        "一面主要问项目，二面问原理，三面聊规划",
        "https://x.example/user@host.com/13800138000",
        "RoBERTa（无 NSP）比 BERT 好",
    ],
)
def test_no_false_alarm(text: str) -> None:
    screened, found = screen_line(text, 1)
    assert [f.kind for f in found if f.kind != "e-mail"] == [] and screened


def test_personal_lines_stay_out_of_the_index_unless_kept(tmp_path: Path) -> None:
    text = "# HR面\n1. 自己最大的优点是什么？\n\n   我的优点是学习很快，而且做事非常认真负责。\n\n# 题\n1. 甲是什么？\n\n   甲见 13800138000 的笔记，里面写得非常清楚明白。\n"
    (tmp_path / "a.md").write_text(text, encoding="utf8")
    made = bring(tmp_path / "home", tmp_path / "a.md")
    stored = (tmp_path / "home" / "notes" / "mine" / "units" / "a.md.units").read_text(encoding="utf8")
    assert "13800138000" not in stored and "学习很快" not in stored and "〔phone〕" in stored
    assert counts(made)["personal"] == {
        "personal answer": 1,
        "phone": 1,
    } and "13800138000" not in as_markdown(made) + as_json(made)
    kept = bring(tmp_path / "home", tmp_path / "a.md", keep=True)
    assert any("13800138000" in u.text for u in kept.units) and not counts(kept)["personal"]


def test_a_mask_shows_little() -> None:
    assert (mask("13800138000"), mask("ab")) == ("1…0", "…")


# ── report ───────────────────────────────────────────────────────────────────────────────────────
def test_the_report_names_every_dropped_line(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(NOTE + "\n点赞\n收藏\n", encoding="utf8")
    made = bring(tmp_path / "home", tmp_path / "a.md")
    report = json.loads(as_json(made))
    assert (
        report["counts"]["dropped"] == {"page furniture": 2}
        and report["sources"][0]["units"][0]["first_line"] == 4
    )
    assert "去掉 page furniture：第 12-13 行" in as_markdown(made) and "没有答案：第 6 行" in as_markdown(
        made
    )
    assert ranges([3, 1, 2, 7]) == "1-3, 7"


# ── index ────────────────────────────────────────────────────────────────────────────────────────
def indexed(tmp_path: Path, embedder: HashEmbedder) -> int:
    (tmp_path / "curated").mkdir(exist_ok=True)
    (tmp_path / "curated" / "x.md").write_text("## 缓存\n键值缓存省去重复计算。\n", encoding="utf8")
    roots = [
        Root(CURATED, tmp_path / "curated"),
        Root("mine", tmp_path / "home" / "notes" / "mine" / "units"),
    ]
    return build(tmp_path / "index", roots, embedder, VectorCache(tmp_path / "v.sqlite")).embedded


def test_units_are_passages_at_their_own_lines_and_one_changed_line_embeds_its_chunks(
    tmp_path: Path, embedder: HashEmbedder
) -> None:
    path = tmp_path / "n.md"
    path.write_text(NOTE, encoding="utf8")
    bring(tmp_path / "home", path)
    assert indexed(tmp_path, embedder) == 3
    index = open_index(tmp_path / "index", embedder)
    best = retrieve(index, "两个有序的序列合并", 1)[0]
    assert best.chunk.ref == "mine/n.md:4-4" and best.chunk.question == "归并排序怎么做？"
    assert index.trust(best.chunk) == "imported" and not any("快速排序" in c.text for c in index.chunks)
    assert {p.chunk.file.split("/")[0] for p in retrieve(index, "键值缓存 排序", 9, "mine")} == {"mine"}
    path.write_text(NOTE.replace("各自排好", "各自排序好"), encoding="utf8")
    bring(tmp_path / "home", path)
    assert indexed(tmp_path, embedder) == 1


def test_aliases_meet_both_ways_and_explain_says_so(tmp_path: Path, embedder: HashEmbedder) -> None:
    (tmp_path / "n.md").write_text(
        "## 推理加速\n用 KV cache 之后，每一步只算新的那一个词。\n", encoding="utf8"
    )
    bring(tmp_path / "home", tmp_path / "n.md")
    indexed(tmp_path, embedder)
    index = open_index(tmp_path / "index", embedder)
    found = [p for p in retrieve(index, "键值缓存", 5) if p.chunk.file == "mine/n.md"]
    assert found and found[0].lexical
    why = explain(index, "键值缓存", found[0])
    assert why.concepts == ("KV cache",) and why.trust == "imported" and not why.words


def test_a_suspect_statement_marks_its_passage(tmp_path: Path, embedder: HashEmbedder) -> None:
    (tmp_path / "n.md").write_text(NOTE, encoding="utf8")
    bring(tmp_path / "home", tmp_path / "n.md")
    indexed(tmp_path, embedder)
    rows = [
        {"claim": "建一个堆，反复取出堆顶", "cosine": 0.95},
        {"claim": "先把序列对半分开", "cosine": 0.91},
    ]
    (tmp_path / "home" / "notes" / "mine" / "suspects.json").write_text(json.dumps(rows), encoding="utf8")
    index = open_index(tmp_path / "index", embedder)
    assert {c.question: index.trust(c) for c in index.chunks} == {
        "": "curated",
        "归并排序怎么做？": "imported",
        "堆排序是什么？": "contradicted",
    }
