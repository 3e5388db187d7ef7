"""Prompts and start images to what the transformer is conditioned on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from engine.family import LoadedModel, ModelVariant
from engine.media.frames import load_image
from engine.request import GenerationRequest
from hyvideo.variants import options_of


@dataclass(frozen=True)
class Text:
    """What one prompt says: embeddings (1, tokens, channels) by the language model,
    none of them padding, and CLIP's of the whole (1, channels)."""

    embeds: Tensor
    pooled: Tensor

    @property
    def mask(self) -> Tensor:
        """Which tokens are real, (1, tokens): each is."""
        return self.embeds.new_ones(self.embeds.shape[:2])

    def arguments(self, prefix: str = "") -> dict[str, Tensor]:
        """As diffusers' pipelines name them."""
        return {
            f"{prefix}prompt_embeds": self.embeds,
            f"{prefix}pooled_prompt_embeds": self.pooled,
            f"{prefix}prompt_attention_mask": self.mask,
        }


@dataclass(frozen=True)
class Conditioning:
    """What the transformer is conditioned on."""

    text: Text
    negative: Text | None
    """Only with classifier-free guidance, which a scale of 1 turns off."""
    image: Image.Image | None
    """The start image, in the size of the request."""


@torch.no_grad()
def encode_request(model: LoadedModel, request: GenerationRequest) -> Conditioning:
    """Embeddings of the prompt and of the negative one, and the start image.

    Where the language model sees pictures, it sees the start image beside the prompt,
    and black beside the negative one.
    """
    assert request.width and request.height
    size = (request.width, request.height)
    image = black = None
    if request.image_start is not None:
        image = Image.fromarray(load_image(request.image_start, *size))
        black = Image.new("RGB", size)
    is_guided = cfg_scale(model.variant, request) > 1
    negative = request.negative_prompt or ""
    return Conditioning(
        embed(model, request.prompt, image, is_negative=False),
        embed(model, negative, black, is_negative=True) if is_guided else None,
        image,
    )


def cfg_scale(variant: ModelVariant, request: GenerationRequest) -> float:
    """Of classifier-free guidance; 1 is none."""
    is_embedded = variant.guidance == "embedded"
    scale = request.true_cfg_scale if is_embedded else request.guidance_scale
    return 1.0 if scale is None else scale


def embed(
    model: LoadedModel, prompt: str, image: Image.Image | None, *, is_negative: bool
) -> Text:
    """``prompt`` without its padding, beside ``image`` where the model sees it."""
    pipeline, variant = model.pipeline, model.variant
    seen: dict[str, Any] = {}
    if sees_images(pipeline):
        seen["image"] = image
        if not is_negative:  # diffusers thins out the negative one's in one way
            kind = pipeline.transformer.config.image_condition_type
            seen["image_embed_interleave"] = INTERLEAVES[kind]
    if template := options_of(variant).template:
        seen["prompt_template"] = dict(template)
    embeds, pooled, mask = pipeline.encode_prompt(
        prompt=prompt, max_sequence_length=variant.max_sequence_length, **seen
    )
    length = max(int(mask.sum()), 1)  # of no words the transformer makes no mean
    return Text(embeds[:, :length], pooled)


def sees_images(pipeline: Any) -> bool:
    """Whether its language model takes a picture beside the prompt."""
    return getattr(pipeline, "image_processor", None) is not None


INTERLEAVES: Mapping[str, int] = {"latent_concat": 2, "token_replace": 4}
"""Of how many of the picture's embeddings one is kept."""
