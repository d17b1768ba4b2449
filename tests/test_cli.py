"""The command line as a user meets it: a subprocess, its output and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.fakes import ScriptedEndpoint, completion

ROOT = Path(__file__).resolve().parent.parent
QUESTION = "attention-scaling-sqrt-dk"


def coach(*args: str, home: Path, stdin: str | bytes = "", **env: str) -> subprocess.CompletedProcess[str]:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [sys.executable, "-c", "from coach.cli import main; main()", *args],
        input=data,
        capture_output=True,
        timeout=300,
        env={
            **{k: v for k, v in os.environ.items() if not k.startswith(("COACH_", "OPENAI_"))},
            "COACH_HOME": str(home),
            "COLUMNS": "80",
            **env,
        },
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.parametrize(
    ("args", "stdin", "code", "message"),
    [
        pytest.param(
            ["grade", "attention-scaling-sqrt-d", "x"], "", 2, QUESTION, id="unknown id suggests near ones"
        ),
        pytest.param(["grade", QUESTION], "", 3, "不作评分: 答案为空", id="empty answer"),
        pytest.param(["grade", QUESTION], "字" * 20001, 2, "20,000", id="too long"),
        pytest.param(["grade", QUESTION], b"\x00\x01", 2, "binary", id="binary"),
        pytest.param(
            ["grade", QUESTION], "第一行\n问".encode("gb18030"), 2, "not UTF-8", id="wrong encoding"
        ),
        pytest.param(["grade", QUESTION, "--file", "/nowhere.txt"], "", 2, "/nowhere.txt", id="no such file"),
        pytest.param(
            ["grade", QUESTION, "有内容"], "", 4, "coach models pull", id="no model and no endpoint"
        ),
        pytest.param(["grade"], "", 2, "coach bank list", id="nothing named"),
        pytest.param(
            ["grade", QUESTION, "x", "--rubric", "r.yaml"],
            "",
            2,
            "belong to --question",
            id="rubric for a bank question",
        ),
        pytest.param(
            ["grade", "-q", "问？", "--rubric", "/nowhere.yaml", "答"],
            "",
            2,
            "no such file",
            id="missing rubric",
        ),
        pytest.param(["bank", "show", "zzz"], "", 2, "coach bank list", id="show unknown"),
        pytest.param(["models", "path"], "", 4, "coach models pull", id="no model path"),
        pytest.param(["frobnicate"], "", 2, "frobnicate", id="unknown command"),
        pytest.param(["bank", "list", "-d", "9"], "", 2, "difficulty", id="option out of range"),
    ],
)
def test_bad_calls_say_what_to_do(
    tmp_path: Path, args: list[str], stdin: str | bytes, code: int, message: str
) -> None:
    done = coach(*args, home=tmp_path, stdin=stdin)
    assert done.returncode == code, done.stderr
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_help_of_every_command_has_examples(tmp_path: Path) -> None:
    for command in (
        ["grade"],
        ["practice"],
        ["history"],
        ["progress"],
        ["export"],
        ["report"],
        ["search"],
        ["index"],
        ["doctor"],
        ["bank", "list"],
        ["bank", "show"],
        ["bank", "lint"],
        ["models", "pull"],
    ):
        done = coach(*command, "--help", home=tmp_path)
        assert done.returncode == 0 and f"coach {' '.join(command)}" in done.stdout, command


def test_bank_commands_print_and_speak_json(tmp_path: Path) -> None:
    rows = json.loads(coach("bank", "list", "--topic", "peft-lora", "--json", home=tmp_path).stdout)
    assert rows and {r["topic"] for r in rows} == {"peft-lora"}
    shown = coach("bank", "show", QUESTION, home=tmp_path).stdout
    assert "参考答案" in shown and "误区" in shown
    assert json.loads(coach("bank", "show", QUESTION, "--json", home=tmp_path).stdout)["id"] == QUESTION


def test_index_and_search_need_no_model_and_embed_nothing_of_ours(tmp_path: Path) -> None:
    built = coach("index", home=tmp_path)
    assert built.returncode == 0 and built.stdout.rstrip().endswith(", 0 embedded"), built.stdout
    assert "0 added, 0 changed, 0 removed" in coach("index", home=tmp_path).stdout
    found = json.loads(coach("search", "B 矩阵为什么初始化为零", "-k", "3", "--json", home=tmp_path).stdout)
    assert len(found) == 3 and any("lora" in p["chunk"]["file"] for p in found)
    notes = tmp_path / "mine"
    notes.mkdir()
    (notes / "n.md").write_text("## 我的笔记\n彩虹独角兽定理说明一切。\n", encoding="utf8")
    assert "+ mine/n.md" in coach("index", "--notes", str(notes), home=tmp_path).stdout
    assert "mine/n.md:2-2" in coach("search", "彩虹独角兽定理", home=tmp_path).stdout
    assert "- mine/n.md" in coach("index", "--drop", str(notes), home=tmp_path).stdout


def structured(body: dict, n: int) -> tuple[int, dict[str, str], str]:
    text = body["messages"][-1]["content"]
    if "POINTS" not in text:
        return 200, {}, completion('{"ok": true}')
    ids = [
        line[2:].split(":")[0]
        for line in text.split("POINTS")[1].split("PITFALLS")[0].splitlines()
        if line.startswith("- ")
    ]
    rows = [
        {"id": i, "status": "covered", "level": None, "quote": "方差", "reason": "", "confidence": 0.9}
        for i in ids
    ]
    return 200, {}, completion(json.dumps({"points": rows, "pitfalls": []}))


def test_an_endpoint_grades_and_the_json_is_whole(tmp_path: Path) -> None:
    with ScriptedEndpoint(structured) as server:
        done = coach(
            "grade",
            QUESTION,
            "方差是 d_k",
            "--json",
            home=tmp_path,
            COACH_LLM="m",
            COACH_BASE_URL=server.url,
            COACH_API_KEY="k",
        )
        assert done.returncode == 0, done.stderr
        grade = json.loads(done.stdout)
        assert grade["score"]["value"] == 100 and grade["fingerprint"]["judge"] == "structured"
        text = coach(
            "grade", QUESTION, "方差是 d_k", home=tmp_path, COACH_LLM="m", COACH_BASE_URL=server.url
        ).stdout
    assert "✔" in text and "得分 100 ±" in text and "「方差」" in text and "追问" in text
    assert all(cell_len(line) <= 80 for line in text.splitlines())


def test_a_question_of_ones_own(tmp_path: Path) -> None:
    with ScriptedEndpoint(structured) as server:
        env = {"COACH_LLM": "m", "COACH_BASE_URL": server.url}
        done = coach(
            "grade",
            "-q",
            "什么是温度？",
            "--reference",
            "温度是 logits 的除数。温度越高分布越平。",
            "方差",
            "--json",
            home=tmp_path,
            **env,
        )
        assert [v["text"] for v in json.loads(done.stdout)["verdicts"]] == [
            "温度是 logits 的除数",
            "温度越高分布越平",
        ]
        (tmp_path / "r.yaml").write_text("- {id: a, point: 甲, weight: 3}\n", encoding="utf8")
        done = coach(
            "grade",
            "-q",
            "什么？",
            "--rubric",
            str(tmp_path / "r.yaml"),
            "--json",
            home=tmp_path,
            stdin="方差",
            **env,
        )
        assert json.loads(done.stdout)["score"]["total"] == 3


def test_an_endpoint_that_answers_html_and_one_that_is_down(tmp_path: Path) -> None:
    with ScriptedEndpoint(lambda b, n: (200, {"Content-Type": "text/html"}, "<html>")) as server:
        done = coach("grade", QUESTION, "方差", home=tmp_path, COACH_LLM="m", COACH_BASE_URL=server.url)
    assert done.returncode == 5 and "/v1" in done.stderr and "得分" not in done.stdout
    doctor = coach(
        "doctor", home=tmp_path, COACH_LLM="m", COACH_BASE_URL="http://127.0.0.1:9", COACH_TIMEOUT="2"
    )
    assert doctor.returncode == 1 and "cannot be reached" in doctor.stdout


def test_doctor_names_what_is_missing(tmp_path: Path) -> None:
    done = coach("doctor", "--json", home=tmp_path)
    checks = {c["name"]: c for c in json.loads(done.stdout)["checks"]}
    assert (
        done.returncode == 1 and not checks["model"]["ok"] and "coach models pull" in checks["model"]["hint"]
    )
    assert checks["bank"]["ok"] and checks["embedder"]["ok"] and checks["disk"]["ok"]


def test_practice_through_a_pipe(tmp_path: Path) -> None:
    typed = "方差是 d_k\n.\n还是方差\n.\n/skip\n/quit\n"
    with ScriptedEndpoint(structured) as server:
        done = coach(
            "practice",
            "--id",
            QUESTION,
            "--seed",
            "1",
            home=tmp_path,
            stdin=typed,
            COACH_LLM="m",
            COACH_BASE_URL=server.url,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("得分 100") == 1 and "追问" in done.stdout and "本题累计 100" in done.stdout


def test_ctrl_c_ends_cleanly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "from coach.cli import main; main()", "practice"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "COACH_HOME": str(tmp_path), "COACH_LLM": "m", "COACH_BASE_URL": "http://127.0.0.1:9", "COACH_TIMEOUT": "60"},
    )  # fmt: skip
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and b"interrupted" in err and b"Traceback" not in err
