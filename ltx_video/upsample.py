"""Latents of the first pass to twice their width and height."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import LTXLatentUpsamplePipeline
from diffusers.utils.torch_utils import get_module_execution_device
from torch import Tensor

from ltx_video.config import LtxConfig


def upsample(pipeline: Any, latents: Tensor, config: LtxConfig) -> Tensor:
    """(1, channels, frames, 2 height, 2 width), float32, on the transformer's scale.

    The upsampler works on the VAE's scale and in its own precision; AdaIN then gives
    each channel the mean and spread that it had.
    """
    upsampler = pipeline.latent_upsampler
    vae = pipeline.vae
    scale = (vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
    step = LTXLatentUpsamplePipeline
    raw = step._denormalize_latents(latents, *scale)
    raw = raw.to(get_module_execution_device(upsampler), upsampler.dtype)
    made = upsampler(raw)
    has_spread = raw[0, 0].numel() > 1  # one frame of one cell has none
    if config.adain_factor > 0 and has_spread:
        made = step.adain_filter_latent(None, made, raw, config.adain_factor)
    normal: Tensor = step._normalize_latents(made, *scale)
    return normal.to(latents.device, torch.float32)
