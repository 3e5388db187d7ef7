"""A request's LoRAs on a loaded model: put on before the denoising, set anew before
each step, and taken off again whatever happens.

The network's own weights are never written: its layers get others around them, their
weights are replaced, or their parameters are seen with something added. Taking off is
putting the same objects back.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from engine.errors import UserError
from engine.family import LoadedModel, OnStep
from engine.lora.files import find_lora
from engine.lora.names import phases_of
from engine.lora.plan import Which
from engine.lora.report import plan_for
from engine.lora.schedule import Schedule, ScheduleError, parse_schedule
from engine.progress import Progress
from engine.request import GenerationRequest
from engine.sampling.phases import phases_told
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.lora.canonical import Canonical

NOISE = re.compile(
    r"(?:^|[^a-z])(?:(high|low)(?=$|[ _.-]?(?:noise|lora|model|fp|bf|rank|step|epoch"
    r"|[vre]?\d))|(hn|ln)(?![a-z]))"
)
"""In the names of LoRAs that come in pairs, one for each of two transformers; not in
those of high angles and low light."""


class Engine(Protocol):
    """Puts changes on the linear layers of one network."""

    def add(self, lora: int, changes: Canonical) -> None: ...
    def put_on(self) -> None: ...
    def set_strengths(self, strengths: dict[int, float]) -> None: ...
    def remove(self) -> None: ...


@dataclass(frozen=True)
class Chosen:
    """One of a request's LoRAs."""

    file: Path
    schedule: Schedule


@dataclass
class Strengths:
    """How strongly each LoRA acts at which step."""

    schedules: list[Schedule]
    steps: int = 0
    """Of all phases together."""
    now: dict[int, float] = field(default_factory=dict)
    _made: list[list[tuple[float, ...]]] = field(default_factory=list)
    """For each LoRA the multipliers of the steps of each window."""

    def plan(self, steps: tuple[int, ...]) -> None:
        """The denoising has phases of so many ``steps``. Raises ``UserError``."""
        self.steps = max(sum(steps), 1)
        try:
            self._made = [
                [window.at_steps(steps) for window in each.windows]
                for each in self.schedules
            ]
        except ScheduleError as error:
            raise UserError(f"a LoRA's multiplier {error}") from error
        self.go_to(0)

    def go_to(self, step: int) -> bool:
        """``step`` is the next one; tells whether something changed. Denoisings that
        follow one another are windows, each with all steps."""
        window, index = divmod(step, self.steps)
        before = self.now
        self.now = {
            lora: windows[min(window, len(windows) - 1)][index]
            for lora, windows in enumerate(self._made)
        }
        return self.now != before


@contextmanager
def loras_applied(
    model: LoadedModel,
    request: GenerationRequest,
    settings: Settings,
    progress: Progress,
) -> Iterator[Callable[[OnStep], OnStep]]:
    """While it lasts, the request's LoRAs are on ``model``. What it gives has to be put
    around the denoising's ``on_step``.

    Raises ``UserError`` for files that can't be used, ``Cancelled`` while reading.
    """
    chosen = _chosen(model, request, settings)
    if not chosen:
        yield lambda on_step: on_step
        return
    assert request.num_inference_steps
    count = "a LoRA" if len(chosen) == 1 else f"{len(chosen)} LoRAs"
    progress.begin("load", f"reading {count}")
    applied = _Applied(Strengths([each.schedule for each in chosen]))
    try:
        for phase, (which, network) in enumerate(_networks(model)):
            applied.put_on(model, network, which, phase, chosen, progress)
        applied.plan(_first_guess(model, request.num_inference_steps))
        with phases_told(applied.plan):
            yield applied.following
    finally:
        applied.remove()


