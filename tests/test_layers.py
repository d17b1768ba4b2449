"""The direction of the floors, and what `--help` may load."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "coach"

# Floor of every module; a package's modules share one unless named. Imports must point to a lower floor, or to a
# module of the same package.
FLOORS = {
    "coach": 0,
    "coach.errors": 0,
    "coach.messages": 1,
    "coach.domain": 0,
    "coach.text": 0,
    "coach.metrics": 0,
    "coach.config": 1,
    "coach.prompts": 1,
    "coach.notes": 1,
    "coach.bank": 1,
    "coach.score": 1,
    "coach.formula": 1,
    "coach.terms": 1,
    "coach.matching": 2,
    "coach.notecheck": 4,
    "coach.drafts": 4,
    "coach.retrieval_eval": 5,
    "coach.notes_report": 6,
    "coach.embed": 1,
    "coach.llm": 2,
    "coach.index": 2,
    "coach.judge": 3,
    "coach.followups": 3,
    "coach.retrieve": 3,
    "coach.citing": 3,
    "coach.rubric": 3,
    "coach.lint": 3,
    "coach.vectors": 3,
    "coach.grade": 4,
    "coach.practice": 5,
    "coach.evals": 5,
    "coach.batch": 5,
    "coach.report": 6,
    "coach.practice_page": 7,
    "coach.wiring": 6,
    "coach.wiring_batch": 7,
    "coach.cli": 8,
}


def _floor(module: str) -> int:
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        if name in FLOORS and (end > 1 or len(parts) == 1):
            return FLOORS[name]
    raise AssertionError(f"{module} has no floor: add it to FLOORS")


def _package(module: str) -> str:
    return ".".join(module.split(".")[:2])


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "coach":
            for alias in node.names:
                deeper = ROOT.parent / (node.module + "." + alias.name).replace(".", "/")
                is_module = deeper.with_suffix(".py").exists() or (deeper / "__init__.py").exists()
                found.add(f"{node.module}.{alias.name}" if is_module else node.module)
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "coach"}
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=[str(p.relative_to(ROOT)) for p in FILES])
def test_imports_point_down(path: Path) -> None:
    module = "coach." + ".".join(path.relative_to(ROOT).with_suffix("").parts)
    module = module.removesuffix(".__init__")
    for target in _imports(path):
        if _package(target) == _package(module):
            continue
        assert _floor(target) < _floor(module) or (_floor(target) == 0 == _floor(module)), (
            f"{module} imports {target}"
        )


def test_files_stay_rooms_one_can_know() -> None:
    long = {str(p.relative_to(ROOT)): n for p in FILES if (n := len(p.read_text().splitlines())) > 350}
    assert not long


HEAVY = (
    "torch",
    "chromadb",
    "openai",
    "langchain",
    "langchain_core",
    "sentence_transformers",
    "xllamacpp",
    "jieba",
    "openpyxl",
)


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["grade", "--help"],
        ["bank", "--help"],
        ["eval", "run", "--help"],
        ["batch", "--help"],
        ["--version"],
    ],
)
def test_help_loads_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys\n"
        "from coach.cli import main\n"
        f"sys.argv = ['coach', *{args!r}]\n"
        "try:\n    main()\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        f"heavy = [m for m in {HEAVY!r} if m in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "coach" in done.stdout.lower()
