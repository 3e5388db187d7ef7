"""A small ray marcher: scenes to video clips, in PyTorch, on any device.

Objects are signed distance functions (Inigo Quilez, "Distance functions",
https://iquilezles.org/articles/distfunctions/), shadows are his soft shadows. The
floor is a plane, the sky a function of direction. All work is per ray; each function
marked ``fused`` is one kernel on a GPU. Two march steps are one such function: fewer
would read and write the rays more often than they compute, and a whole march in one
takes minutes to compile. A single clip on a CPU takes another way: only the rays that
come near the object are followed.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from demo import surfaces
from demo.clips import Clip, alone
from demo.fused import MANY, fused
from demo.scenes import FLOORS
from demo.vec import (
    Vec,
    along,
    dot,
    each,
    mix,
    multiply,
    rotate_y,
    scale,
    split,
    subtract,
    unit,
    where,
)

MARCH_STEPS = 26
SHADOW_STEPS = 16
MIRROR_STEPS = 18
TOGETHER = 2


class Shot(NamedTuple):
    """One frame of every clip, as columns (clips, 1) that combine with rays."""

    shape: Tensor
    floor: Tensor
    sky: Tensor
    colour: Vec
    size: Tensor
    sun: Vec
    seed: Tensor  # (8, clips, 1)
    centre: Vec
    spin: Tensor
    roll: Tensor
    squash: Tensor


def _shot(clip: Clip, frame: int) -> Shot:
    return Shot(
        shape=clip.shape[:, None],
        floor=clip.floor[:, None],
        sky=clip.sky[:, None],
        colour=split(clip.colour),
        size=clip.size[:, None],
        sun=split(clip.sun),
        seed=clip.seed.T[..., None].contiguous(),
        centre=split(clip.position[:, frame]),
        spin=clip.spin[:, frame, None],
        roll=clip.roll[:, frame, None],
        squash=clip.squash[:, frame, None],
    )


def _rays(clip: Clip, frame: int, height: int, width: int) -> tuple[Vec, Vec]:
    """Origins and unit directions, each (clips, height·width), of one frame."""
    eye, target = split(clip.eye[:, frame]), split(clip.target[:, frame])
    forward = unit(subtract(target, eye))
    right = unit(Vec(-forward.z, torch.zeros_like(forward.x), forward.x))
    upward = Vec(
        right.y * forward.z - right.z * forward.y,
        right.z * forward.x - right.x * forward.z,
        right.x * forward.y - right.y * forward.x,
    )
    device, half = clip.eye.device, min(height, width) / 2
    ys = (height / 2 - 0.5 - torch.arange(height, device=device)) / half
    xs = (torch.arange(width, device=device) + 0.5 - width / 2) / half
    grid_y, grid_x = torch.meshgrid(ys, xs, indexing="ij")
    ahead = scale(forward, clip.zoom[:, None])
    across = along(ahead, right, grid_x.reshape(1, -1))
    direction = unit(along(across, upward, grid_y.reshape(1, -1)))
    # Mirrored rays have an origin each, too: one compiled form is enough for both.
    return each(lambda c: c.expand_as(direction.x).contiguous(), eye), direction


def _to_object(p: Vec, shot: Shot) -> Vec:
    """World points to the object's own frame, at size 1."""
    local = rotate_y(subtract(p, shot.centre), -shot.spin)
    y = local.y / shot.squash
    c, s = torch.cos(shot.roll), torch.sin(shot.roll)
    rolled = Vec(c * local.x + s * y, c * y - s * local.x, local.z)
    return scale(rolled, 1 / shot.size)


def _rounded(*sides: Tensor) -> Tensor:
    """Distance to a box from how far a point is past each side."""
    outside = torch.sqrt(sum(side.clamp(min=0) ** 2 for side in sides) + 1e-9)
    inside = functools.reduce(torch.maximum, sides).clamp(max=0)
    return outside + inside


def distance(p: Vec, shot: Shot) -> Tensor:
    """Signed distance in world units from points to the object."""
    x, y, z = _to_object(p, shot)
    upright = torch.sqrt(x * x + z * z + 1e-9)
    facing = torch.sqrt(x * x + y * y + 1e-9)
    ball = torch.sqrt(x * x + y * y + z * z + 1e-9) - 1.0
    cube = _rounded(x.abs() - 0.7, (y + 0.2).abs() - 0.7, z.abs() - 0.7) - 0.10
    # A cone of height 2 and radius 0.95: the slanted side, cut by its base.
    cone = torch.maximum(upright * 0.903 + (y - 1.0) * 0.429, -(y + 1.0))
    ring = torch.sqrt((facing - 0.71) ** 2 + z * z + 1e-9) - 0.29
    cylinder = _rounded(upright - 0.62, y.abs() - 0.94) - 0.05
    gem = (x.abs() + y.abs() * 0.8 + z.abs() - 1.0) * 0.61
    chosen = ball
    for i, other in enumerate((cube, cone, ring, cylinder, gem), 1):
        chosen = torch.where(shot.shape == i, other, chosen)
    return chosen * shot.size * shot.squash.clamp(max=1.0)


