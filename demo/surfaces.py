"""What things look like: paint, ground, sky and light. Colours in linear light."""

from __future__ import annotations

import torch
from torch import Tensor

from demo.noise import hashed, layered_noise, value_noise
from demo.scenes import FLOORS, SHAPES, SKIES
from demo.vec import Vec, add, dot, each, mix, multiply, scale, unit, where

NIGHT = SKIES.index("night")


def smoothstep(low: float, high: float, x: Tensor) -> Tensor:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _to_srgb(value: Tensor) -> Tensor:
    rolled = (value * (1 + value * 0.12) / (1 + value * 0.42)).clamp(0, 1)
    curved = 1.055 * rolled.clamp(min=1e-6) ** (1 / 2.4) - 0.055
    return torch.where(rolled <= 0.0031308, rolled * 12.92, curved)


def tone_map(colour: Vec) -> Vec:
    """Linear light to sRGB in 0..1, highlights rolled off."""
    return each(_to_srgb, colour)


def _choose(kind: Tensor, *colours: Vec) -> Vec:
    """The colour with the number ``kind`` (clips, 1) of those given."""
    chosen = each(lambda c: torch.full_like(kind, c, dtype=torch.float32), colours[0])
    for i, colour in enumerate(colours[1:], 1):
        chosen = where(kind == i, colour, chosen)
    return chosen


def light(sky: Tensor) -> tuple[Vec, Vec]:
    """Colour of the sun or moon, and of the light from everywhere."""
    key = _choose(
        sky, Vec(1.55, 1.48, 1.35), Vec(1.60, 0.98, 0.60), Vec(0.42, 0.50, 0.72)
    )
    ambient = _choose(
        sky, Vec(0.42, 0.50, 0.62), Vec(0.50, 0.38, 0.46), Vec(0.16, 0.19, 0.30)
    )
    return key, ambient


def paint(p: Vec, shape: Tensor, colour: Vec) -> Vec:
    """Base colour at points of the object's own frame: stripes and borders in a
    lighter shade, so that turning can be seen."""
    around = torch.where(
        shape == SHAPES.index("ring"),
        torch.atan2(p.y, p.x + 1e-6),
        torch.atan2(p.z, p.x + 1e-6),
    )
    stripe = smoothstep(-0.12, 0.12, torch.sin(around * 3))
    ax, ay, az = p.x.abs(), (p.y + 0.2).abs(), p.z.abs()
    high = torch.maximum(ax, torch.maximum(ay, az))
    middle = ax + ay + az - high - torch.minimum(ax, torch.minimum(ay, az))
    border = smoothstep(0.55, 0.60, middle)
    pattern = torch.where(shape == SHAPES.index("cube"), border, stripe)
    white = torch.minimum(colour.x, torch.minimum(colour.y, colour.z)) > 0.5
    darker = scale(colour, torch.where(white, 1.0, 0.80))
    lighter = each(lambda c: torch.where(white, c * 0.62, c * 0.72 + 0.20), colour)
    return mix(darker, lighter, pattern * 0.75)


def _board(u: Tensor, v: Tensor, near: Tensor, seed: Tensor) -> Vec:
    size = 0.75 + 0.35 * seed[4]
    wave = torch.sin(3.1416 * u / size) * torch.sin(3.1416 * v / size)
    tile = smoothstep(-0.05, 0.05, wave)
    tile = 0.5 + (tile - 0.5) * near.clamp(min=0.15)
    brown = (seed[3] > 0.6).to(u)
    dark = mix(Vec(0.07, 0.075, 0.09), Vec(0.26, 0.13, 0.06), brown)
    return mix(dark, Vec(0.80, 0.78, 0.72), tile)


def _grass(u: Tensor, v: Tensor, near: Tensor) -> Vec:
    blades = layered_noise(u * 9.0, v * 9.0, 2) - 0.5
    patches = layered_noise(u * 0.8, v * 0.8, 2)
    green = mix(Vec(0.035, 0.13, 0.012), Vec(0.16, 0.33, 0.045), patches)
    green = scale(green, 1 + 1.1 * blades * near)
    cell_u, cell_v = torch.floor(u * 2.2), torch.floor(v * 2.2)
    drawn = hashed(cell_u, cell_v)
    du = u * 2.2 - cell_u - 0.3 - 0.4 * hashed(cell_v, cell_u)
    dv = v * 2.2 - cell_v - 0.3 - 0.4 * hashed(cell_u + 3, cell_v)
    petal = smoothstep(0.13, 0.08, torch.sqrt(du * du + dv * dv))
    flower = petal * (drawn > 0.72) * near
    tint = mix(Vec(0.9, 0.88, 0.8), Vec(0.95, 0.75, 0.1), (drawn > 0.88).to(u))
    return mix(green, tint, flower)


