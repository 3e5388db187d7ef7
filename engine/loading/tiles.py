"""How large the tiles are that a VAE decodes in, where nobody has said it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engine.loading.memory import free_memory

if TYPE_CHECKING:
    import torch

SHARE = 0.9
"""Of the GPU's free memory, that decoding may take."""


def square(size: int) -> int:
    """The pixels of a tile."""
    return size**2


def automatic_tile(
    sizes: Sequence[int],
    device: torch.device,
    area: int,
    bytes_per_pixel: float,
    tile_area: Callable[[int], int] = square,
) -> int:
    """In pixels, for a picture of ``area`` pixels. 0, the picture as a whole, where it
    fits into the GPU's free memory or there is no GPU; else one of ``sizes``, whose
    tiles have ``tile_area`` pixels."""
    if device.type != "cuda":
        return 0
    free = free_memory(device)
    if area * bytes_per_pixel < SHARE * free:
        return 0
    return fitting_tile(sizes, bytes_per_pixel, free, tile_area)


def fitting_tile(
    sizes: Sequence[int],
    bytes_per_pixel: float,
    free: int,
    tile_area: Callable[[int], int] = square,
) -> int:
    """The first of ``sizes``, which fall, that ``free`` bytes hold; else the last."""
    most = SHARE * free
    fitting = [size for size in sizes if tile_area(size) * bytes_per_pixel < most]
    return next(iter(fitting), sizes[-1])
