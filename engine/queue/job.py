"""A job: one request on its way through the queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from engine.events import Event
from engine.request import GenerationRequest

MOST_ATTEMPTS = 3
"""A job that the worker didn't survive so often is given up."""


class JobStatus(StrEnum):
    """Where a job stands. Its row is kept; only this changes."""

    queued = "queued"
    running = "running"
    done = "done"
    failed = "failed"
    cancelled = "cancelled"


ENDED = (JobStatus.done, JobStatus.failed, JobStatus.cancelled)


class Job(BaseModel):
    """One row of the queue, as every door shows it."""

    model_config = ConfigDict(frozen=True)

    id: str
    """Twelve hexadecimal digits, fit for a file name."""
    status: JobStatus
    request: GenerationRequest
    priority: int = 0
    """Higher runs first; within one priority the order is ``position``."""
    position: int
    attempts: int = 0
    """Runs that the worker did not survive, or that ended in an error."""
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    output: str | None = None
    """Absolute path of the finished video."""
    error: str | None = None


def always(_job: Job) -> bool:
    """Any job will do."""
    return True


class JobStore(Protocol):
    """The queue's memory: the only place where doors and supervisor meet.

    Every method is atomic and durable when it returns, and safe to call from any
    thread. Methods that name a job raise ``UserError`` when there is no such job or
    when its status does not allow the change; all raise it when the disk refuses.
    """

    warning: str
    """What a person should know about the queue itself, such as that its file was
    damaged; empty when all is well."""

    def add(
        self,
        requests: Sequence[GenerationRequest],
        priority: int = 0,
        ids: Sequence[str] | None = None,
    ) -> list[Job]:
        """Append jobs in this order, all or none. ``ids`` are wishes, one for each:
        one that is taken, or isn't fit for an id, is replaced by a new one."""

    def get(self, job: str) -> Job: ...

    def list_jobs(self, *statuses: JobStatus) -> list[Job]:
        """Running first, then queued in the order they will run, then ended ones,
        newest first. No status means all."""

    def claim(self, is_ready: Callable[[Job], bool] = always) -> Job | None:
        """Mark the next queued job that ``is_ready`` as running and return it; ``None``
        when there is none or the queue is paused. ``is_ready`` may not use the
        store."""

    def record(self, event: Event) -> None:
        """Keep an event for replay; of previews and steps only the newest.

        A running job's events are kept in memory, which outlives its worker, and
        become durable when the attempt ends; its preview is then dropped.
        """

    def events(self, job: str) -> list[Event]:
        """What the job said in its latest attempt, oldest first; before that, why
        the attempt before it ended, if its worker died."""

    def finish(self, job: str, output: str) -> None:
        """The running job is done; ``output`` is its video's absolute path."""

    def fail(self, job: str, error: str) -> None:
        """The job ended in an error, running or before it could run; ``error`` is a
        sentence."""

    def interrupted(self, job: str, reason: str, *, blame: bool) -> Job:
        """The running job's worker is gone: back to the head of the queue, or to the
        cancelled ones if that is wanted. With ``blame`` the attempt counts, and the
        job fails with ``reason`` when it was the last of ``MOST_ATTEMPTS``."""

    def cancel(self, job: str) -> JobStatus:
        """A queued job becomes cancelled; of a running one the wish is noted, and
        the status returned is still ``running``."""

    def is_cancel_wanted(self, job: str) -> bool: ...

    def stopped(self, job: str) -> None:
        """The running job obeyed its cancel."""

    def retry(self, job: str) -> None:
        """A failed or cancelled job goes back to the end of the queue, its attempts
        forgotten."""

    def move(self, job: str, offset: int) -> None:
        """Move a queued job by so many places; negative is earlier. Among jobs of
        another priority it takes theirs."""

    def set_priority(self, job: str, priority: int) -> None:
        """A queued job becomes the last of this priority."""

    def remove(self, job: str) -> None:
        """Forget a job that is not running. Its video stays."""

    def clear(self) -> int:
        """Forget all queued jobs; returns how many."""

    def pause(self) -> None:
        """Claim nothing more; the running job goes on. Lasts over restarts."""

    def resume(self) -> None: ...

    def is_paused(self) -> bool: ...

    def version(self) -> int:
        """Grows with every change and every event, so that a page redraws only when
        it must."""

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every change but events, in the thread that made
        it. It must return at once and not use the store."""

    def close(self) -> None: ...
