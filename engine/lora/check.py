"""Whether a request's LoRAs can be used, before anything is queued: found, readable, of
the model's family, with multipliers that make sense. Needs no torch."""

from __future__ import annotations

from engine.errors import Problem, UserError
from engine.family import ModelVariant, get_family
from engine.lora.files import find_lora
from engine.lora.names import names_of, phases_of
from engine.lora.report import describe
from engine.lora.schedule import ScheduleError, parse_schedule
from engine.request import GenerationRequest, Lora
from engine.settings import Settings


def lora_problems(
    request: GenerationRequest, variant: ModelVariant, settings: Settings
) -> list[Problem]:
    """What is wrong with the request's LoRAs, one sentence for each."""
    if not request.loras:
        return []
    if names_of(variant.family) is None:
        title = get_family(variant.family).title
        return [Problem("loras", f"{title} takes no LoRAs; leave them out")]
    problems = []
    seen: set[str] = set()
    for number, lora in enumerate(request.loras, 1):
        said = _problem(lora, variant, settings)
        if lora.name in seen:
            said = "is there twice; give one multiplier for both"
        seen.add(lora.name)
        if said:
            problems.append(Problem("loras", f"LoRA {number} ({lora.name}): {said}"))
    return problems


def _problem(lora: Lora, variant: ModelVariant, settings: Settings) -> str:
    """Empty when nothing is wrong."""
    try:
        schedule = parse_schedule(lora.multiplier)
        schedule.check_phases(len(phases_of(variant)))
    except ScheduleError as error:
        return f"its multiplier {error}"
    try:
        file = find_lora(lora.name, variant.family, settings)
        return describe(file, variant.family).refusal
    except UserError as error:
        return str(error)
