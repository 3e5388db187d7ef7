"""How strongly a LoRA acts at each step: a number, or a short text.

::

    schedule   = window { "|" window }
    window     = phase { ";" phase }
    phase      = multiplier { "," multiplier }
    multiplier = a decimal number, e.g. 1, 0.8, -0.5 or 1e-1

The multipliers of a phase are spread evenly over its steps. Phases are those of the
model, where it has several: a transformer for much noise and one for little, or a first
and a second pass. Without ``;`` a schedule covers all steps, whatever the phases. A
model of one phase is divided evenly among those of the schedule. Windows are those that
long videos are made in; the last one's multipliers hold for all that follow. Blanks
around a multiplier don't count.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from engine.request import Lora

STRONGEST = 10.0
"""A multiplier this far from 0 already leaves nothing of what a model has learned."""

LONGEST = 4000
"""Characters."""

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class ScheduleError(ValueError):
    """A schedule that can't be read; the message names the place."""


@dataclass(frozen=True)
class Schedule:
    """The multipliers of each phase of the first window, and those of the windows
    after it where they differ."""

    phases: tuple[tuple[float, ...], ...]
    later: tuple[Schedule, ...] = ()

    @property
    def is_zero(self) -> bool:
        """Whether the LoRA never acts."""
        return not any(
            value for each in self.windows for phase in each.phases for value in phase
        )

    @property
    def windows(self) -> tuple[Schedule, ...]:
        """One for each window; the last one is for all that follow, too."""
        return (self, *self.later)

    def check_phases(self, count: int) -> None:
        """Raises ``ScheduleError`` when it doesn't go with ``count`` phases."""
        for each in self.windows:
            if len(each.phases) > 1 < count != len(each.phases):
                raise ScheduleError(
                    f"has {len(each.phases)} phases (divided by ;), but the model has "
                    f"{count}"
                )

    def at_steps(self, steps: Sequence[int]) -> tuple[float, ...]:
        """The multiplier of each step of a window, for phases of so many ``steps``.

        Raises ``ScheduleError`` as ``check_phases`` does.
        """
        self.check_phases(len(steps))
        if len(self.phases) == 1:
            return _spread(self.phases[0], sum(steps))
        if len(steps) == 1:
            steps = _divided(steps[0], len(self.phases))
        return tuple(
            value
            for phase, count in zip(self.phases, steps, strict=True)
            for value in _spread(phase, count)
        )

    def acts_in(self, phase: int) -> bool:
        """Whether any of its multipliers for ``phase`` (from 0) isn't 0."""
        return any(
            value
            for each in self.windows
            for value in each.phases[0 if len(each.phases) == 1 else phase]
        )


def parse_schedule(multiplier: float | str) -> Schedule:
    """The schedule in a request's ``multiplier``. Raises ``ScheduleError``."""
    if not isinstance(multiplier, str):
        return Schedule(((_checked(float(multiplier), f"{multiplier:g}", ""),),))
    if len(multiplier) > LONGEST:
        raise ScheduleError(f"has more than {LONGEST} characters")
    if not multiplier.strip():
        raise ScheduleError("is empty; 1 is the LoRA as it was trained")
    windows = multiplier.split("|")
    first, *later = [
        _window(text, f" in window {number} of {len(windows)}" if windows[1:] else "")
        for number, text in enumerate(windows, 1)
    ]
    return Schedule(first.phases, tuple(later))


def _window(written: str, in_window: str) -> Schedule:
    texts = written.split(";")
    phases = []
    for number, text in enumerate(texts, 1):
        in_phase = f" in phase {number} of {len(texts)}" if len(texts) > 1 else ""
        in_phase += in_window
        if not text.strip():
            raise ScheduleError(
                f"has nothing{in_phase}; write 0 where the LoRA shouldn't act"
            )
        values = text.split(",")
        phases.append(
            tuple(
                _number(value, _place(index, len(values), in_phase))
                for index, value in enumerate(values, 1)
            )
        )
    return Schedule(tuple(phases))


def multipliers_vary(loras: Sequence[Lora], *, pair: bool) -> bool:
    """Whether a LoRA acts differently from one step to the next of the same
    transformer; a ``pair`` has one transformer for each phase."""
    for lora in loras:
        schedule = parse_schedule(lora.multiplier)
        phases = schedule.phases
        if schedule.later or any(len(set(phase)) > 1 for phase in phases):
            return True
        if not pair and len(set(phases)) > 1:
            return True
    return False


def _place(index: int, count: int, in_phase: str) -> str:
    value = f" as value {index} of {count}" if count > 1 else ""
    return value + in_phase


def _number(text: str, place: str) -> float:
    text = text.strip()
    if not text:
        raise ScheduleError(f"has nothing{place}")
    if not NUMBER.fullmatch(text):
        shown = text if len(text) <= 20 else f"{text[:17]}..."
        raise ScheduleError(f"has {shown!r}{place}, which isn't a number")
    return _checked(float(text), text, place)


def _checked(value: float, text: str, place: str) -> float:
    if not math.isfinite(value) or abs(value) > STRONGEST:
        raise ScheduleError(
            f"has {text}{place}; it must be between -{STRONGEST:g} and {STRONGEST:g}"
        )
    return value


def _spread(values: tuple[float, ...], steps: int) -> tuple[float, ...]:
    return tuple(values[step * len(values) // steps] for step in range(steps))


def _divided(steps: int, parts: int) -> list[int]:
    """``steps`` in ``parts`` as equal as they can be; longer ones last."""
    marks = [part * steps // parts for part in range(parts + 1)]
    return [end - begin for begin, end in pairwise(marks)]
