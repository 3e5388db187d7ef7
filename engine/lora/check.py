"""Whether a request's LoRAs can be used, before anything is queued: found, readable, of
the model's family, with multipliers that make sense. Needs no torch."""

from __future__ import annotations

import json
from pathlib import Path

from engine.errors import Problem, UserError
from engine.family import ModelVariant, get_family
from engine.loading.header import read_header
from engine.loading.weights import find_weights
from engine.lora.files import find_lora
from engine.lora.names import base_of, names_of, phases_of
from engine.lora.plan import Which
from engine.lora.report import describe, width_of
from engine.lora.schedule import ScheduleError, parse_schedule
from engine.request import GenerationRequest, Lora
from engine.settings import Settings

CONFIG = "config.json"


def lora_problems(
    request: GenerationRequest, variant: ModelVariant, settings: Settings
) -> list[Problem]:
    """What is wrong with the request's LoRAs, one sentence for each."""
    if not request.enabled_loras:
        return []
    if names_of(variant.family) is None:
        title = get_family(variant.family).title
        return [Problem("loras", f"{title} takes no LoRAs; leave them out")]
    problems = []
    seen: set[str] = set()
    for number, lora in enumerate(request.loras, 1):
        if not lora.enabled:
            continue
        said = _problem(lora, variant, settings)
        if lora.name in seen:
            said = "is there twice; give one multiplier for both"
        seen.add(lora.name)
        if said:
            problems.append(Problem("loras", f"LoRA {number} ({lora.name}): {said}"))
    return problems


def _problem(lora: Lora, variant: ModelVariant, settings: Settings) -> str:
    """Empty when nothing is wrong."""
    phases = len(phases_of(variant))
    try:
        schedule = parse_schedule(lora.multiplier)
        schedule.check_phases(phases)
    except ScheduleError as error:
        return f"its multiplier {error}"
    try:
        file = find_lora(lora.name, variant.family, settings)
        # With one phase there is one transformer.
        which: Which = "only" if phases == 1 else "any"
        refusal = describe(file, variant.family, which).refusal
        return refusal or _other_size(file, variant, settings)
    except UserError as error:
        return str(error)


def _other_size(file: Path, variant: ModelVariant, settings: Settings) -> str:
    """That it was made for a model of the family with more or fewer inputs to its
    layers, where both sizes are known."""
    made_for = base_of(variant.family, width_of(read_header(file)))
    own = base_of(variant.family, _own_width(variant, settings))
    if not made_for or not own or made_for == own:
        return ""
    size = f"the family's {made_for} model"
    return f"it was made for {size}, which has layers of another size than {variant.id}"


def _own_width(variant: ModelVariant, settings: Settings) -> int:
    """By the model's files, if they are here; else 0."""
    try:
        place = find_weights(variant, settings).get("transformer")
        if place is None or not (place / CONFIG).is_file():
            return 0
        config = json.loads((place / CONFIG).read_bytes())
        return int(config["num_attention_heads"]) * int(config["attention_head_dim"])
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return 0  # loading says what is wrong with them
