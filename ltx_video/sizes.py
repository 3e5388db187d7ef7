"""Which sizes the passes work at. The VAE's cells are 32 × 32 pixels."""

from __future__ import annotations

import math
from typing import NamedTuple

CELL = 32


class Size(NamedTuple):
    """In pixels."""

    width: int
    height: int


def whole_size(width: int, height: int) -> Size:
    """The smallest whole cells that hold a video; it is cut to its size at the end."""
    return Size(*(math.ceil(side / CELL) * CELL for side in (width, height)))


def first_size(whole: Size, factor: float) -> Size:
    """Of the first of two passes."""
    return Size(*(max(int(side * factor) // CELL, 1) * CELL for side in whole))


def doubled(size: Size) -> Size:
    return Size(2 * size.width, 2 * size.height)