class _Applied:
    """What has been put on a model."""

    def __init__(self, strengths: Strengths) -> None:
        self._strengths = strengths
        self._engines: list[Engine] = []
        self._added: list[Any] = []

    def put_on(
        self,
        model: LoadedModel,
        network: Any,
        which: Which,
        phase: int,
        chosen: list[Chosen],
        progress: Progress,
    ) -> None:
        """The changes of all LoRAs that act on this network."""
        from engine.lora.added import Added
        from engine.lora.canonical import network_of, read_canonical

        described = network_of(network)
        added = Added(network, lambda lora: self._strengths.now.get(lora, 0.0))
        engine = _engine_for(model, network)
        self._engines.append(engine)
        self._added.append(added)
        for number, each in enumerate(chosen):
            if which != "only" and not each.schedule.acts_in(phase):
                continue
            family = model.variant.family
            plan, report = plan_for(each.file, family, described.shapes, which)
            if report.refusal:
                raise UserError(f"{report.refusal}. Leave the LoRA out")
            if warning := report.warning():
                progress.warn(warning)
            changes = read_canonical(
                each.file, plan, described, progress.check, model.device
            )
            engine.add(number, changes)
            added.add(number, changes.parameters)
        engine.put_on()
        added.put_on()

    def plan(self, steps: tuple[int, ...]) -> None:
        """The denoising has phases of so many ``steps``."""
        self._strengths.plan(steps)
        self._set()

    def following(self, on_step: OnStep) -> OnStep:
        """``on_step``, before which the strengths of the next step are set."""

        def stepped(done: int, total: int, latents: Any) -> None:
            if total % self._strengths.steps:  # more steps than were asked for
                self.plan((total,))
            if self._strengths.go_to(done):
                self._set()
            on_step(done, total, latents)

        return stepped

    def remove(self) -> None:
        for added in self._added:
            added.remove()
        for engine in self._engines:
            engine.remove()

    def _set(self) -> None:
        for engine in self._engines:
            engine.set_strengths(self._strengths.now)


def merges(model: LoadedModel) -> bool:
    """Whether LoRAs become part of the weights."""
    return model.device.startswith("cuda")


def _engine_for(model: LoadedModel, network: Any) -> Engine:
    if model.lora_slots is not None:
        from engine.lora.mmgp_engine import MmgpEngine

        return MmgpEngine(model.lora_slots, network)
    if merges(model):
        from engine.lora.merged_engine import MergedEngine

        return MergedEngine(network, model.device, model.streamer)
    from engine.lora.peft_engine import PeftEngine

    return PeftEngine(network, model.device)


def _networks(model: LoadedModel) -> list[tuple[Which, Any]]:
    pipeline = model.pipeline
    second = getattr(pipeline, "transformer_2", None)
    if second is None:
        return [("only", pipeline.transformer)]
    return [("first", pipeline.transformer), ("second", second)]


def _first_guess(model: LoadedModel, steps: int) -> tuple[int, ...]:
    """The steps of the phases until the denoising announces them."""
    count = len(phases_of(model.variant))
    return (steps,) if count == 1 else (steps - steps // count, steps // count)


def _chosen(
    model: LoadedModel, request: GenerationRequest, settings: Settings
) -> list[Chosen]:
    """The request's LoRAs that act at all."""
    phases = phases_of(model.variant) if request.enabled_loras else ()
    chosen = []
    for lora in request.enabled_loras:
        file = find_lora(lora.name, model.variant.family, settings)
        schedule = schedule_of(lora.name, lora.multiplier, len(phases))
        if not schedule.is_zero:
            chosen.append(Chosen(file, schedule))
    return chosen


def schedule_of(name: str, multiplier: float | str, phases: int) -> Schedule:
    """The schedule of a LoRA on a model with so many ``phases``. One whose name says
    that it is for much or for little noise, and whose multiplier has no phases of its
    own, acts there only. Raises ``UserError``."""
    try:
        schedule = parse_schedule(multiplier)
        schedule.check_phases(phases)
    except ScheduleError as error:
        raise UserError(f"the multiplier of {name} {error}") from error
    side = NOISE.search(PurePosixPath(name).stem.lower())
    if side is None or phases != 2:
        return schedule
    is_first = (side[1] or side[2]).startswith("h")
    first, *later = (_in_phase(is_first, each) for each in schedule.windows)
    return Schedule(first.phases, tuple(later))


def _in_phase(is_first: bool, window: Schedule) -> Schedule:
    if len(window.phases) > 1:
        return Schedule(window.phases)
    own = window.phases[0]
    return Schedule((own, (0.0,)) if is_first else ((0.0,), own))
