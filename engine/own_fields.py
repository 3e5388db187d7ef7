"""Fields of a request that only some models have."""

from __future__ import annotations

import math

from engine.errors import Problem
from engine.family import ModelVariant
from engine.request import GenerationRequest

REFUSALS = {
    "true_cfg_scale": "is guided by guidance_scale alone",
    "guidance_scale_2": "has one transformer, which guidance_scale is for",
    "ar_step": "makes all frames together",
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
    if problems:
        return problems
    problems += _step_cache_problems(request)
    if request.strength is not None:
        problems += _strength_problems(request.strength, request)
    if variant.window_frames:
        problems += _window_problems(request, variant)
    return problems


def _step_cache_problems(request: GenerationRequest) -> list[Problem]:
    is_off = request.step_cache in (None, "none")
    if is_off and request.step_cache_threshold is not None:
        message = "says how a step cache works; give a step_cache, or leave it out"
        return [Problem("step_cache_threshold", message)]
    if not is_off and request.ar_step:
        message = "each block has a time of its own with an ar_step above 0: give 0"
        return [Problem("step_cache", message)]
    return []


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


def _window_problems(
    request: GenerationRequest, variant: ModelVariant
) -> list[Problem]:
    """Windows go on from frames that are done, in blocks if those are made one after
    the other."""
    multiple, block = variant.limits.frames_multiple, variant.causal_block_size
    problems = []
    if request.overlap_frames is not None:
        overlap = request.overlap_frames
        most = variant.window_frames - multiple * block
        if overlap > most:
            message = f"{variant.id} goes on from at most {most} frames, not {overlap}"
            problems.append(Problem("overlap_frames", message))
    if not request.ar_step:
        return problems
    if request.image_start is not None:
        message = "a start image is kept only when all frames are made together: give 0"
        problems.append(Problem("ar_step", message))
    for field in ("num_frames", "overlap_frames"):
        frames = getattr(request, field)
        if frames is None or ((frames - 1) // multiple + 1) % block == 0:
            continue
        latent = (frames - 1) // multiple + 1
        below = max(latent // block, 1) * block
        near = [multiple * (count - 1) + 1 for count in (below, below + block)]
        message = (
            f"{frames} aren't whole blocks of {block * multiple}, which an ar_step "
            f"above 0 makes: {near[0]} and {near[1]} work"
        )
        problems.append(Problem(field, message))
    return problems
