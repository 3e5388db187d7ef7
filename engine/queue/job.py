"""A job: one request on its way through the queue."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from engine.events import Event
from engine.request import GenerationRequest


class JobStatus(str, Enum):
    """Where a job stands. Its row is kept; only this changes."""

    queued = "queued"
    running = "running"
    done = "done"
    failed = "failed"
    cancelled = "cancelled"


class Job(BaseModel):
    """One row of the queue, as every door shows it."""

    model_config = ConfigDict(frozen=True)

    id: str
    status: JobStatus
    request: GenerationRequest
    priority: int = 0
    """Higher runs first; within one priority the order is ``position``."""
    position: float
    attempts: int = 0
    """Runs that the worker did not survive, or that ended in an error."""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    output: str | None = None
    """Absolute path of the finished video."""
    error: str | None = None


class JobStore(Protocol):
    """The queue's memory: the only place where doors and supervisor meet.

    Every method is atomic and durable when it returns, and safe to call from any
    thread. Methods that name a job raise ``UserError`` when there is no such job or
    when its status does not allow the change.
    """

    def add(self, requests: list[GenerationRequest], priority: int = 0) -> list[Job]:
        """Append jobs in this order, all or none."""

    def get(self, job: str) -> Job: ...

    def list_jobs(self, *statuses: JobStatus) -> list[Job]:
        """Running first, then queued in the order they will run, then ended ones,
        newest first. No status means all."""

    def claim(self) -> Job | None:
        """Mark the next queued job as running and return it; ``None`` when there is
        none or the queue is paused."""

    def record(self, event: Event) -> None:
        """Keep an event for replay; of previews and steps only the newest."""

    def events(self, job: str) -> list[Event]:
        """What the job said in its latest attempt, oldest first."""

    def finish(self, job: str, output: str) -> None: ...

    def fail(self, job: str, error: str) -> None: ...

    def interrupted(self, job: str, *, blame: bool) -> Job:
        """The running job's worker is gone: back to the head of the queue. With
        ``blame`` the attempt counts, and past the limit the job fails."""

    def cancel(self, job: str) -> JobStatus:
        """A queued job becomes cancelled; of a running one the wish is noted, and
        the status returned is still ``running``."""

    def is_cancel_wanted(self, job: str) -> bool: ...

    def stopped(self, job: str) -> None:
        """The running job obeyed its cancel."""

    def retry(self, job: str) -> None:
        """A failed or cancelled job goes back to the end of the queue."""

    def move(self, job: str, offset: int) -> None:
        """Move a queued job by so many places; negative is earlier."""

    def set_priority(self, job: str, priority: int) -> None: ...

    def remove(self, job: str) -> None:
        """Forget a job that is not running. Its video stays."""

    def clear(self) -> int:
        """Forget all queued jobs; returns how many."""

    def pause(self) -> None:
        """Claim nothing more; the running job goes on."""

    def resume(self) -> None: ...

    def is_paused(self) -> bool: ...

    def version(self) -> int:
        """Grows with every change, so that a page redraws only when it must."""

    def close(self) -> None: ...
