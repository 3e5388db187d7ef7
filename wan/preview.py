"""Small pictures of a video that is still being denoised, without its VAE.

A latent's colour is close to a linear function of its channels: one for the first
frame, which the VAE encodes alone, and another for those after it, which stand for
four each. They are fitted to the model's own VAE when it is loaded, so that every Wan
VAE has previews.
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
    chosen = np.linspace(0, count - 1, min(count, FRAMES)).round().astype(int).tolist()
    frames = latents[:, :, chosen].float().cpu()
    which = factors[[int(index > 0) for index in chosen]]
    colours = torch.einsum("bcfhw,fcr->brfhw", frames, which[:, :-1])
    return to_uint8(colours + which[:, -1].T.view(1, 3, -1, 1, 1))


@torch.no_grad()
def fit_preview(vae: Any) -> torch.Tensor:
    """(2, channels + 1, 3): for the first frame and for the others, latents in the
    transformer's scale to RGB in [-1, 1], the last row being the constant. Least
    squares over clips of soft, changing colours."""
    factor, channels = vae.config.scale_factor_spatial, vae.config.z_dim
    generator = torch.Generator().manual_seed(0)
    soft = torch.rand(6, 3, 3, 4, 4, generator=generator) * 2 - 1
    clips = F.interpolate(soft, (9, 8 * factor, 8 * factor), mode="trilinear")
    latents = vae.encode(clips.to(vae.dtype)).latent_dist.mode().float()
    shape = (1, channels, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape)
    deviation = torch.tensor(vae.config.latents_std).view(shape)
    latents = (latents - mean) / deviation
    first, rest = clips[:, :, :1], clips[:, :, 1:]
    return torch.stack(
        [
            _fit(latents[:, :, :1], F.interpolate(first, (1, 8, 8), mode="area")),
            _fit(latents[:, :, 1:], F.interpolate(rest, (2, 8, 8), mode="area")),
        ]
    )


def _fit(latents: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """Factors (channels + 1, 3) from latents to colours, each (clips, channels, frames,
    height, width)."""
    samples = latents.movedim(1, -1).flatten(0, -2)
    samples = torch.cat([samples, torch.ones(len(samples), 1)], dim=1)
    # A little weight decay, because soft pictures don't use every channel.
    normal = samples.T @ samples + 1e-2 * torch.eye(samples.shape[1])
    factors: torch.Tensor = torch.linalg.solve(
        normal, samples.T @ colours.movedim(1, -1).flatten(0, -2)
    )
    return factors
