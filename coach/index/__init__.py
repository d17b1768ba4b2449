"""The index: chunks of all note roots in a Chroma collection plus a BM25 index, replaced atomically.

`COACH_HOME/index/CURRENT` names the generation folder in use. A build writes a new folder (starting from a copy of
the old one, so only what changed is embedded) and moves the pointer last: killed at any moment, the previous
generation stays usable. One lock keeps two builders apart; readers need none. `served` puts a generation on a Chroma
server and reads it from there.
"""

from coach.index.build import build
from coach.index.reader import Index, open_index
from coach.index.served import build_name, open_served, publish
from coach.index.state import CURATED, Changes, Manifest, Root, pending, read_manifest

__all__ = [
    "CURATED",
    "Changes",
    "Index",
    "Manifest",
    "Root",
    "build",
    "build_name",
    "open_index",
    "open_served",
    "pending",
    "publish",
    "read_manifest",
]