@fused
def _enter(origin: Vec, direction: Vec, shot: Shot) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave the sphere around the object; leave < 0: never."""
    reach = 1.45 * shot.size
    offset = subtract(origin, shot.centre)
    b = dot(offset, direction)
    root = b * b - dot(offset, offset) + reach * reach
    half = torch.sqrt(root.clamp(min=0))
    far = torch.where(root > 0, half - b, torch.full_like(b, -1.0))
    return (-b - half).clamp(min=0.0), far


@fused
def _advance(t: Tensor, origin: Vec, direction: Vec, shot: Shot) -> Tensor:
    for _ in range(TOGETHER):
        t = t + distance(along(origin, direction, t), shot) * 0.97
    return t


@fused
def _meets(t: Tensor, far: Tensor, origin: Vec, direction: Vec, shot: Shot) -> Tensor:
    return (distance(along(origin, direction, t), shot) < 0.012) & (t < far)


def _followed(mask: Tensor) -> Tensor | slice:
    """Which rays of a single clip on a CPU ``mask`` has. Of several clips, or on a GPU,
    all: kernels are compiled for one number of rays."""
    if mask.is_cuda or len(mask) > 1:
        return slice(None)
    return mask[0].nonzero()[:, 0]


def _pick(values: Vec, rays: Tensor | slice) -> Vec:
    return each(lambda c: c[:, rays], values)


def _put(values: Vec, rays: Tensor | slice, like: Tensor) -> Vec:
    """Back to where they were picked from, among zeros."""

    def put(c: Tensor) -> Tensor:
        whole = torch.zeros_like(like)
        whole[:, rays] = c
        return whole

    return values if isinstance(rays, slice) else each(put, values)


def _march(
    origin: Vec, direction: Vec, shot: Shot, steps: int
) -> tuple[Tensor, Tensor]:
    """Distance along each ray to the object, and whether it is met."""
    t, far = _enter(origin, direction, shot)
    rays = _followed(far > 0)
    origin, direction = _pick(origin, rays), _pick(direction, rays)
    reach = t[:, rays]
    for _ in range(steps // TOGETHER):
        reach = _advance(reach, origin, direction, shot)
    met = torch.zeros_like(t, dtype=torch.bool)
    met[:, rays] = _meets(reach, far[:, rays], origin, direction, shot)
    t[:, rays] = reach
    return t, met


@fused
def _toward_light(
    t: Tensor, light: Tensor, point: Vec, shot: Shot
) -> tuple[Tensor, Tensor]:
    for _ in range(TOGETHER):
        gap = distance(along(point, shot.sun, t), shot)
        light = torch.minimum(light, 9.0 * gap.clamp(min=0) / (t + 0.3))
        t = t + gap.clamp(min=0.05, max=0.5)
    return t, light


def _shadow(point: Vec, shot: Shot) -> Tensor:
    """Share of sunlight that reaches points; soft at the edge."""
    t, far = _enter(point, shot.sun, shot)
    rays = _followed(far > 0)
    point, t = _pick(point, rays), t[:, rays].clamp(min=0.02)
    light = torch.ones_like(t)
    for _ in range(SHADOW_STEPS // TOGETHER):
        t, light = _toward_light(t, light, point, shot)
    share = torch.ones_like(far)
    share[:, rays] = surfaces.smoothstep(0.0, 1.0, light)
    return torch.where(far > 0, share, torch.ones_like(share))


def _normal(point: Vec, shot: Shot) -> Vec:
    """Slope of the distance, from the four corners of a small tetrahedron."""
    slope = Vec(0.0, 0.0, 0.0)
    for corner in (Vec(1, -1, -1), Vec(-1, -1, 1), Vec(-1, 1, -1), Vec(1, 1, 1)):
        gap = distance(along(point, corner, 0.004), shot)
        slope = along(slope, corner, gap)
    return unit(slope)


@fused
def _shade_object(origin: Vec, direction: Vec, t: Tensor, shot: Shot) -> Vec:
    """Colour, linear light, where a ray meets the object at ``t``."""
    point = along(origin, direction, t)
    normal = _normal(point, shot)
    base = surfaces.paint(_to_object(point, shot), shot.shape, shot.colour)
    key, ambient = surfaces.light(shot.sky)
    # Wrapped a little around the edge, so that the dark side keeps its colour.
    diffuse = ((dot(normal, shot.sun) + 0.25) / 1.25).clamp(min=0)
    fill = (-dot(normal, direction)).clamp(min=0)
    around = scale(ambient, 0.35 + 0.65 * (0.5 + 0.5 * normal.y))
    received = along(around, key, diffuse)
    lit = multiply(base, Vec(*(part + 0.26 * fill for part in received)))
    bounce = along(direction, normal, -2 * dot(direction, normal))
    gloss = dot(bounce, shot.sun).clamp(min=0) ** 40
    mirrored = surfaces.sky_gradient(bounce, shot.sky, shot.sun)
    grazing = (1 - fill).clamp(0, 1) ** 4
    return along(along(lit, key, 0.35 * gloss), mirrored, 0.03 + 0.30 * grazing)


def _shade_met(origin: Vec, direction: Vec, t: Tensor, met: Tensor, shot: Shot) -> Vec:
    """``_shade_object`` where the object is met; elsewhere, any colour."""
    rays = _followed(met)
    picked = _pick(origin, rays), _pick(direction, rays), t[:, rays]
    return _put(_shade_object(*picked, shot), rays, t)


@fused
def _hit_floor(origin: Vec, direction: Vec) -> tuple[Tensor, Vec]:
    t = (-origin.y / direction.y.clamp(max=-1e-3)).clamp(0, 40.0)
    return t, along(origin, direction, t)


@fused
def _light_floor(point: Vec, t: Tensor, shadow: Tensor, shot: Shot) -> Vec:
    """Lit colour of the ground at points."""
    base, normal = surfaces.ground(point, t, shot.floor, shot.seed)
    key, ambient = surfaces.light(shot.sky)
    gap = distance(point, shot).clamp(min=0)
    contact = 0.35 + 0.65 * (1 - torch.exp(-2.2 * gap))
    diffuse = dot(normal, shot.sun).clamp(min=0)
    return multiply(base, along(scale(ambient, contact), key, diffuse * shadow))


@fused
def _reflect(
    colour: Vec, body: Vec, met: Tensor, t: Tensor, direction: Vec, shot: Shot
) -> Vec:
    """The ground with what it mirrors, fading into haze."""
    bounce = Vec(direction.x, -direction.y, direction.z)
    seen = where(met, body, surfaces.sky_gradient(bounce, shot.sky, shot.sun))
    polished = (shot.floor == FLOORS.index("checkerboard")).to(t)
    grazing = (1 + direction.y).clamp(0, 1) ** 3
    colour = mix(colour, seen, polished * (0.25 + 0.55 * grazing))
    haze = 1 - torch.exp(-((t / 22.0) ** 2))
    return mix(colour, surfaces.horizon(direction, shot.sky, shot.sun), haze)


def _shade_floor(origin: Vec, direction: Vec, shot: Shot) -> Vec:
    """Colour of the ground plane along rays that look down."""
    t, point = _hit_floor(origin, direction)
    colour = _light_floor(point, t, _shadow(point, shot), shot)
    bounce = Vec(direction.x, -direction.y, direction.z)
    reach, met = _march(point, bounce, shot, MIRROR_STEPS)
    body = _shade_met(point, bounce, reach, met, shot)
    return _reflect(colour, body, met, t, direction, shot)


@fused
def _finish(direction: Vec, ground: Vec, body: Vec, met: Tensor, shot: Shot) -> Vec:
    """The nearest of sky, ground and object, sRGB 0..1."""
    sky = surfaces.sky(direction, shot.sky, shot.sun, shot.seed, shot.floor)
    behind = where(direction.y < -1e-3, ground, sky)
    return surfaces.tone_map(where(met, body, behind))


def _trace(origin: Vec, direction: Vec, shot: Shot) -> Vec:
    """Colour of rays, sRGB 0..1."""
    t, met = _march(origin, direction, shot, MARCH_STEPS)
    body = _shade_met(origin, direction, t, met, shot)
    down = _followed((direction.y < -1e-3) & ~met)
    seen = _shade_floor(_pick(origin, down), _pick(direction, down), shot)
    ground = _put(seen, down, t)
    return _finish(direction, ground, body, met, shot)


@torch.no_grad()
def render(clip: Clip, height: int, width: int, samples: int = 2) -> Tensor:
    """All frames, uint8 (clips, frames, height, width, 3).

    ``samples`` rays along each side of a pixel are averaged.
    """
    count = len(clip.shape)
    rays = count * height * width * samples**2
    if count > 1 and rays < MANY and not clip.eye.is_cuda:
        films = (render(alone(clip, i), height, width, samples) for i in range(count))
        return torch.cat(list(films))
    pictures = []
    for frame in range(clip.position.shape[1]):
        origin, direction = _rays(clip, frame, height * samples, width * samples)
        colour = torch.stack(_trace(origin, direction, _shot(clip, frame)), -1)
        picture = colour.view(-1, height, samples, width, samples, 3).mean((2, 4))
        pictures.append((picture * 255).round().clamp(0, 255).to(torch.uint8))
    return torch.stack(pictures, 1)
