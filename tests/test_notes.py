from __future__ import annotations

from pathlib import Path

import pytest

from coach.errors import NoteError
from coach.notes.chunks import MAX_CHARS, chunk_note, embedding_text
from coach.notes.readers import note_files, read_text

NOTE = """# 注意力

## 缩放
方差等于 $d_k$。
除以 $\\sqrt{d_k}$。

## 代码
```python
# 这不是标题
x = 1
```
| a | b |
|---|---|
| 1 | 2 |

尾巴。
"""


def test_sections_become_chunks_with_exact_lines() -> None:
    chunks = chunk_note("notes/a.md", NOTE)
    assert [(c.heading, c.first_line, c.last_line) for c in chunks] == [
        ("注意力 › 缩放", 4, 5),
        ("注意力 › 代码", 8, 16),
    ]
    lines = NOTE.split("\n")
    for c in chunks:
        assert c.text == "\n".join(lines[c.first_line - 1 : c.last_line])


def test_ids_are_stable_and_follow_the_content() -> None:
    before = {c.heading: c.id for c in chunk_note("notes/a.md", NOTE)}
    moved = {c.heading: c.id for c in chunk_note("notes/a.md", "\n\n" + NOTE)}
    changed = {c.heading: c.id for c in chunk_note("notes/a.md", NOTE.replace("方差等于", "方差是"))}
    assert before == moved
    assert (
        before["注意力 › 代码"] == changed["注意力 › 代码"]
        and before["注意力 › 缩放"] != changed["注意力 › 缩放"]
    )


def test_repeated_sections_keep_distinct_ids() -> None:
    chunks = chunk_note("n.md", "## 甲\n同样\n\n## 甲\n同样\n")
    assert len({c.id for c in chunks}) == 2


def test_long_sections_are_split_between_lines_and_blocks_stay_whole() -> None:
    code = "```\n" + "\n".join(f"line {i}" for i in range(60)) + "\n```"
    text = (
        "## 长\n"
        + "\n".join("一句话说明一个事实。" * 6 for _ in range(12))
        + "\n"
        + code
        + "\n"
        + "甲" * 2000
        + "。\n"
    )
    chunks = chunk_note("n.md", text)
    assert len(chunks) > 3
    assert sum("line 0" in c.text and "line 59" in c.text for c in chunks) == 1
    assert all(len(c.text) <= MAX_CHARS + 1 or "line 0" in c.text for c in chunks)
    assert "".join(c.text.replace("\n", "") for c in chunks).count("甲") == 2000


def test_setext_underlines_and_bare_dashes_are_no_headings() -> None:
    assert [c.heading for c in chunk_note("n.md", "要点\n-\n内容\n---\n")] == [""]


def test_embedding_text_drops_latex_marks() -> None:
    text = embedding_text(chunk_note("n.md", "## 式\n$\\frac{QK^\\top}{\\sqrt{d_k}}$ 与 \\text{方差}\n")[0])
    assert "$" not in text and "{" not in text and "sqrt" in text and "方差" in text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"\x00\x01PNG", "binary", id="binary"),
        pytest.param("第一行\n".encode() + "问题".encode("gb18030"), ":2: not UTF-8", id="gb18030"),
    ],
)
def test_unreadable_notes_name_file_and_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "n.md"
    path.write_bytes(data)
    with pytest.raises(NoteError, match=message) as e:
        read_text(path)
    assert str(path) in str(e.value)


def test_readers_take_bom_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "n.md"
    path.write_bytes("\ufeff# 甲\r\n乙\r\n".encode())
    assert read_text(path) == "# 甲\n乙\n"


def test_note_files_skip_hidden_and_foreign(tmp_path: Path) -> None:
    for name in ("b.md", "a.txt", "c.png", ".hidden/d.md", "sub/e.markdown"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert [p.name for p in note_files(tmp_path)] == ["a.txt", "b.md", "e.markdown"]
    with pytest.raises(NoteError, match="no such"):
        note_files(tmp_path / "nope")
    with pytest.raises(NoteError, match="no reader"):
        note_files(tmp_path / "c.png")
