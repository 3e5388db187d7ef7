"""Three numbers for each ray, each in a tensor of its own.

Points, directions and colours keep their parts apart, so that a compiler can fuse the
whole of a ray's arithmetic into one kernel; a last axis of three would split it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Number = Tensor | float


class Vec(NamedTuple):
    """x, y, z or red, green, blue: tensors of one shape, or plain numbers."""

    x: Number
    y: Number
    z: Number


def each(function: Callable[..., Number], *vectors: Vec) -> Vec:
    """The function of the x parts, of the y parts and of the z parts."""
    return Vec(*(function(*parts) for parts in zip(*vectors, strict=True)))


def add(a: Vec, b: Vec) -> Vec:
    return Vec(a.x + b.x, a.y + b.y, a.z + b.z)


def subtract(a: Vec, b: Vec) -> Vec:
    return Vec(a.x - b.x, a.y - b.y, a.z - b.z)


def multiply(a: Vec, b: Vec) -> Vec:
    return Vec(a.x * b.x, a.y * b.y, a.z * b.z)


def scale(a: Vec, by: Number) -> Vec:
    return Vec(a.x * by, a.y * by, a.z * by)


def along(origin: Vec, direction: Vec, t: Number) -> Vec:
    """The point ``t`` down a ray."""
    return add(origin, scale(direction, t))


def dot(a: Vec, b: Vec) -> Tensor:
    return a.x * b.x + a.y * b.y + a.z * b.z


def unit(a: Vec) -> Vec:
    return scale(a, torch.rsqrt(dot(a, a) + 1e-12))


def mix(a: Vec, b: Vec, share: Number) -> Vec:
    """From ``a`` (share 0) to ``b`` (share 1)."""
    return each(lambda p, q: p + (q - p) * share, a, b)


def where(condition: Tensor, a: Vec, b: Vec) -> Vec:
    return each(lambda p, q: torch.where(condition, p, q), a, b)


def rotate_y(a: Vec, angle: Tensor) -> Vec:
    """Turned about the upright axis."""
    c, s = torch.cos(angle), torch.sin(angle)
    return Vec(c * a.x + s * a.z, a.y, c * a.z - s * a.x)


def split(values: Tensor) -> Vec:
    """(…, 3) to three tensors (…, 1), to combine with rays."""
    return Vec(*values[..., None, :].unbind(-1))
