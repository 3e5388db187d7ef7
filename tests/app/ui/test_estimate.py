"""How long the queue still takes."""

from datetime import UTC, datetime, timedelta

import pytest

from app.ui.estimate import paces, queue_seconds, seconds_for
from engine.queue.job import Job, JobStatus
from engine.request import GenerationRequest

START = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = GenerationRequest(
    model="m", prompt="p", width=64, height=64, num_frames=9, num_inference_steps=10
)
TWICE = REQUEST.with_values(num_inference_steps=20)


def job(request: GenerationRequest, seconds: float | None = None) -> Job:
    ended = START + timedelta(seconds=seconds) if seconds is not None else None
    return Job(
        id="x",
        status=JobStatus.queued if ended is None else JobStatus.done,
        request=request,
        position=1,
        created_at=START,
        started_at=None if ended is None else START,
        finished_at=ended,
    )


def test_twice_the_steps_take_twice_as_long() -> None:
    known = paces([job(REQUEST, 30)])
    assert seconds_for(TWICE, known) == pytest.approx(60)


def test_newest_job_of_the_model_counts() -> None:
    known = paces([job(REQUEST, 10), job(REQUEST, 1000)])
    assert seconds_for(REQUEST, known) == pytest.approx(10)


def test_model_that_never_ran_is_not_guessed() -> None:
    other = REQUEST.with_values(model="other")
    known = paces([job(REQUEST, 10)])
    assert seconds_for(other, known) is None
    assert queue_seconds(5, [job(REQUEST), job(other)], known) is None


def test_queue_takes_the_rest_of_the_running_job_and_all_waiting() -> None:
    known = paces([job(REQUEST, 10)])
    total = queue_seconds(5, [job(REQUEST), job(TWICE)], known)
    assert total == pytest.approx(5 + 10 + 20)
