"""Fewer calls of the transformer: a step's prediction is forecast from those of earlier
steps where it would change little.

What a transformer of flow matching predicts, the velocity, is a smooth function of time
along a video's way. A straight line through the last two that were computed gives the
next one, with an error that grows with the distance from both. How fast it grows is
seen whenever a velocity is computed that could have been forecast: the error of linear
interpolation (https://en.wikipedia.org/wiki/Linear_interpolation#Accuracy). A step is
forecast as long as the error that this lets expect, times the part of the way that the
step makes, adds up to less than a threshold since the last computed one.

It works on calls from outside: it knows nothing of a transformer's inside, and leaves
nothing behind.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from torch import Tensor

DEFAULT_THRESHOLD = 0.012
"""Chosen by ``bench/cpu_step_cache.py``."""

MOST_FORECAST = 3
"""So many steps in a row at most."""

DENOISERS = ("transformer", "transformer_2")


@dataclass
class Calls:
    """How often transformers were asked, and how often an answer was forecast."""

    asked: int = 0
    forecast: int = 0


@contextmanager
def steps_forecast(pipeline: Any, threshold: float) -> Iterator[Calls]:
    """While it lasts, the denoisers of ``pipeline`` forecast what they can. Afterwards
    they are as they were, however the block ends."""
    calls = Calls()
    denoisers = [getattr(pipeline, name, None) for name in DENOISERS]
    present = [each for each in denoisers if each is not None]
    before = [vars(each).get("forward") for each in present]
    for denoiser in present:
        denoiser.forward = forecasting(denoiser.forward, threshold, calls)
    try:
        yield calls
    finally:
        for denoiser, forward in zip(present, before, strict=True):
            if forward is None:
                del denoiser.forward
            else:
                denoiser.forward = forward


def forecasting(
    forward: Callable[..., Any], threshold: float, calls: Calls
) -> Callable[..., Any]:
    """``forward`` of a transformer, which is called less often than what is returned.

    Each step may call it several times, with guidance and without: the first calls of
    all steps belong together, and so do the second ones. A time that rises begins anew,
    as windows, sections and passes do.
    """
    names = list(inspect.signature(forward).parameters)
    way = _Way()

    def argument(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Tensor:
        found: Tensor = kwargs[name] if name in kwargs else args[names.index(name)]
        return found

    @wraps(forward)
    def called(*args: Any, **kwargs: Any) -> Any:
        # Tokens that are given have an earlier time than the video's own.
        time = float(argument("timestep", args, kwargs).max())
        shape = tuple(argument("hidden_states", args, kwargs).shape)
        stream = way.stream(time, shape)
        calls.asked += 1
        if stream.may_forecast(time, way.first, threshold):
            calls.forecast += 1
            return stream.forecast(time)
        output = forward(*args, **kwargs)
        stream.learn(time, output)
        return output

    return called


@dataclass
class _Stream:
    """Calls of which each goes on from the one before."""

    shape: tuple[int, ...]
    output: Any = None
    """The newest that was computed."""
    known: list[tuple[float, Tensor]] = field(default_factory=list)
    """Time and velocity of the last two that were computed."""
    curvature: float | None = None
    """Relative error of a forecast by its distances from both."""
    time: float = 0.0
    """Of the last call."""
    expected: float = 0.0
    """Error since the last that was computed."""
    in_a_row: int = 0

    def may_forecast(self, time: float, first: float, threshold: float) -> bool:
        if self.curvature is None or self.in_a_row >= MOST_FORECAST:
            return False
        # The step that begins here is hardly longer than the one that ended here.
        part = abs(self.time - time) / first
        error = self.expected + self.curvature * self._distance(time) * part
        if error > threshold:
            return False
        self.expected, self.time = error, time
        self.in_a_row += 1
        return True

    def forecast(self, time: float) -> Any:
        """An output like those that were computed."""
        velocity = self._extrapolated(time).to(_velocity(self.output).dtype)
        if isinstance(self.output, tuple):
            return (velocity,)
        return type(self.output)(sample=velocity)

    def learn(self, time: float, output: Any) -> None:
        velocity = _velocity(output)
        if len(self.known) == 2:
            difference = (self._extrapolated(time) - velocity.float()).norm()
            error = float(difference / velocity.float().norm())
            self.curvature = error / self._distance(time)
        self.known = [*self.known, (time, velocity.detach())][-2:]
        self.output, self.time = output, time
        self.expected, self.in_a_row = 0.0, 0

    def _extrapolated(self, time: float) -> Tensor:
        (time_0, velocity_0), (time_1, velocity_1) = self.known
        share = (time - time_1) / (time_1 - time_0)
        line: Tensor = velocity_1.float().lerp(velocity_0.float(), -share)
        return line

    def _distance(self, time: float) -> float:
        (time_0, _), (time_1, _) = self.known
        return abs((time - time_0) * (time - time_1))


@dataclass
class _Way:
    """From noise to a video: one stream for each call of a step."""

    first: float = 0.0
    """The time at which it begins."""
    time: float = -1.0
    streams: list[_Stream] = field(default_factory=list)
    calls: int = 0
    """In this step."""

    def stream(self, time: float, shape: tuple[int, ...]) -> _Stream:
        """Which the next call at ``time`` belongs to."""
        if time > self.time:
            self.first = max(time, 1e-6)
            self.streams = []
        self.calls = self.calls + 1 if time == self.time and self.streams else 0
        self.time = time
        if self.calls == len(self.streams):
            self.streams.append(_Stream(shape))
        elif self.streams[self.calls].shape != shape:
            self.streams[self.calls] = _Stream(shape)
        return self.streams[self.calls]


def _velocity(output: Any) -> Tensor:
    velocity: Tensor = output[0]
    return velocity
