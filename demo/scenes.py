"""The world of the demo models: what a scene is made of, and which are held out.

A scene is five attributes that a caption can name, plus numbers that it can't (camera,
light, texture, pace), drawn anew for each clip.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from hashlib import sha256
from itertools import product

import torch

SHAPES = ("ball", "cube", "cone", "ring", "cylinder")
SUBJECTS = ("gem",)
"""Shapes that no model sees in its training: LoRAs teach them."""
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
FLOORS = ("checkerboard", "grass", "sand", "snow")
SKIES = ("day", "sunset", "night")
MOTIONS = ("left", "right", "bouncing", "spinning", "circling", "still")

ATTRIBUTES = {
    "shape": SHAPES,
    "colour": COLOURS,
    "floor": FLOORS,
    "sky": SKIES,
    "motion": MOTIONS,
}

Attributes = Mapping[str, tuple[str, ...]]
"""Name of an attribute → its values."""

WITH_SUBJECTS = {**ATTRIBUTES, "shape": (*SHAPES, *SUBJECTS)}

HELD_OUT_SHARE = 0.1


@dataclass(frozen=True)
class Scene:
    """The part of a scene that a caption names; one value of each attribute."""

    shape: str
    colour: str
    floor: str
    sky: str
    motion: str

    def labels(self, attributes: Attributes = ATTRIBUTES) -> list[int]:
        """Index of each value within its attribute, in the order of ``attributes``."""
        return [
            values.index(getattr(self, name)) for name, values in attributes.items()
        ]


def scene_of(labels: list[int], attributes: Attributes = ATTRIBUTES) -> Scene:
    """The reverse of ``Scene.labels``."""
    chosen = zip(attributes.values(), labels, strict=True)
    return Scene(*(values[i] for values, i in chosen))


def all_scenes() -> Iterator[Scene]:
    """Every combination of the attributes."""
    return (Scene(*values) for values in product(*ATTRIBUTES.values()))


def is_held_out(scene: Scene) -> bool:
    """Whether this combination is kept from all training; stable over versions."""
    text = " ".join(getattr(scene, field.name) for field in fields(scene))
    return sha256(text.encode()).digest()[0] < 256 * HELD_OUT_SHARE


def split_scenes() -> tuple[list[Scene], list[Scene]]:
    """Training combinations and held-out ones."""
    train, held_out = [], []
    for scene in all_scenes():
        (held_out if is_held_out(scene) else train).append(scene)
    return train, held_out


def draw(scenes: list[Scene], count: int, generator: torch.Generator) -> list[Scene]:
    """``count`` scenes drawn with replacement."""
    chosen = torch.randint(len(scenes), (count,), generator=generator)
    return [scenes[i] for i in chosen.tolist()]


def label_tensor(
    scenes: list[Scene], attributes: Attributes = ATTRIBUTES
) -> torch.Tensor:
    """Labels, int64 (scenes, attributes)."""
    return torch.tensor([scene.labels(attributes) for scene in scenes])
