"""The trained readout: which model, adapter and prompt it fits, and how a long case is split."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coach.config import Settings
from coach.errors import CoachError
from coach.judge.readout import Trained, YesNo, choose_readout
from tests.conftest import ROOT
from tests.fakes import AdaptedFake, ScriptedLLM


@pytest.fixture
def folder(tmp_path: Path, settings: Settings) -> Path:
    """A calibration for (model-1, adapter-1, today's prompt), and the one for anybody."""
    generic = (ROOT / "eval" / "calibration" / "generic.json").read_text(encoding="utf8")
    made_for = {"model": "model-1", "adapter": "adapter-1", **Trained(settings, AdaptedFake()).prompts}
    own = {**json.loads(generic), "made_for": made_for}
    (tmp_path / "generic.json").write_text(generic, encoding="utf8")
    (tmp_path / "scripted-adapter.json").write_text(json.dumps(own), encoding="utf8")
    return tmp_path


def test_a_fitting_adapter_reads_one_logit_a_claim_in_their_order_as_they_come(
    settings: Settings, folder: Path
) -> None:
    llm = AdaptedFake()
    readout = choose_readout(settings, llm, folder)
    assert isinstance(readout, Trained)
    told: list[tuple[int, float | None]] = []
    readings, usage = readout.read("问", "答", ["一", "一二三"], lambda i, r: told.append((i, r.logit)))
    size = len("\n要点：一\n是否答到：")
    assert [r.logit for r in readings] == [size, size + 2]
    assert told == [(0, size), (1, size + 2)]
    assert usage.calls == len(llm.passes) == 1


def test_what_is_read_ahead_is_what_the_answer_is_read_after(settings: Settings) -> None:
    llm = AdaptedFake()
    readout = Trained(settings, llm)
    readout.prepare("问")
    readout.read("问", "答", ["一"])
    ((before, after), _), *_ = llm.passes
    assert llm.prepared == [before] and "问" in before and after.startswith("答")


@pytest.mark.parametrize(
    "llm",
    [
        pytest.param(AdaptedFake(digest="model-2"), id="other weights"),
        pytest.param(AdaptedFake(adapter=""), id="no adapter"),
        pytest.param(AdaptedFake(adapter="adapter-2"), id="another adapter"),
        pytest.param(ScriptedLLM(lambda m: 0.5), id="nothing to adapt"),
    ],
)
def test_a_calibration_made_for_something_else_is_not_used(
    llm: ScriptedLLM, settings: Settings, folder: Path
) -> None:
    assert isinstance(choose_readout(settings, llm, folder), YesNo)


def test_a_changed_prompt_retires_the_adapter(settings: Settings, folder: Path) -> None:
    path = folder / "scripted-adapter.json"
    path.write_text(path.read_text().replace("judge-claims", "judge-claims-of-another-day"))
    assert isinstance(choose_readout(settings, AdaptedFake(), folder), YesNo)


def test_a_damaged_calibration_names_its_file(settings: Settings, folder: Path) -> None:
    (folder / "scripted-adapter.json").write_text("no json")
    with pytest.raises(CoachError, match=r"scripted-adapter\.json"):
        choose_readout(settings, AdaptedFake(), folder)


def test_the_shipped_calibration_was_made_for_the_shipped_model_adapter_and_prompt(
    settings: Settings,
) -> None:
    from coach.llm.models import EMBEDDED
    from coach.llm.providers import adapter_file
    from coach.text import sha256

    shipped = AdaptedFake(EMBEDDED.digest, sha256(adapter_file().read_bytes()))
    shipped.name = EMBEDDED.name  # type: ignore[misc]
    assert isinstance(choose_readout(settings, shipped), Trained)


def test_more_claims_than_there_is_room_for_are_read_in_several_goes_with_the_same_prefix(
    settings: Settings,
) -> None:
    claims = [f"{i}" * 20 for i in range(6)]
    one = AdaptedFake()
    told: list[int] = []
    whole, _ = Trained(settings, one).read("问", "答", claims)
    prefix, pieces = one.passes[0]
    narrow = AdaptedFake(room=sum(map(len, prefix)) + len(pieces[0]) + len(pieces[1]))
    readings, usage = Trained(settings, narrow).read("问", "答", claims, lambda i, r: told.append(i))
    assert readings == whole and told == list(range(6))
    assert [p for _, group in narrow.passes for p in group] == pieces
    assert {p for p, _ in narrow.passes} == {prefix}
    assert usage.calls == len(narrow.passes) == 3
