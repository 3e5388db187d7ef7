"""What supervisor and worker tell each other through their pipe, besides events."""

from __future__ import annotations

from dataclasses import dataclass

from engine.request import GenerationRequest


@dataclass(frozen=True)
class WarmUp:
    """Do what the first job would wait for; the answer is ``Ready``."""

    model: str | None


@dataclass(frozen=True)
class Ready:
    """The worker takes jobs."""


@dataclass(frozen=True)
class Run:
    """Generate this; the last answer is ``Saved``, ``Failed`` or ``Stopped``."""

    job: str
    request: GenerationRequest
    output: str
    attempt: int


@dataclass(frozen=True)
class Cancel:
    """Stop this job at its next step."""

    job: str


Command = WarmUp | Run | Cancel
