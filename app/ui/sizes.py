"""Sizes to choose from: what a model can make, in the shapes that people ask for."""

from __future__ import annotations

from math import sqrt

from engine.family import Limits, ModelVariant

SHAPES = (
    ("square", 1, 1),
    ("wide", 16, 9),
    ("tall", 9, 16),
    ("landscape", 4, 3),
    ("portrait", 3, 4),
)
COMMON_AREAS = (832 * 480, 1280 * 720)
CUSTOM = "custom"
AUTOMATIC_TILES = -1
"""The choice of VAE tiles that a request leaves out."""


def size_choices(variant: ModelVariant) -> list[tuple[str, str]]:
    """(label, ``"WIDTHxHEIGHT"``) of the sizes that suit ``variant``, its default
    first; the last one is ``CUSTOM``."""
    width, height = int(variant.defaults["width"]), int(variant.defaults["height"])
    sizes = {(width, height): _shape(width, height)}
    sizes.setdefault((height, width), _shape(height, width))
    areas = [width * height]
    areas += [area for area in COMMON_AREAS if area > areas[0]]
    for area in areas:
        for name, across, down in SHAPES:
            size = _fit(area, across / down, variant.limits)
            has_shape = 0.85 <= (size[0] / size[1]) / (across / down) <= 1.15
            has_area = 0.5 <= size[0] * size[1] / area <= 1.3
            if (
                has_shape
                and has_area
                and (area > areas[0] or name not in sizes.values())
            ):
                sizes.setdefault(size, name)
    labelled = [
        (f"{wide} \u00d7 {high} · {name}", f"{wide}x{high}")
        for (wide, high), name in sizes.items()
    ]
    return [*labelled, ("Custom", CUSTOM)]


def parse_size(choice: str) -> tuple[int, int]:
    """(width, height) of a choice other than ``CUSTOM``."""
    width, height = choice.split("x")
    return int(width), int(height)


def choice_of(variant: ModelVariant, width: object, height: object) -> str:
    """The choice that stands for this size."""
    choice = f"{width}x{height}"
    known = {value for _, value in size_choices(variant)}
    return choice if choice in known else CUSTOM


def tile_choices(
    variant: ModelVariant, chosen: int | None = None
) -> list[tuple[str, int]]:
    """(label, pixels) of VAE tiles: automatic, off, doubling from the smallest that
    works up to the largest video, and ``chosen`` if it is another."""
    tiles = {chosen} if chosen and chosen > 0 else set()
    pixels = variant.limits.min_vae_tile
    while 0 < pixels < variant.limits.max_size:
        tiles.add(pixels)
        pixels *= 2
    sizes = [(f"{pixels} pixels", pixels) for pixels in sorted(tiles)]
    return [("Automatic", AUTOMATIC_TILES), ("Off", 0), *sizes]


def _fit(area: int, ratio: float, limits: Limits) -> tuple[int, int]:
    width, height = sqrt(area * ratio), sqrt(area / ratio)
    return limits.snap_size(round(width)), limits.snap_size(round(height))


def _shape(width: int, height: int) -> str:
    if width == height:
        return "square"
    return "wide" if width > height else "tall"
