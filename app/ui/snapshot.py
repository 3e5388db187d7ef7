"""Everything that the live parts of the page show, read from the store at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from app.ui import estimate
from app.ui.services import Services
from engine.events import Event, Phase, Preview, Step
from engine.loading.download import MIB
from engine.outputs import Output
from engine.queue.job import Job, JobStatus

SPANS = {
    "download": (0.0, 1.0),
    "load": (0.0, 0.08),
    "encode": (0.08, 0.12),
    "denoise": (0.12, 0.85),
    "decode": (0.85, 0.97),
    "write": (0.97, 1.0),
}
"""Which part of the bar each phase fills; a download, which may take far longer than
the rest, has it for itself first."""

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Snapshot:
    running: Job | None
    queued: list[Job]
    ended: list[Job]
    """Newest first."""
    events: Sequence[Event]
    """Of the running job."""
    cancelling: bool
    """Whether the running job has been told to stop."""
    paused: bool
    worker: str
    outputs: list[Output]
    now: datetime
    downloading: frozenset[str]
    """Ids of the queued jobs whose files are on the way."""

    def newest(self, kind: type[E]) -> E | None:
        """The running job's newest event of this kind."""
        return next((e for e in reversed(self.events) if isinstance(e, kind)), None)

    @property
    def step(self) -> Step | None:
        """The newest step of the phase that is running now."""
        phase, step = self.newest(Phase), self.newest(Step)
        return step if phase and step and step.phase == phase.phase else None

    @property
    def fraction(self) -> float:
        """How far the running job is, 0 to 1."""
        phase = self.newest(Phase)
        if phase is None:
            return 0.0
        start, end = SPANS[phase.phase]
        done = self.step.step / self.step.total if self.step else 0.0
        return start + (end - start) * done

    @property
    def job_seconds_left(self) -> float | None:
        """Until the running job ends, ``None`` when nothing tells."""
        if self.running is None:
            return None
        left = self.step.seconds_left if self.step else None
        whole = estimate.seconds_for(self.running.request, self._paces)
        if whole is not None and self.running.started_at is not None:
            gone = (self.now - self.running.started_at).total_seconds()
            left = max(left or 0.0, whole - gone)
        return left

    @property
    def queue_seconds_left(self) -> float | None:
        return estimate.queue_seconds(self.job_seconds_left, self.queued, self._paces)

    @property
    def preview(self) -> str | None:
        """A data URL."""
        newest = self.newest(Preview)
        return newest.image if newest else None

    @property
    def _paces(self) -> dict[str, float]:
        return estimate.paces([j for j in self.ended if j.status is JobStatus.done])


def key(services: Services) -> tuple[Any, ...]:
    """Differs when a snapshot would; cheap enough to ask every second."""
    return (
        services.store.version(),
        services.gallery.stamp(),
        services.worker_status(),
        tuple((e.model, e.done // MIB, e.total) for e in services.downloads.list()),
        services.downloads.ended(),
        tuple((m, e.done // (64 * MIB)) for m, e in services.checks.running().items()),
    )


def take(services: Services) -> Snapshot:
    store = services.store
    jobs = store.list_jobs()
    running = next((job for job in jobs if job.status is JobStatus.running), None)
    return Snapshot(
        running=running,
        queued=[job for job in jobs if job.status is JobStatus.queued],
        ended=[job for job in jobs if job.finished_at is not None],
        events=store.events(running.id) if running else (),
        cancelling=running is not None and store.is_cancel_wanted(running.id),
        paused=store.is_paused(),
        worker=services.worker_status(),
        outputs=services.gallery.outputs(),
        now=datetime.now(UTC),
        downloading=services.downloads.jobs(),
    )
