from __future__ import annotations

from pathlib import Path

import pytest

from coach.bank import find_question, load_bank, load_rubric
from coach.errors import BankError, UsageError

ENTRY = """\
- id: {id}
  question: 为什么？
  kind: concept
  topic: t
  rubric:
    - {{id: a, point: 甲, weight: 2, source: "notes/t.md#甲"}}
    - {{id: b, point: 乙}}
  follow_ups:
    - {{id: f, ask: 再问？, targets: [a], rubric: [{{id: c, point: 丙}}]}}
"""


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(text, encoding="utf8")
    return path


def test_loads_and_finds(tmp_path: Path) -> None:
    write(tmp_path, "t.yaml", ENTRY.format(id="one") + ENTRY.format(id="no"))
    bank = load_bank(tmp_path)
    assert len(bank) == 2 and bank.get("one").rubric[0].weight == 2
    assert "no" in bank  # not the boolean of YAML 1.1
    assert bank.places["no"] == "t.yaml:10"
    assert find_question(tmp_path, "one").id == "one"


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        pytest.param(("kind: concept", "kind: concepts"), 3, "kind", id="bad kind"),
        pytest.param(("weight: 2", "weigth: 2"), 6, "weigth", id="unknown key"),
        pytest.param(("weight: 2", "weight: 0"), 6, "weight", id="bad weight"),
        pytest.param(("id: b, point: 乙", "id: a, point: 乙"), 1, "ids used twice", id="duplicate point"),
        pytest.param(("targets: [a]", "targets: [zzz]"), 1, "unknown points", id="bad target"),
        pytest.param(("point: 乙", "criterion: 乙"), 7, "levels", id="criterion without levels"),
        pytest.param(("  kind: concept", "  kind: [concept"), 4, "", id="broken yaml"),
    ],
)
def test_complaints_name_file_and_line(
    tmp_path: Path, change: tuple[str, str], line: int, message: str
) -> None:
    path = write(tmp_path, "t.yaml", ENTRY.format(id="one").replace(*change))
    with pytest.raises(BankError) as e:
        load_bank(tmp_path)
    assert str(e.value).startswith(f"{path}:{line}:"), e.value
    assert message in str(e.value)


def test_duplicate_ids_across_files(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", ENTRY.format(id="one"))
    write(tmp_path, "b.yaml", ENTRY.format(id="one"))
    with pytest.raises(BankError, match=r"already used at a\.yaml:1"):
        load_bank(tmp_path)


def test_missing_empty_and_wrongly_encoded(tmp_path: Path) -> None:
    with pytest.raises(BankError, match="no bank files"):
        load_bank(tmp_path / "nowhere")
    with pytest.raises(BankError, match="empty"):
        load_bank(write(tmp_path / "e", "e.yaml", "").parent)
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "g.yaml").write_bytes("- id: 问".encode("gb18030"))
    with pytest.raises(BankError, match="not UTF-8"):
        load_bank(tmp_path / "g")


def test_unknown_id_suggests_near_ones(tmp_path: Path) -> None:
    write(tmp_path, "t.yaml", ENTRY.format(id="lora-principle"))
    with pytest.raises(UsageError) as e:
        find_question(tmp_path, "lora-princple")
    assert "lora-principle" in e.value.hint


def test_select_filters_and_sorts(tmp_path: Path) -> None:
    text = ENTRY.format(id="rare") + ENTRY.format(id="often").replace(
        "topic: t", "topic: t\n  frequency: 9\n  companies: [快手]"
    )
    write(tmp_path, "t.yaml", text)
    bank = load_bank(tmp_path)
    assert [q.id for q in bank.select()] == ["often", "rare"]
    assert [q.id for q in bank.select(company="快手")] == ["often"]
    assert not bank.select(topic="other")


def test_rubric_files(tmp_path: Path) -> None:
    assert [
        p.point for p in load_rubric(write(tmp_path, "r.yaml", "- 甲\n- {id: b, point: 乙, weight: 3}\n"))
    ] == ["甲", "乙"]
    with pytest.raises(BankError, match=r"r\.yaml:2"):
        load_rubric(write(tmp_path, "r.yaml", "- {id: a, point: 甲}\n- {id: b, wight: 3}\n"))


def test_the_shipped_bank_loads() -> None:
    from coach.config import resource

    bank = load_bank(resource("knowledge") / "questions")
    assert len(bank) == 448
    assert all(q.rubric for q in bank)


def test_every_reference_solution_passes_its_tests() -> None:
    """The shipped coding questions: run each solution against its own data."""
    import json
    import subprocess
    import sys

    from coach.config import resource

    bank = load_bank(resource("knowledge") / "questions")
    coding = [q for q in bank if q.coding]
    assert len(coding) == 24
    runner = Path(__file__).with_name("run_solution.py")
    payload = json.dumps([q.coding.model_dump() | {"id": q.id} for q in coding if q.coding])
    done = subprocess.run(
        [sys.executable, str(runner)], input=payload, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
