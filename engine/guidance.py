"""The kinds of guidance, and what each makes of a request's numbers."""

from __future__ import annotations

from engine.errors import Problem
from engine.family import ModelVariant
from engine.request import GenerationRequest


def is_guided(
    variant: ModelVariant, guidance_scale: float | None, true_cfg_scale: float | None
) -> bool:
    """Whether each step asks the denoiser twice: with the prompt, and with the
    negative one."""
    if variant.guidance == "embedded":
        return true_cfg_scale is not None and true_cfg_scale > 1
    if guidance_scale is None:
        return False
    return guidance_scale != 1 if variant.guidance == "guider" else guidance_scale > 1


def guidance_of(
    request: GenerationRequest,
) -> tuple[str | None, float | None, float | None]:
    """The fields that ``unused_negative_prompt`` judges."""
    return request.negative_prompt, request.guidance_scale, request.true_cfg_scale


def unused_negative_prompt(
    variant: ModelVariant,
    negative_prompt: str | None,
    guidance_scale: float | None,
    true_cfg_scale: float | None,
) -> str | None:
    """Why a negative prompt, other than the model's own, has no effect; ``None`` when
    it has one."""
    written = (negative_prompt or "").strip()
    own = str(variant.defaults.get("negative_prompt") or "").strip()
    if not written or written == own:
        return None
    if is_guided(variant, guidance_scale, true_cfg_scale):
        return None
    if variant.guidance == "embedded":
        return (
            "the negative prompt has no effect: guidance_scale is embedded in "
            f"{variant.id}; a true_cfg_scale above 1 makes it count"
        )
    return "the negative prompt has no effect without a guidance_scale above 1"


def guidance_problems(
    request: GenerationRequest, variant: ModelVariant
) -> list[Problem]:
    """What is wrong with the numbers for this model's kind of guidance."""
    scale = request.guidance_scale
    if variant.guidance != "guider" or scale is None or scale >= 1:
        return []
    message = (
        f"must be 1, which turns the guider of {variant.id} off, or more, is {scale:g}"
    )
    return [Problem("guidance_scale", message)]
