"""Latents to frames, one latent frame at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from diffusers.utils.torch_utils import get_module_execution_device

from engine.family import LoadedModel
from engine.media.pixels import to_uint8


def decode(model: LoadedModel, latents: torch.Tensor) -> Iterator[np.ndarray]:
    """Frames in chunks, uint8 (frames, height, width, 3): one for the first latent
    frame, four for each that follows."""
    vae = model.pipeline.vae
    for chunk in decode_chunks(vae, denormalise(vae, latents)):
        yield to_uint8(chunk)


def denormalise(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """From the transformer's scale to the VAE's."""
    # Offloaded, its weights may lie elsewhere than it runs.
    latents = latents.to(get_module_execution_device(vae), vae.dtype)
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(latents)
    # Divided by the reciprocal, as the pipeline does it, to round as it does.
    reciprocal = 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(latents)
    return latents / reciprocal + mean


@torch.no_grad()
def decode_chunks(vae: Any, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    """What ``vae.decode`` returns, (1, 3, frames, height, width) in [-1, 1], in
    pieces: its own loop keeps all frames until the last one is done.

    The VAE is causal in time: its convolutions carry what they need of the past in a
    cache.
    """
    vae.clear_cache()
    try:
        latents = vae.post_quant_conv(latents)
        for index in range(latents.shape[2]):
            vae._conv_idx = [0]
            chunk = vae.decoder(
                latents[:, :, index : index + 1],
                feat_cache=vae._feat_map,
                feat_idx=vae._conv_idx,
                first_chunk=index == 0,
            )
            if vae.config.patch_size is not None:
                chunk = unpatchify(chunk, patch_size=vae.config.patch_size)
            yield torch.clamp(chunk, min=-1.0, max=1.0)
    finally:
        vae.clear_cache()
