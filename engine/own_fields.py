"""Fields of a request that only some models have."""

from __future__ import annotations

import math

from engine.errors import Problem
from engine.family import ModelVariant
from engine.request import GenerationRequest

REFUSALS = {
    "guidance_scale_2": "has one transformer, which guidance_scale is for",
    "strength": "makes no new video of a source video",
}
"""Field → why a model that says nothing of it in its defaults refuses it."""


def own_field_problems(
    request: GenerationRequest, variant: ModelVariant
) -> list[Problem]:
    """What is wrong with those fields, one for each."""
    problems = [
        Problem(field, f"{variant.id} {refusal}; leave it out")
        for field, refusal in REFUSALS.items()
        if getattr(request, field) is not None and field not in variant.defaults
    ]
    if not problems and request.strength is not None:
        problems += _strength_problems(request.strength, request)
    return problems


def _strength_problems(strength: float, request: GenerationRequest) -> list[Problem]:
    steps = request.num_inference_steps
    assert steps is not None
    if request.source_video is None:
        message = "needs a source video to make a new one of"
    elif not int(steps * strength):
        least = math.ceil(1000 / steps) / 1000
        message = f"{strength:g} leaves none of {steps} steps; {least:g} leaves one"
    else:
        return []
    return [Problem("strength", message)]
