"""Where a job's time went, told by the events that it sent."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from statistics import mean
from typing import Any

from engine.events import Event, Phase, PhaseName, Preview, Step, Timing


class Stopwatch:
    """Follows the events of one job as they come; the time between two of them belongs
    to the phase that the first one left running, and the time up to a preview to the
    preview."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mark = clock()
        self._phase: PhaseName = "load"
        self._phases: defaultdict[PhaseName, float] = defaultdict(float)
        self._previews = 0.0
        self._step = 0.0
        """Seconds of the step that is under way."""
        self._steps: list[float] = []

    def on_event(self, event: Event) -> None:
        spent = self._lap()
        if isinstance(event, Preview):
            self._previews += spent
            return
        is_denoising = self._phase == "denoise"
        self._step += spent if is_denoising else 0.0
        if isinstance(event, Phase):
            self._phase = event.phase
        elif isinstance(event, Step) and is_denoising:
            self._steps.append(self._step)
            self._step = 0.0

    def finish(self, **counted: Any) -> Timing:
        """The job is done. ``counted`` are fields of ``Timing`` that no event tells."""
        self._lap()
        seconds = {name: round(value, 4) for name, value in self._phases.items()}
        steps = self._steps
        return Timing(
            **seconds,
            steps=len(steps),
            first_step=round(steps[0], 4) if steps else 0.0,
            seconds_per_step=round(mean(steps[1:] or steps), 4) if steps else 0.0,
            previews=round(self._previews, 4),
            **counted,
        )

    def _lap(self) -> float:
        """Seconds since the last call, which are the running phase's."""
        now = self._clock()
        spent, self._mark = now - self._mark, now
        self._phases[self._phase] += spent
        return spent


SLOW_START = 1.5
"""A first step that took so many times the usual is named."""


def timing_told(timing: Timing) -> str:
    """``loading 2.1 s, prompt 0.3 s, 20 steps of 1.25 s, decoding 4 s, writing 0.2 s``;
    what took no time worth a word is left out."""
    parts = [
        _part("download", timing.download),
        _part("loading", timing.load),
        _part("prompt", timing.encode),
        _steps(timing),
        _part("decoding", timing.decode),
        _part("writing", timing.write),
        f"at most {timing.peak_gib:.1f} GiB of GPU memory" if timing.peak_gib else "",
    ]
    return ", ".join(filter(None, parts))


def _part(name: str, seconds: float) -> str:
    return f"{name} {_seconds(seconds)}" if seconds >= 0.005 else ""


def _steps(timing: Timing) -> str:
    if not timing.steps:
        return ""
    one = _seconds(timing.seconds_per_step)
    notes = []
    if timing.forecast_calls:
        computed = timing.transformer_calls - timing.forecast_calls
        notes.append(f"{computed} of {timing.transformer_calls} calls computed")
    if timing.first_step > max(SLOW_START * timing.seconds_per_step, 0.5):
        notes.append(f"the first {_seconds(timing.first_step)}")
    share = timing.previews / timing.denoise if timing.denoise else 0.0
    if share >= 0.01:
        notes.append(f"previews {share:.0%} of it")
    count = "1 step" if timing.steps == 1 else f"{timing.steps} steps"
    return f"{count} of {one}" + (f" ({', '.join(notes)})" if notes else "")


def _seconds(value: float) -> str:
    if value >= 100:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest:02} s"
    return f"{value:.2g} s" if value < 10 else f"{value:.0f} s"
