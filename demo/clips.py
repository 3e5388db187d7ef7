"""What a caption doesn't name: where things are in each frame, seen from where.

Tensors for a batch of clips, drawn anew for each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from demo.noise import uniform
from demo.scenes import COLOURS, FLOORS, MOTIONS, SHAPES, SKIES, SUBJECTS, Scene
from demo.vec import Vec, rotate_y

# Base colours in linear light, far enough apart to be told under any sky.
PALETTE = {
    "red": (0.78, 0.03, 0.03),
    "orange": (0.95, 0.27, 0.01),
    "yellow": (0.95, 0.72, 0.02),
    "green": (0.03, 0.48, 0.07),
    "blue": (0.02, 0.12, 0.80),
    "purple": (0.26, 0.03, 0.55),
    "pink": (0.95, 0.16, 0.42),
    "white": (0.86, 0.86, 0.86),
}


@dataclass
class Clip:
    """Numbers of a batch of scenes. Tensors of shape (clips,) or (clips, frames)."""

    shape: Tensor
    floor: Tensor
    sky: Tensor
    colour: Tensor  # (clips, 3)
    size: Tensor
    sun: Tensor  # (clips, 3) unit vector towards the light
    seed: Tensor  # (clips, 8) uniform numbers for textures, clouds and hills
    position: Tensor  # (clips, frames, 3) of the object's centre
    spin: Tensor  # (clips, frames) angle about the upright axis
    roll: Tensor  # (clips, frames) angle about the axis towards the camera
    squash: Tensor  # (clips, frames) vertical scale
    eye: Tensor  # (clips, frames, 3)
    target: Tensor  # (clips, frames, 3)
    zoom: Tensor  # (clips,) distance of the picture plane


def alone(clips: Clip, index: int) -> Clip:
    """One of them, still as a batch."""
    return Clip(**{name: v[index : index + 1] for name, v in vars(clips).items()})


@dataclass(frozen=True)
class Draw:
    """Uniform numbers for a batch of clips."""

    count: int
    generator: torch.Generator

    def __call__(self, low: float, high: float, *shape: int) -> Tensor:
        return uniform(low, high, (self.count, *shape), self.generator)


def sample_clips(
    scenes: list[Scene], num_frames: int, generator: torch.Generator
) -> Clip:
    """Draw what the captions don't name. Tensors on the generator's device."""
    device, draw = generator.device, Draw(len(scenes), generator)

    def index(values: tuple[str, ...], name: str) -> Tensor:
        return torch.tensor(
            [values.index(getattr(scene, name)) for scene in scenes], device=device
        )

    palette = torch.tensor([PALETTE[name] for name in COLOURS], device=device)
    sky, shape = index(SKIES, "sky"), index((*SHAPES, *SUBJECTS), "shape")
    size = draw(0.72, 0.92)
    time = torch.linspace(0, 1, num_frames, device=device)[None]
    position, spin, roll, squash = _move(
        index(MOTIONS, "motion"), shape, size, time, draw
    )
    eye, target, heading = _look(time, draw)
    # "Left" is the camera's left: turn the path with the camera's mean direction.
    turned = rotate_y(Vec(*position.unbind(-1)), heading[:, None])
    return Clip(
        shape=shape,
        floor=index(FLOORS, "floor"),
        sky=sky,
        colour=palette[index(COLOURS, "colour")] * draw(0.85, 1.1, 1),
        size=size,
        sun=_sun(sky, heading, draw),
        seed=draw(0, 1, 8),
        position=torch.stack(turned, -1),
        spin=spin + heading[:, None],
        roll=roll,
        squash=squash,
        eye=eye,
        target=target,
        zoom=draw(2.15, 2.45),
    )


def _look(time: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
    """The camera's eye and target (clips, frames, 3), and its mean heading (clips,)."""
    middle = time - 0.5
    height, away = draw(0.9, 2.1, 1), draw(4.7, 5.8, 1)
    swing = draw(-0.5, 0.5, 1) + draw(-0.22, 0.22, 1) * middle
    nearer = away * (1 + draw(-0.07, 0.07, 1) * middle)
    rise = height + draw(-0.25, 0.25, 1) * middle
    eye = torch.stack([torch.sin(swing) * nearer, rise, torch.cos(swing) * nearer], -1)
    aim = torch.stack([draw(-0.1, 0.1), draw(0.65, 0.95), draw(-0.1, 0.1)], -1)
    return eye, aim[:, None].expand_as(eye), swing.mean(1)


def _sun(sky: Tensor, heading: Tensor, draw: Draw) -> Tensor:
    """Unit vectors (clips, 3) towards the sun or moon.

    A low sun stands behind or beside the scene, where the camera sees its glow.
    """
    is_low = sky == SKIES.index("sunset")
    elevation = torch.where(is_low, draw(0.30, 0.45), draw(0.65, 1.05))
    behind = heading + math.pi + draw(-0.9, 0.9)
    azimuth = torch.where(is_low, behind, draw(-math.pi, math.pi))
    level = torch.cos(elevation)
    return torch.stack(
        [torch.sin(azimuth) * level, torch.sin(elevation), torch.cos(azimuth) * level],
        -1,
    )


def _move(
    motion: Tensor,
    shape: Tensor,
    size: Tensor,
    time: Tensor,
    draw: Draw,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Path, spin, roll and squash over time (clips, frames) of each motion."""

    def u(low: float, high: float) -> Tensor:
        return draw(low, high, 1)

    def during(name: str) -> Tensor:
        return (motion == MOTIONS.index(name))[:, None]

    zero = torch.zeros(draw.count, time.shape[1], device=time.device)
    sideways = during("right").float() - during("left").float()
    reach, offset = u(0.95, 1.25), u(-0.15, 0.15)
    travel = sideways * reach * (2 * time - 1)
    x = travel + offset * during("still") + offset * during("spinning")

    phase, turn = u(0, 2 * math.pi), torch.where(u(0, 1) < 0.5, -1.0, 1.0)
    angle = phase + turn * u(1.0, 1.3) * 2 * math.pi * time
    circle, radius = during("circling").float(), u(0.75, 0.95)
    x = x + circle * radius * torch.cos(angle)
    z = circle * radius * torch.sin(angle)

    hops = torch.abs(torch.sin(math.pi * (u(2.0, 3.0) * time + u(0, 1))))
    bounce = during("bouncing").float()
    lift = bounce * u(0.7, 1.0) * hops
    squash = 1 - bounce * 0.22 * torch.exp(-hops * 7)

    still_yaw = u(-math.pi, math.pi)
    whirl = turn * u(1.1, 1.7) * 2 * math.pi * time
    spin = still_yaw + during("spinning").float() * whirl
    is_ring = (shape == SHAPES.index("ring"))[:, None]
    # A ring faces the camera, more or less, unless it spins.
    facing = u(-0.6, 0.6) + zero
    spin = torch.where(is_ring & ~during("spinning"), facing, spin)
    rolls = (shape == SHAPES.index("ball"))[:, None] | is_ring
    spin = torch.where(rolls & (sideways != 0), u(-0.25, 0.25) + zero, spin)
    roll = torch.where(rolls, -travel / size[:, None], zero)

    position = torch.stack([x, size[:, None] * squash + lift, z], -1)
    return position, spin, roll, squash + zero
