"""A request to what the denoiser is conditioned on: text embeddings, through diffusers'
own cleaning and padding, and the task's own inputs."""

from __future__ import annotations

import torch

from engine.family import LoadedModel
from engine.request import GenerationRequest
from wan.call import Conditioning
from wan.tasks import prepare


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
