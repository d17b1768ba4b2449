"""What the rows of one question share is computed once: passages, cited sections, vectors of rubric claims.

In a batch the notes are searched by the question alone, not by question and answer: every candidate is judged beside
the same passages, an endpoint's prefix cache covers them, and a row costs no embedding. The fingerprint says so.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np

from coach.citing import Citer
from coach.config import Settings
from coach.domain import Chunk, Citation, Grade, Passage, Question
from coach.embed import Embedder, Vectors
from coach.grade import Grader
from coach.index import Index, Manifest
from coach.judge import Judge
from coach.llm import LLM

T = TypeVar("T")
BY_QUESTION = "+by-question"


class Memo:
    """A bounded memo for several threads; `make` runs under the lock, for what is behind it may not be thread-safe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                found: T = self._kept[key]
                return found
            made = make()
            self._kept[key] = made
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
            return made


class CachedEmbedder:
    """Vectors of short lists of texts by text; long lists (an answer's windows) are embedded as they come.

    The bundled embedder is one C++ object, so all threads take turns.
    """

    def __init__(self, embedder: Embedder, most: int = 20_000) -> None:
        self._embedder = embedder
        self.name = embedder.name
        self.dim = embedder.dim
        self._memo = Memo(most)
        self._lock = threading.Lock()

    def _encode(self, verb: str, texts: Sequence[str]) -> Vectors:
        encode: Callable[[Sequence[str]], Vectors] = getattr(self._embedder, verb)

        def one(text: str) -> Vectors:
            with self._lock:
                return np.asarray(encode([text])[0])

        if len(texts) == 1:
            return np.stack([self._memo.get((verb, texts[0]), lambda: one(texts[0]))])
        with self._lock:
            return np.asarray(encode(texts))

    def encode_query(self, texts: Sequence[str]) -> Vectors:
        return self._encode("encode_query", texts)

    def encode_document(self, texts: Sequence[str]) -> Vectors:
        return self._encode("encode_document", texts)


class SharedIndex(Index):
    """An index for many answers to few questions, usable from several threads."""

    def __init__(self, index: Index, most: int = 2_000) -> None:
        manifest = _ByQuestion(**{f: getattr(index.manifest, f) for f in Manifest.__dataclass_fields__})
        super().__init__(index.folder, manifest, CachedEmbedder(index.embedder), served=index.served)
        self._memo = Memo(most)
        self._now = threading.local()

    def about(self, question: str) -> None:
        """Until the next call, searches of this thread are about this question, whatever their query says."""
        self._now.question = question

    def _asked(self, query: str) -> str:
        question: str = getattr(self._now, "question", "")
        return question[:400] if question and query.startswith(question[:400]) else query

    def dense(self, query: str, k: int, within: str | None = None) -> list[tuple[Chunk, float]]:
        asked = self._asked(query)
        return self._memo.get(
            ("dense", asked, k, within), lambda: super(SharedIndex, self).dense(asked, k, within)
        )

    def lexical(self, query: str, k: int, within: str | None = None) -> list[tuple[Chunk, float]]:
        asked = self._asked(query)
        return self._memo.get(
            ("lexical", asked, k, within), lambda: super(SharedIndex, self).lexical(asked, k, within)
        )

    def section(self, source: str) -> list[Chunk]:
        return self._memo.get(("section", source), lambda: super(SharedIndex, self).section(source))


class SharedCiter(Citer):
    """Citations looked up once per claim: with passages fixed per question they cannot differ between rows, and word
    overlap with every cited line costs more than all the rest of a row."""

    def __init__(self, index: SharedIndex) -> None:
        super().__init__(index)
        self._memo = Memo(50_000)

    def cite(self, claim: str, source: str | None, passages: Sequence[Passage]) -> Citation | None:
        key = (claim, source, tuple(p.chunk.id for p in passages))
        return self._memo.get(key, lambda: super(SharedCiter, self).cite(claim, source, passages))


def shared_grader(settings: Settings, judge: Judge, index: SharedIndex, llm: LLM) -> Grader:
    return Grader(settings, judge, index, llm, SharedCiter(index))


def batch_grade(grader: Grader, index: SharedIndex) -> Callable[[Question, str], Grade]:
    """`Grader.grade` for rows: the index is told the question first. A follow-up is chosen where the bank has some;
    none is generated, for that would be a second model call for every row."""

    def grade(question: Question, answer: str) -> Grade:
        index.about(question.question)
        return grader.grade(question, answer, follow_up=bool(question.follow_ups))

    return grade


class _ByQuestion(Manifest):
    @property
    def knowledge_hash(self) -> str:
        return super().knowledge_hash + BY_QUESTION
