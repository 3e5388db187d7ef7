"""What a further task of a demo model is to its trainer: a module with these names.

The model that makes videos from text is taken as it ships. Its VAE and its text encoder
stay as they are; only a transformer is trained and shipped.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from demo.kind import Text

TASKS = ("wan_i2v", "wan_vace")

Encode = Callable[[Tensor], Tensor]
"""Videos (clips, 3, frames, h, w) in -1..1 to whitened latents."""


@dataclass
class Shown:
    """What the transformer sees beside noise and text."""

    condition: Tensor
    """(clips, channels, frames, h, w)."""
    holes: Tensor
    """int64 (clips, 6): what is to be made anew, from and to a frame, a row and a
    column. The rest is to be kept."""
    pictures: int = 0
    """So many latent frames come before the video's own, and are made with them."""


class Task(Protocol):
    """One task of one family."""

    BASE: str
    """The kind that it starts from."""
    VARIANT: str
    """The row of the app that runs it."""
    WAYS: Mapping[str, float]
    """What may be given, and how often it is in training."""
    SPARSE: frozenset[str]
    """Ways in which the captions leave much out: it is shown."""
    SECONDS: float
    RATE: float

    def make_transformer(self, base: Any) -> nn.Module:
        """A new one that begins with the weights of ``base``."""

    def trained(self, transformer: nn.Module) -> list[nn.Parameter]:
        """Those of its weights that are trained."""

    def show(
        self, encode: Encode, way: str, clips: Tensor, rng: random.Random
    ) -> Shown:
        """What is given of uint8 clips (clips, frames, h, w, 3)."""

    def velocity(
        self,
        transformer: nn.Module,
        noisy: Tensor,
        levels: Tensor,
        text: Text,
        shown: Shown,
    ) -> Tensor:
        """Predicted noise − latents at noise levels (clips,)."""

    def save_pipeline(self, folder: Path, transformer: Any) -> None:
        """Write diffusers' pipeline, without the parts of the base."""


def get_task(name: str) -> Task:
    """The module of the task called ``name``, one of ``TASKS``."""
    return cast(Task, import_module(f"demo.{name}"))


def hole_masks(holes: Tensor, frames: Tensor, height: int, width: int) -> Tensor:
    """Whether pixels are to be made anew, bool (clips, frames, height, width), of the
    frames with these numbers."""

    def within(places: Tensor, low: int) -> Tensor:
        begin, end = holes[:, low, None], holes[:, low + 1, None]
        return (places >= begin) & (places < end)

    rows = within(torch.arange(height, device=holes.device), 2)
    columns = within(torch.arange(width, device=holes.device), 4)
    times = within(frames, 0)
    return times[:, :, None, None] & rows[:, None, :, None] & columns[:, None, None]


def whole(clips: Tensor, first: int = 0, last: int = 0) -> Tensor:
    """Holes of whole frames of uint8 clips: all but so many at either end."""
    count, frames, height, width, _ = clips.shape
    hole = [first, frames - last, 0, height, 0, width]
    return torch.tensor(hole, device=clips.device).repeat(count, 1)
