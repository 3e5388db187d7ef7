"""Small pictures of a video that is still being denoised, without its VAE.

As for Wan: a latent's colour is close to a linear function of its channels, one for
the first frame and one for those after it, fitted to the model's own VAE.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ltx_video.decode import to_uint8
from ltx_video.sizes import CELL

FRAMES = 4
CLIPS, CELLS = 8, 8


def preview(factors: Tensor, latents: Tensor) -> np.ndarray:
    """Up to four frames of ``latents`` (1, channels, frames, height, width) at their
    own size, uint8 (frames, height, width, 3)."""
    count = latents.shape[2]
    chosen = np.linspace(0, count - 1, min(count, FRAMES)).round().astype(int).tolist()
    frames = latents[:, :, chosen].float().cpu()
    which = factors[[int(index > 0) for index in chosen]]
    colours = torch.einsum("bcfhw,fcr->brfhw", frames, which[:, :-1])
    return to_uint8(colours + which[:, -1].T.view(1, 3, -1, 1, 1))


@torch.no_grad()
def fit_preview(vae: Any) -> Tensor:
    """(2, channels + 1, 3): for the first frame and for the others, latents to RGB in
    [-1, 1], the last row being the constant. Least squares over clips of soft,
    changing colours."""
    generator = torch.Generator().manual_seed(0)
    soft = torch.rand(CLIPS, 3, 3, 4, 4, generator=generator) * 2 - 1
    clips = F.interpolate(soft, (9, CELLS * CELL, CELLS * CELL), mode="trilinear")
    latents = torch.cat(
        [vae.encode(clip[None].to(vae.dtype)).latent_dist.mode() for clip in clips]
    ).float()
    shape = (1, -1, 1, 1, 1)
    mean, deviation = vae.latents_mean.float(), vae.latents_std.float()
    latents = (latents - mean.view(shape)) / deviation.view(shape)
    first, rest = clips[:, :, :1], clips[:, :, 1:]
    return torch.stack(
        [
            _fit(
                latents[:, :, :1], F.interpolate(first, (1, CELLS, CELLS), mode="area")
            ),
            _fit(
                latents[:, :, 1:], F.interpolate(rest, (1, CELLS, CELLS), mode="area")
            ),
        ]
    )


def _fit(latents: Tensor, colours: Tensor) -> Tensor:
    """Factors (channels + 1, 3) from latents to colours, each (clips, channels, frames,
    height, width)."""
    samples = latents.movedim(1, -1).flatten(0, -2)
    samples = torch.cat([samples, torch.ones(len(samples), 1)], dim=1)
    # Some weight decay, because soft pictures don't use every channel.
    normal = samples.T @ samples + 1e-1 * torch.eye(samples.shape[1])
    factors: Tensor = torch.linalg.solve(
        normal, samples.T @ colours.movedim(1, -1).flatten(0, -2)
    )
    return factors
