"""How large the tiles are that a VAE decodes in, where nobody has said it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.loading.memory import free_memory

if TYPE_CHECKING:
    import torch

SHARE = 0.9
"""Of the GPU's free memory, that decoding may take."""


def automatic_tile(
    sizes: Sequence[int], device: torch.device, area: int, bytes_per_pixel: float
) -> int:
    """In pixels, for a picture of ``area`` pixels. 0, the picture as a whole, where it
    fits into the GPU's free memory or there is no GPU; else one of ``sizes``."""
    if device.type != "cuda":
        return 0
    free = free_memory(device)
    if area * bytes_per_pixel < SHARE * free:
        return 0
    return fitting_tile(sizes, bytes_per_pixel, free)


def fitting_tile(sizes: Sequence[int], bytes_per_pixel: float, free: int) -> int:
    """The first of ``sizes``, which fall, that ``free`` bytes hold; else the last."""
    fitting = [size for size in sizes if size**2 * bytes_per_pixel < SHARE * free]
    return next(iter(fitting), sizes[-1])
