"""Random numbers and value noise for the renderer's textures."""

from __future__ import annotations

import torch
from torch import Tensor


def uniform(
    low: float, high: float, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Uniform numbers on the generator's device."""
    drawn = torch.rand(shape, generator=generator, device=generator.device)
    return low + (high - low) * drawn


def hashed(x: Tensor, y: Tensor) -> Tensor:
    """A number in 0..1 for each lattice point; the usual fract-of-sine hash."""
    return torch.frac((torch.sin(x * 12.9898 + y * 78.233) * 43758.5453).abs())


def value_noise(x: Tensor, y: Tensor) -> Tensor:
    """Smooth noise in 0..1 with features of size 1."""
    ix, iy = torch.floor(x), torch.floor(y)
    fx, fy = x - ix, y - iy
    fx, fy = fx * fx * (3 - 2 * fx), fy * fy * (3 - 2 * fy)
    a, b = hashed(ix, iy), hashed(ix + 1, iy)
    c, d = hashed(ix, iy + 1), hashed(ix + 1, iy + 1)
    top, bottom = a + (b - a) * fx, c + (d - c) * fx
    return top + (bottom - top) * fy


def layered_noise(x: Tensor, y: Tensor, octaves: int) -> Tensor:
    """Noise of ever finer features, in 0..1."""
    total, weight, whole = torch.zeros_like(x), 0.5, 0.0
    for _ in range(octaves):
        total = total + weight * value_noise(x, y)
        whole += weight
        x, y, weight = 2.03 * x + 17.1, 2.03 * y + 9.2, weight * 0.5
    return total / whole
