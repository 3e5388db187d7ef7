"""A request to what the denoiser is conditioned on: text embeddings, through diffusers'
own cleaning and padding, and the task's own inputs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from engine.family import LoadedModel
from engine.request import GenerationRequest
from wan.call import Call
from wan.tasks import prepare


@dataclass(frozen=True)
class Conditioning:
    """Text embeddings, each (1, tokens, channels), zero after the prompt's end, and how
    diffusers is called."""

    prompt_embeds: torch.Tensor
    negative_prompt_embeds: torch.Tensor | None
    """Only with classifier-free guidance, which a scale of 1 turns off."""
    call: Call


@torch.no_grad()
def encode(model: LoadedModel, request: GenerationRequest) -> Conditioning:
    """What the transformer is conditioned on. Raises ``UnreadableFile``."""
    assert request.guidance_scale is not None
    prompt_embeds, negative_prompt_embeds = model.pipeline.encode_prompt(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        do_classifier_free_guidance=request.guidance_scale > 1,
        max_sequence_length=model.variant.max_sequence_length,
    )
    call = prepare(model, request)
    return Conditioning(prompt_embeds, negative_prompt_embeds, call)
