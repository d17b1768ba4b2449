"""The trained readout: which model, adapter and prompt it fits, and how a long case is split into passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coach.config import Settings
from coach.errors import CoachError
from coach.judge.readout import Probe, YesNo, choose_readout
from tests.fakes import ScriptedLLM, StatefulFake


def prompt_hash(settings: Settings) -> str:
    return next(iter(Probe(settings, StatefulFake(), None).prompts.values()))


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> Path:
    """A head for (model-1, adapter-1, today's prompt): logit = (length − 1) / 2 + 3."""
    np.savez(
        tmp_path / "scripted.npz",
        mean=np.array([1.0, 1.0]), scale=np.array([2.0, 1.0]), weight=np.array([1.0, 5.0]), bias=3.0,
        model_digest="model-1", adapter="adapter-1", prompt_hash=prompt_hash(settings),
    )  # fmt: skip
    return tmp_path


def test_a_fitting_probe_reads_one_logit_a_claim_in_their_order(settings: Settings, folder: Path) -> None:
    llm = StatefulFake()
    probe = Probe.fitting(settings, llm, folder)
    assert probe
    readings, usage = probe.read("问", "答", ["一", "一二三"])
    size = len("\n要点：一\n是否答到：")
    assert [r.logit for r in readings] == [(size - 1) / 2 + 3, (size + 1) / 2 + 3]
    assert usage.calls == len(llm.passes) == 1
    assert probe.version.startswith("scripted@")


@pytest.mark.parametrize(
    "llm",
    [
        pytest.param(StatefulFake(digest="model-2"), id="other weights"),
        pytest.param(StatefulFake(adapter=""), id="no adapter"),
        pytest.param(StatefulFake(adapter="adapter-2"), id="another adapter"),
        pytest.param(ScriptedLLM(lambda m: 0.5), id="no states to read"),
    ],
)
def test_a_probe_made_for_something_else_is_not_used(
    llm: ScriptedLLM, settings: Settings, folder: Path
) -> None:
    assert Probe.fitting(settings, llm, folder) is None
    assert isinstance(choose_readout(settings, llm), YesNo)


def test_a_changed_prompt_retires_the_probe(settings: Settings, folder: Path) -> None:
    with np.load(folder / "scripted.npz") as kept:
        np.savez(folder / "scripted.npz", **{**kept, "prompt_hash": "of another day"})
    assert Probe.fitting(settings, StatefulFake(), folder) is None


def test_a_damaged_head_names_its_file(settings: Settings, folder: Path) -> None:
    (folder / "scripted.npz").write_bytes(b"no archive")
    with pytest.raises(CoachError, match=r"scripted\.npz"):
        Probe.fitting(settings, StatefulFake(), folder)


def test_more_claims_than_fit_one_pass_are_read_in_several_with_the_same_prefix(
    settings: Settings, folder: Path
) -> None:
    claims = [f"{i}" * 20 for i in range(6)]
    one = StatefulFake()
    probe = Probe.fitting(settings, one, folder)
    assert probe
    whole, _ = probe.read("问", "答", claims)
    prefix, pieces = one.passes[0]
    narrow = StatefulFake(room=len(prefix) + len(pieces[0]) + len(pieces[1]))
    split = Probe.fitting(settings, narrow, folder)
    assert split
    readings, usage = split.read("问", "答", claims)
    assert readings == whole
    assert [p for _, group in narrow.passes for p in group] == pieces
    assert {p for p, _ in narrow.passes} == {prefix}
    assert usage.calls == len(narrow.passes) == 3
