"""The wheel carries knowledge, prompts and calibration: installed elsewhere, it finds its questions and grades."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.wheel


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def run(site: Path, home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import coach; assert coach.__file__.startswith({str(site)!r}); from coach.cli import main; main()"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("COACH_", "OPENAI_"))} | {
        "COACH_HOME": str(home)
    }
    return subprocess.run(
        [sys.executable, "-c", code, *args], cwd=home, env=env, capture_output=True, text=True, timeout=300
    )


def test_it_lists_shows_and_indexes_without_the_checkout(installed: Path, tmp_path: Path) -> None:
    assert "448 题" in run(installed, tmp_path, "bank", "list").stdout
    built = run(installed, tmp_path, "index")
    assert built.returncode == 0 and built.stdout.rstrip().endswith("0 embedded"), built.stdout + built.stderr


@pytest.mark.model
def test_it_grades(installed: Path, model_home: Path) -> None:
    done = run(
        installed,
        model_home,
        "grade",
        "lora-initialization",
        "B 初始化为零，A 随机初始化，所以一开始 ΔW=BA=0，不改变模型输出。",
    )
    assert done.returncode == 0, done.stderr
    assert "得分" in done.stdout and "notes/peft-lora.md" in done.stdout


def test_the_wheel_declares_the_command(installed: Path) -> None:
    (declared,) = installed.glob("*.dist-info/entry_points.txt")
    assert "coach = coach.cli:main" in declared.read_text(encoding="utf8")
