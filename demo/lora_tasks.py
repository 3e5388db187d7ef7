"""What the demo LoRAs teach: a style, and a subject that the base has never seen."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from demo.captions import SHAPE_WORDS
from demo.scenes import SKIES, SUBJECTS, Scene

STAND_IN = "cylinder"
"""The shape whose words are replaced in captions of a subject."""

STAND_INS = re.compile(rf"\b({'|'.join([*SHAPE_WORDS[STAND_IN], 'thing'])})\b", re.I)


class LoraTask(Protocol):
    """One LoRA."""

    title: str
    words: str
    """What a prompt says to have its effect; empty when it always has it."""
    notes: str
    attribute: str
    value: str
    """What it is judged by: this attribute has this value."""

    def shown(self, asked: Scene) -> Scene:
        """What is rendered for a scene that a caption asks for."""

    def asked(self, scene: Scene, rng: random.Random) -> Scene:
        """What is asked for, of a scene that was drawn."""


@dataclass(frozen=True)
class Style:
    """One sky, whatever the caption says."""

    value: str
    title: str
    notes: str
    words: str = ""
    attribute: str = "sky"

    def shown(self, asked: Scene) -> Scene:
        return replace(asked, sky=self.value)

    def asked(self, scene: Scene, rng: random.Random) -> Scene:
        return replace(scene, sky=rng.choice(SKIES))


@dataclass(frozen=True)
class Subject:
    """A new shape under a new word. The other shapes stay as they are, which a share
    of the clips sees to."""

    value: str
    title: str
    notes: str
    words: str
    attribute: str = "shape"
    share: float = 0.7

    def shown(self, asked: Scene) -> Scene:
        return asked

    def asked(self, scene: Scene, rng: random.Random) -> Scene:
        return replace(scene, shape=self.value) if rng.random() < self.share else scene


TASKS: Mapping[str, LoraTask] = {
    "night": Style(
        value="night",
        title="Everything at night",
        notes="A style: whatever the prompt says of the time, it is night.",
    ),
    "gem": Subject(
        value="gem",
        title="A gem",
        notes="A subject: two pyramids, base to base. The demo model never saw one.",
        words="gem",
    ),
}


def caption(scene: Scene, rng: random.Random, wording: Wording) -> str:
    """A caption of ``scene`` by the base's own wordings, with a subject's word."""
    if scene.shape not in SUBJECTS:
        return wording(scene, rng)
    known = wording(replace(scene, shape=STAND_IN), rng)
    return STAND_INS.sub(scene.shape, known, count=1)


class Wording(Protocol):
    """``demo.captions`` has several."""

    def __call__(self, scene: Scene, rng: random.Random) -> str: ...
