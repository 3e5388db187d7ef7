"""The scale of a VAE's latents: what noise is added to in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

NUDGE = 0.3
"""Of a channel's deviation: so far latents are moved to see which pixels follow."""


class Axes(NamedTuple):
    """New latents are ``turn`` (channels, channels) times old ones less ``mean``."""

    mean: Tensor
    turn: Tensor


def moments(
    encode: Callable[[Tensor], Tensor], clips: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each latent channel; ``clips`` are (1, 3, frames, h, w)."""
    latents = _flat(torch.cat([encode(clip).float() for clip in clips]))
    return latents.mean(1), latents.std(1)


def pixel_axes(
    encode: Callable[[Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    clips: list[Tensor],
) -> Axes:
    """Axes along which the latents vary independently, those first that most of the
    pixels hang on.

    A VAE may spend its largest channels on what hardly shows, and its smallest on what
    shows most: there the errors of a denoiser do most harm. So distances are taken as
    pixels have them, from how decoded clips follow small moves along each channel, and
    the principal axes are found in that measure. The deviation along each becomes the
    root of what it was: half-way between white latents, where all axes count alike, and
    pixels, where a few colours are nearly all. The mean variance is one.
    """
    generator = torch.Generator().manual_seed(0)
    latents: list[Tensor] = []
    measures: list[Tensor] = []
    for clip in clips:
        z = encode(clip).float()
        latents.append(z)
        deviation = _flat(z).std(1)
        noise = torch.randn(z[:, 0].shape, generator=generator).to(z)
        moved = []
        rebuilt = decode(z).float()
        for channel, by in enumerate(NUDGE * deviation):
            nudged = z.clone()
            nudged[:, channel] += by * noise
            moved.append((decode(nudged).float() - rebuilt).flatten() / by)
        follows = torch.stack(moved)
        measures.append(follows @ follows.T / noise.numel())
    flat = _flat(torch.cat(latents)).double()
    root = _root(torch.stack(measures).mean(0).double())
    variance, axes = torch.linalg.eigh(root @ torch.cov(flat) @ root)
    variance, axes = variance.flip(0).clamp(min=1e-12), axes.flip(1)
    # Along an axis the deviation was variance ** 0.5, and is to be variance ** 0.25.
    scale = variance**-0.25 / variance.sqrt().mean().sqrt()
    return Axes(flat.mean(1).float(), (scale[:, None] * axes.T @ root).float())


def _flat(latents: Tensor) -> Tensor:
    """(channels, all the rest) of (clips, channels, frames, h, w)."""
    return latents.transpose(0, 1).flatten(1)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp(min=1e-12).sqrt()) @ vectors.T
