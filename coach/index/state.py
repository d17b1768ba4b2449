"""What is on disk: note roots, the manifest of the generation in use, and what has changed since."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coach.config import resource
from coach.domain import Chunk
from coach.errors import IndexStateError
from coach.notes.chunks import CHUNKER_VERSION
from coach.notes.readers import note_files
from coach.terms import Terms, load_terms
from coach.text import sha256

CURATED = "notes"


def terms() -> Terms:
    """The dictionary that search tokens are made with, for passages and queries alike."""
    return load_terms(resource("knowledge") / "terms.yaml")


def index_version() -> str:
    """Changes when chunks or search tokens would come out differently: then everything is indexed anew."""
    return f"{CHUNKER_VERSION}+{terms().version}"


def root_of(chunk: Chunk) -> str:
    return chunk.file.split("/")[0]


@dataclass(frozen=True, slots=True)
class Root:
    """A folder (or file) of notes. `name` is the first part of every citation into it."""

    name: str
    path: Path

    def label(self, file: Path) -> str:
        relative = file.relative_to(self.path).as_posix() if file != self.path else file.name
        return f"{self.name}/{relative.removesuffix('.units')}"


@dataclass(frozen=True, slots=True)
class FileState:
    size: int
    mtime_ns: int
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    embedder: str
    chunker: str
    roots: tuple[Root, ...]
    files: dict[str, FileState]
    chunks: int

    @property
    def knowledge_hash(self) -> str:
        return sha256("\n".join(f"{f} {s.digest}" for f, s in sorted(self.files.items())))[:12]

    def dump(self) -> str:
        return json.dumps(
            {
                "embedder": self.embedder,
                "chunker": self.chunker,
                "roots": [[r.name, str(r.path)] for r in self.roots],
                "files": {f: [s.size, s.mtime_ns, s.digest] for f, s in self.files.items()},
                "chunks": self.chunks,
            },
            ensure_ascii=False,
        )

    @classmethod
    def parse(cls, text: str) -> Manifest:
        data = json.loads(text)
        return cls(
            embedder=data["embedder"],
            chunker=data["chunker"],
            roots=tuple(Root(n, Path(p)) for n, p in data["roots"]),
            files={f: FileState(*s) for f, s in data["files"].items()},
            chunks=data["chunks"],
        )


@dataclass(slots=True)
class Changes:
    """What a refresh did (or would do), by file label. `problems` are files that could not be read."""

    added: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    embedded: int = 0
    chunks: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def current(index_dir: Path) -> Path | None:
    """Folder of the generation in use, or None when nothing was built yet."""
    try:
        folder = index_dir / (index_dir / "CURRENT").read_text().strip()
    except OSError:
        return None
    return folder if (folder / "manifest.json").is_file() else None


def read_manifest(index_dir: Path) -> Manifest | None:
    folder = current(index_dir)
    if folder is None:
        return None
    try:
        return Manifest.parse((folder / "manifest.json").read_text(encoding="utf8"))
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise IndexStateError(f"the index in {folder} is damaged: {e}", "coach index --rebuild") from e


def survey(
    roots: Sequence[Root], known: dict[str, FileState]
) -> tuple[dict[str, tuple[Path, FileState]], list[str]]:
    """State of every note file. Like git: a file whose size and time did not change is not hashed again."""
    found: dict[str, tuple[Path, FileState]] = {}
    problems: list[str] = []
    for root in roots:
        for path in note_files(root.path):
            label = root.label(path)
            try:
                stat = path.stat()
                old = known.get(label)
                if old and (old.size, old.mtime_ns) == (stat.st_size, stat.st_mtime_ns):
                    found[label] = (path, old)
                else:
                    found[label] = (
                        path,
                        FileState(stat.st_size, stat.st_mtime_ns, sha256(path.read_bytes())),
                    )
            except OSError as e:
                problems.append(f"{path}: {e.strerror or e}")
    return found, problems


def compare(found: dict[str, tuple[Path, FileState]], known: dict[str, FileState]) -> Changes:
    return Changes(
        added=sorted(found.keys() - known.keys()),
        changed=sorted(f for f in found.keys() & known.keys() if found[f][1].digest != known[f].digest),
        removed=sorted(known.keys() - found.keys()),
    )


def require_embedder(manifest: Manifest, embedder_name: str) -> None:
    if manifest.embedder != embedder_name:
        raise IndexStateError(
            f"the index was built with {manifest.embedder}, not {embedder_name}; vectors of two models cannot be mixed",
            "build it anew with: coach index --rebuild — or unset COACH_EMBEDDER",
        )


def pending(index_dir: Path, roots: Sequence[Root], embedder_name: str) -> Changes | None:
    """What a refresh would change; None when there is no index yet or its chunker is older. Cheap: stats only."""
    manifest = read_manifest(index_dir)
    if manifest is None or manifest.chunker != index_version():
        return None
    require_embedder(manifest, embedder_name)
    return compare(survey(roots, manifest.files)[0], manifest.files)


def read_chunks(folder: Path | None) -> list[Chunk]:
    if folder is None:
        return []
    with (folder / "chunks.jsonl").open(encoding="utf8") as f:
        return [Chunk.model_validate_json(line) for line in f]
