"""How one request is put to diffusers: which pipeline, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Call:
    """A request's own part of a pipeline's call."""

    pipeline: Any
    arguments: Mapping[str, Any]
    """Beside what every task gives: text, size, steps, guidance and noise."""
    steps: int
    """How many of the scheduler's steps are run."""
    extra_frames: int = 0
    """Latent frames before the video's own, which aren't shown."""
    keeps_first: bool = False
    """Whether the first latent frame is given, and only put in at the end."""

    def shown(self, latents: Tensor) -> Tensor:
        """``latents`` on their way as the video will show them."""
        if self.keeps_first:
            first = self.pipeline.image_latents
            return torch.cat([first, latents[:, :, 1:]], dim=2)
        return latents[:, :, self.extra_frames :]


@dataclass(frozen=True)
class Conditioning:
    """Text embeddings, each (1, tokens, channels), zero after the prompt's end, and how
    diffusers is called."""

    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor | None
    """Only with classifier-free guidance, which a scale of 1 turns off."""
    call: Call


def share(pipeline: Any, kind: Any, **config: Any) -> Any:
    """A pipeline of class ``kind`` on the networks of ``pipeline``, which may be
    spread over devices: nothing is moved or copied."""
    parts = pipeline.components
    taken = kind.__init__.__annotations__.keys() & parts.keys()
    shared = kind(**{name: parts[name] for name in taken}, **config)
    return fit_scale(shared)


def fit_scale(pipeline: Any) -> Any:
    """``pipeline``, knowing how much its VAE shrinks a picture. Some of diffusers'
    pipelines count its levels only, and some VAEs merge pixels before those."""
    config = pipeline.vae.config
    pipeline.vae_scale_factor_spatial = config.scale_factor_spatial
    pipeline.vae_scale_factor_temporal = config.scale_factor_temporal
    pipeline.set_progress_bar_config(disable=True)  # the engine shows progress
    return pipeline