def ground(point: Vec, t: Tensor, floor: Tensor, seed: Tensor) -> tuple[Vec, Vec]:
    """Colour and normal of the ground; fine detail fades with the distance ``t``.

    ``seed`` is (8, clips, 1).
    """
    turn = seed[0] * 6.283
    c, s = torch.cos(turn), torch.sin(turn)
    u = c * point.x - s * point.z + seed[1] * 40
    v = s * point.x + c * point.z + seed[2] * 40
    near = torch.exp(-((t / 11.0) ** 2))

    warp = 3.0 * 1.6 * value_noise(u * 0.7, v * 0.7)
    grain = value_noise(u * 14, v * 14) - 0.5
    ripple = torch.sin(u * 5.5 + warp) + grain
    sand = scale(Vec(0.66, 0.47, 0.25), 1 + 0.10 * ripple * near)
    drift = layered_noise(u * 0.9, v * 0.9, 3)
    snow = scale(Vec(0.80, 0.85, 0.93), 0.82 + 0.26 * drift)

    is_sand, is_snow = floor == FLOORS.index("sand"), floor == FLOORS.index("snow")
    is_board = floor == FLOORS.index("checkerboard")
    colour = where(is_board, _board(u, v, near, seed), _grass(u, v, near))
    colour = where(is_sand, sand, where(is_snow, snow, colour))

    leaning = drift - layered_noise(u * 0.9 + 0.15, v * 0.9, 3)
    slope = torch.where(is_snow, 1.8 * leaning * near, torch.zeros_like(u))
    slope = torch.where(is_sand, 0.20 * torch.cos(u * 5.5 + warp) * near, slope)
    return colour, unit(Vec(slope * c, torch.ones_like(u), -slope * s))


def sky_gradient(direction: Vec, sky: Tensor, sun: Vec) -> Vec:
    """Sky without clouds, stars or hills."""
    zenith = _choose(
        sky, Vec(0.10, 0.30, 0.78), Vec(0.16, 0.14, 0.36), Vec(0.006, 0.012, 0.05)
    )
    low = _choose(
        sky, Vec(0.62, 0.78, 0.95), Vec(0.98, 0.42, 0.16), Vec(0.045, 0.075, 0.17)
    )
    glow = _choose(
        sky, Vec(0.25, 0.22, 0.15), Vec(0.85, 0.38, 0.10), Vec(0.05, 0.06, 0.10)
    )
    high = direction.y.clamp(min=0)
    colour = mix(low, zenith, 1 - torch.exp(-high * 3.4))
    return add(colour, scale(glow, dot(direction, sun).clamp(min=0) ** 6))


def horizon(direction: Vec, sky: Tensor, sun: Vec) -> Vec:
    """What far things fade into."""
    level = Vec(direction.x, torch.zeros_like(direction.y), direction.z)
    return sky_gradient(unit(level), sky, sun)


def _hills(
    colour: Vec, direction: Vec, sky: Tensor, sun: Vec, seed: Tensor, floor: Tensor
) -> Vec:
    """Two rows of hills in front of the sky."""
    around = torch.atan2(direction.x, -direction.z + 1e-6)
    land = _choose(
        floor,
        Vec(0.10, 0.12, 0.17),
        Vec(0.06, 0.16, 0.04),
        Vec(0.42, 0.28, 0.14),
        Vec(0.62, 0.68, 0.78),
    )
    key, ambient = light(sky)
    lit = multiply(land, add(scale(key, 0.35), scale(ambient, 0.8)))
    haze = horizon(direction, sky, sun)
    for row, (height, far) in enumerate(((0.135, 0.72), (0.07, 0.42))):
        phase, sharp = seed[4 + row] * 6.283, 1.0 + row * 0.7
        line = (
            0.55
            + 0.28 * torch.sin(2 * sharp * around + phase)
            + 0.17 * torch.sin(5 * sharp * around + 2.3 * phase)
            + 0.07 * torch.sin(13 * sharp * around + 4.1 * phase)
        )
        cover = smoothstep(0.004, -0.004, direction.y - height * line)
        colour = mix(colour, mix(lit, haze, far), cover)
    return colour


def _stars(direction: Vec, seed: Tensor) -> Tensor:
    across, upward = direction.x * 26 + 50, direction.y * 26
    cell_x, cell_y = torch.floor(across), torch.floor(upward)
    drawn = hashed(cell_x + torch.floor(seed[6] * 97), cell_y)
    dx = across - cell_x - 0.2 - 0.6 * hashed(cell_y + 7, cell_x)
    dy = upward - cell_y - 0.2 - 0.6 * hashed(cell_x, cell_y + 3)
    star = smoothstep(0.19, 0.03, torch.sqrt(dx * dx + dy * dy))
    return star * (drawn > 0.82) * (drawn - 0.6) * 3.0


def sky(direction: Vec, kind: Tensor, sun: Vec, seed: Tensor, floor: Tensor) -> Vec:
    """The whole backdrop: gradient, sun or moon, clouds or stars, hills."""
    colour = sky_gradient(direction, kind, sun)
    shining = torch.where(kind == NIGHT, _stars(direction, seed), 0.0)
    colour = each(lambda c: c + shining, colour)
    disc = _choose(kind, Vec(4.0, 3.8, 3.2), Vec(4.5, 2.6, 1.0), Vec(1.5, 1.55, 1.6))
    colour = mix(colour, disc, smoothstep(0.9982, 0.9990, dot(direction, sun)))
    high = direction.y.clamp(min=0.03)
    u = direction.x / high * 0.55 + seed[6] * 60
    v = direction.z / high * 0.55 + seed[7] * 60
    cloud = smoothstep(0.50, 0.78, layered_noise(u, v, 4))
    cloud = cloud * smoothstep(0.03, 0.30, direction.y)
    tint = _choose(
        kind, Vec(0.98, 0.98, 1.0), Vec(1.0, 0.48, 0.34), Vec(0.05, 0.06, 0.11)
    )
    return _hills(mix(colour, tint, cloud * 0.8), direction, kind, sun, seed, floor)
