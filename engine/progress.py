"""What a running job says about itself, and where it notices that it is cancelled."""

from __future__ import annotations

import time
from collections.abc import Callable

from engine.errors import Cancelled
from engine.events import Event, OnEvent, Phase, PhaseName, Preview, Step, Warned


def ignore(event: Event) -> None:
    """Nobody listens."""


def never() -> bool:
    """Nobody cancels or interrupts."""
    return False


class Progress:
    """Turns the course of one job into events; every call raises ``Cancelled`` once
    the job is cancelled."""

    def __init__(
        self,
        job: str,
        on_event: OnEvent = ignore,
        is_cancelled: Callable[[], bool] = never,
    ) -> None:
        self.job = job
        self._on_event = on_event
        self._is_cancelled = is_cancelled
        self._phase: PhaseName = "load"
        self._began = time.monotonic()

    def check(self) -> None:
        if self._is_cancelled():
            raise Cancelled(f"job {self.job} was cancelled")

    def begin(self, phase: PhaseName, message: str = "") -> None:
        """A phase begins, or goes on to its next part."""
        self.check()
        if phase != self._phase:
            self._phase, self._began = phase, time.monotonic()
        self._emit(Phase(job=self.job, phase=phase, message=message))

    def step(self, done: int, total: int) -> None:
        """``done`` of ``total`` steps of the phase are behind us."""
        self.check()
        pace = (time.monotonic() - self._began) / max(done, 1)
        self._emit(
            Step(
                job=self.job,
                phase=self._phase,
                step=done,
                total=total,
                seconds_per_step=pace,
                seconds_left=pace * max(total - done, 0),
            )
        )

    def preview(self, step: int, image: str) -> None:
        self._emit(Preview(job=self.job, step=step, image=image))

    def warn(self, message: str) -> None:
        self._emit(Warned(job=self.job, message=message))

    def _emit(self, event: Event) -> None:
        self._on_event(event)
