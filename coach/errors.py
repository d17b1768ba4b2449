"""Every error the coach raises on purpose.

CoachError                 printed without a traceback: what happened, then what to do next
├── UsageError             the call is wrong: unknown id, bad option, unusable file        (exit 2)
├── BankError              a bank or rubric file is broken; names file and line            (exit 2)
├── NoteError              a note cannot be read or parsed                                 (exit 2)
├── PromptError            a prompt file is broken or filled with the wrong variables      (exit 2)
├── IndexStateError        the index is missing, locked, or made by another embedder       (exit 4)
├── ModelError             the embedded model is missing, incomplete or has a wrong digest (exit 4)
└── LLMError               the endpoint could not be used                                  (exit 5)
    ├── LLMUnavailable     not reachable, timed out, 5xx after all retries
    ├── LLMRejected        refused the request: key, quota, unknown model, bad parameter
    └── LLMUnreadable      answered something that is no chat completion
"""

from __future__ import annotations


class CoachError(Exception):
    """Base of all expected failures. `hint` tells the user what to do next."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(CoachError):
    exit_code = 2


class BankError(CoachError):
    exit_code = 2


class NoteError(CoachError):
    exit_code = 2


class PromptError(CoachError):
    exit_code = 2


class IndexStateError(CoachError):
    exit_code = 4


class ModelError(CoachError):
    exit_code = 4


class LLMError(CoachError):
    """`status` is the HTTP status and `retry_after` the seconds to wait, where the endpoint gave them."""

    exit_code = 5
    status: int | None = None
    retry_after: float | None = None


class LLMUnavailable(LLMError):
    pass


class LLMRejected(LLMError):
    pass


class LLMUnreadable(LLMError):
    """`raw` keeps what the endpoint sent, so that nothing has to be guessed later."""

    def __init__(self, message: str, hint: str = "", raw: str = "") -> None:
        super().__init__(message, hint)
        self.raw = raw
