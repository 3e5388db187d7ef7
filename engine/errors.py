"""What can go wrong, told apart by who can mend it."""

from __future__ import annotations

from dataclasses import dataclass


class EngineError(Exception):
    """Base of every error that this project raises on purpose."""


class UserError(EngineError):
    """The person who asked can mend it; the message says how."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one field of a request, in plain words."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class RequestError(UserError):
    """A request that can't be run; ``problems`` says why, field by field."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class LicenceNotAccepted(UserError):
    """A model's licence must be accepted first; the message says what it is and how."""


class MissingWeights(UserError):
    """A model's files aren't on this machine; the message says how to get them."""


class UnreadableFile(UserError):
    """A file isn't what it should be; the message names it and what is wrong."""


class AlreadyRunning(UserError):
    """Another copy of the app holds this data folder; the message has its pid."""


class OutOfMemory(EngineError):
    """The device or the machine ran out of memory; the message has the numbers."""


class Cancelled(EngineError):
    """The job was cancelled; raised from inside the phase that was running."""
