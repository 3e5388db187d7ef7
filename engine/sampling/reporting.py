"""Progress, previews and cancelling for whatever drives a scheduler: diffusers'
pipelines or a loop of our own.

Some pipelines take no step callback, but all of them call ``scheduler.step``.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch

from engine.family import OnStep


def reporting(scheduler: Any, on_step: OnStep) -> Any:
    """A scheduler that works as ``scheduler`` does and calls ``on_step(done, total,
    expected_end)`` after each step.

    ``total`` is the number of steps that the last ``set_timesteps`` made, ``done``
    counts them from the last ``set_timesteps`` on, and ``expected_end`` is where the
    latents are heading, in the scheduler's own scale: a flow's sample less its noise
    level times its velocity. What ``on_step`` raises ends the run. Made for schedulers
    of flow matching that have one noise level per step in ``sigmas``.
    """
    made = copy(scheduler)
    kind = type(scheduler)
    made.__class__ = type(f"Reporting{kind.__name__}", (_Reporting, kind), {})
    # A function isn't copied with the scheduler, as a bound method's object would be.
    made._on_step = lambda *seen: on_step(*seen)  # noqa: PLW0108
    made._done = 0
    return made


class _Reporting:
    """Goes before a scheduler's own class."""

    _on_step: OnStep
    _done: int

    def step(
        self,
        model_output: torch.Tensor,
        timestep: Any,
        sample: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        scheduler: Any = self
        if scheduler.step_index is None:  # set_timesteps began anew
            self._done = 0
        result = super().step(model_output, timestep, sample, *args, **kwargs)  # type: ignore[misc]
        # The real step counts on; it alone knows with which step a run began.
        level = scheduler.sigmas[scheduler.step_index - 1]
        expected = sample - level * model_output
        self._done += 1
        self._on_step(self._done, len(scheduler.timesteps), expected)
        return result
