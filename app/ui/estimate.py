"""How long the queue still takes, judged by what was made before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.queue.job import Job
from engine.request import GenerationRequest


def work(request: GenerationRequest) -> float:
    """How much there is to compute: pixels by frames by steps. Only good for comparing
    requests of one model."""
    return (
        float(request.width or 0)
        * (request.height or 0)
        * (request.num_frames or 0)
        * (request.num_inference_steps or 0)
    )


def paces(done: Sequence[Job]) -> dict[str, float]:
    """Seconds per unit of ``work`` for each model, from its newest finished job;
    ``done`` has the newest first."""
    found: dict[str, float] = {}
    for job in done:
        amount = work(job.request)
        if job.started_at and job.finished_at and amount:
            seconds = (job.finished_at - job.started_at).total_seconds()
            found.setdefault(job.request.model, seconds / amount)
    return found


def seconds_for(request: GenerationRequest, known: Mapping[str, float]) -> float | None:
    """How long this request takes, ``None`` when its model never ran."""
    pace = known.get(request.model)
    return None if pace is None else pace * work(request)


def queue_seconds(
    running_left: float | None, queued: Sequence[Job], known: Mapping[str, float]
) -> float | None:
    """Until the queue is empty, ``None`` when some of it can't be judged."""
    if running_left is None:
        return None
    total = running_left
    for job in queued:
        seconds = seconds_for(job.request, known)
        if seconds is None:
            return None
        total += seconds
    return total
