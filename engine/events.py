"""What a running job says: typed, JSON-serialisable, the same at every door.

``generate`` emits them, the worker sends them, the store keeps them for replay, and
the page, the command line and HTTP show them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

PhaseName = Literal["download", "load", "encode", "denoise", "decode", "write"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    job: str = Field(description="Id of the job that this event is about.")


class Started(_Event):
    """A worker took the job; everything before it belongs to earlier attempts."""

    event: Literal["started"] = "started"
    model: str
    attempt: int = Field(ge=1)


class Phase(_Event):
    """A phase began. Phases without steps show an indeterminate bar."""

    event: Literal["phase"] = "phase"
    phase: PhaseName
    message: str = ""


class Step(_Event):
    """One step of a phase is done."""

    event: Literal["step"] = "step"
    phase: PhaseName
    step: int = Field(ge=0, description="Steps done so far; MiB of a download.")
    total: int = Field(ge=1)
    seconds_per_step: float = Field(ge=0)
    seconds_left: float = Field(ge=0, description="Until this phase ends.")


class Preview(_Event):
    """A small picture of the video so far."""

    event: Literal["preview"] = "preview"
    step: int
    image: str = Field(description="A data URL: a JPEG strip of frames.")


class Warned(_Event):
    """Something the user should know that doesn't stop the job."""

    event: Literal["warned"] = "warned"
    message: str


class Timing(BaseModel):
    """Where a finished job's time went, in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    download: float = 0.0
    load: float = 0.0
    encode: float = 0.0
    denoise: float = 0.0
    decode: float = 0.0
    """Frames go to the file's encoder as they are decoded, and its work is in this."""
    write: float = 0.0
    """What was left to write after the last frame."""
    steps: int = 0
    first_step: float = 0.0
    """With what is done once, such as compiling."""
    seconds_per_step: float = 0.0
    """The mean of those after the first, without previews."""
    transformer_calls: int = 0
    """How often a step asked a transformer, forecasts counted; 0 without a step
    cache."""
    forecast_calls: int = 0
    """How many of those a step cache answered."""
    previews: float = 0.0
    """Part of ``denoise``."""
    peak_gib: float | None = None
    """What torch took of the GPU's memory at most; ``None`` on other devices."""


class Saved(_Event):
    """The last event of a job that is done."""

    event: Literal["saved"] = "saved"
    path: str = Field(description="Absolute path of the finished video.")
    seconds: float = Field(ge=0, description="From start to file.")
    timing: Timing | None = Field(
        None, description="Where the time went; none when the worker didn't live on."
    )


class Failed(_Event):
    """The last event of a job that failed."""

    event: Literal["failed"] = "failed"
    error: str = Field(description="What happened and what to do, for a person.")
    detail: str = Field("", description="Traceback or exit status, for a report.")


class Stopped(_Event):
    """The last event of a job that was cancelled."""

    event: Literal["cancelled"] = "cancelled"


Event = Started | Phase | Step | Preview | Warned | Saved | Failed | Stopped
OnEvent = Callable[[Event], None]

_adapter: TypeAdapter[Event] = TypeAdapter(
    Annotated[Event, Field(discriminator="event")]
)


def dump(event: Event) -> str:
    """One line of JSON."""
    return event.model_dump_json()


def load(line: str | bytes) -> Event:
    """The event that ``dump`` wrote; raises ``pydantic.ValidationError``."""
    return _adapter.validate_json(line)
