"""Everything practice says — chat, reports, exports, refusals — in one catalogue: one file per language.

Questions, points, notes and quotes are knowledge, not messages: they stay as they were written. So do the sentences
in which an endpoint or the operating system says what is wrong with it.
"""

from __future__ import annotations

from coach.errors import CoachError, UsageError
from coach.messages import en, zh

CATALOGUE = {"zh": zh.TEXTS, "en": en.TEXTS}
# What code once wrote in Chinese into a stored grade or interview, and how to read it out in another language.
_STORED = {"zh": ({}, {}), "en": (en.STAGES, en.REASONS)}


class Messages:
    """`say("score")`, `say("question", n=3)`. UsageError for a language there is none for."""

    def __init__(self, lang: str) -> None:
        if lang not in CATALOGUE:
            raise UsageError(f"no language {lang!r}", f"--lang {' | '.join(CATALOGUE)}")
        self.lang = lang
        self._texts = CATALOGUE[lang]
        self._stages, self._reasons = _STORED[lang]

    def __call__(self, key: str, /, **values: object) -> str:
        return self._texts[key].format(**values)

    def stage(self, name: str) -> str:
        """The name of an interview's stage, which is kept in Chinese in the store."""
        return self._stages.get(name, name)

    def reason(self, text: str) -> str:
        """A verdict's reason or a grade's note: what code wrote is translated, what the judge wrote stays.

        >>> Messages("en").reason("笔记未覆盖。the judge's own words")
        "not in the notes. the judge's own words"
        """
        for known, own in self._reasons.items():
            if text.startswith(known):
                return own + self.reason(text.removeprefix(known))
        return text

    def error(self, error: CoachError) -> str:
        """One line: what is wrong, and what to do about it where there is a hint."""
        text = self(error.key, **error.values) if isinstance(error, Refused) else error.message
        return self("with_hint", message=text, hint=error.hint) if error.hint else text


class Refused(UsageError):
    """What the candidate asked for cannot be done now. `key` and `values` name the sentence in the catalogue.

    `hint` needs no translation: a command, a path, ids. Outside a chat the sentence is printed in English.
    """

    def __init__(self, key: str, /, hint: str = "", **values: object) -> None:
        super().__init__(en.TEXTS[key].format(**values), hint)
        self.key = key
        self.values = values
