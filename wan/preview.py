"""Small pictures of a video that is still being denoised, without its VAE.

A latent's colour is close to a linear function of its channels. The function is
fitted to the model's own VAE when it is loaded, so that every Wan VAE has previews.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from wan.decode import to_uint8

FRAMES = 4


def preview(factors: torch.Tensor, latents: torch.Tensor) -> np.ndarray:
    """Up to four frames of ``latents`` (1, channels, frames, height, width) at their
    own size, uint8 (frames, height, width, 3)."""
    count = latents.shape[2]
    indexes = np.linspace(0, count - 1, min(count, FRAMES)).round().tolist()
    chosen = latents[:, :, [int(index) for index in indexes]].float().cpu()
    colours = torch.einsum("bcfhw,cr->brfhw", chosen, factors[:-1])
    return to_uint8(colours + factors[-1].view(1, 3, 1, 1, 1))


@torch.no_grad()
def fit_preview(vae: Any) -> torch.Tensor:
    """(channels + 1, 3): latents in the transformer's scale to RGB in [-1, 1], the
    last row being the constant. Least squares over pictures of soft colours."""
    factor = vae.config.scale_factor_spatial
    generator = torch.Generator().manual_seed(0)
    soft = torch.rand(6, 3, 4, 4, generator=generator) * 2 - 1
    pictures = F.interpolate(soft, size=(8 * factor, 8 * factor), mode="bilinear")
    latents = vae.encode(pictures.unsqueeze(2).to(vae.dtype)).latent_dist.mode()
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape)
    deviation = torch.tensor(vae.config.latents_std).view(shape)
    samples = ((latents.float() - mean) / deviation).permute(0, 2, 3, 4, 1)
    samples = samples.reshape(-1, vae.config.z_dim)
    samples = torch.cat([samples, torch.ones(len(samples), 1)], dim=1)
    colours = F.interpolate(pictures, size=(8, 8), mode="area").permute(0, 2, 3, 1)
    # A little weight decay, because soft pictures don't use every channel.
    normal = samples.T @ samples + 1e-2 * torch.eye(samples.shape[1])
    factors: torch.Tensor = torch.linalg.solve(
        normal, samples.T @ colours.reshape(-1, 3)
    )
    return factors
