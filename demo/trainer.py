"""The state folder, the clock and the renders that all parts of a training share."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from demo.clips import sample_clips
from demo.kind import Kind
from demo.render import render
from demo.scenes import Scene, draw
from demo.vae import copy_of

FRAMES = 33
RENDER_BATCH = 64


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path to write to, which then becomes ``target``, a file or a folder: a call may
    be killed in the midst of it, and ``target`` is never half-written."""
    part = target.with_name(f"{target.name}.part")
    old = target.with_name(f"{target.name}.old")
    for left in (part, old):
        if left.is_dir():
            shutil.rmtree(left)
    yield part
    if target.is_dir():  # a folder takes the place of none that has files
        target.replace(old)
    part.replace(target)
    if old.is_dir():
        shutil.rmtree(old)


@dataclass
class Trainer:
    """What a training needs to be ended and resumed at any time."""

    kind: Kind
    state: Path
    minutes: float
    device: str
    start: float = field(default_factory=time.time)
    progress: dict[str, float] = field(default_factory=dict)
    """Seconds spent on each part, in all calls together."""

    def __post_init__(self) -> None:
        self.until = self.start + self.minutes * 60
        self.state.mkdir(parents=True, exist_ok=True)
        self.progress_file = self.state / "progress.json"
        if self.progress_file.exists():
            self.progress = json.loads(self.progress_file.read_text())

    def log(self, message: str) -> None:
        line = f"[{time.time() - self.start:6.1f} s] {message}"
        print(line, flush=True)
        with (self.state / "training.log").open("a") as file:
            file.write(line + "\n")

    def done(self, part: str, seconds: float) -> None:
        self.progress[part] = seconds
        with replacing(self.progress_file) as file:
            file.write_text(json.dumps(self.progress, indent=1))

    def spent(self, part: str) -> float:
        return self.progress.get(part, 0.0)

    def is_over(self) -> bool:
        return time.time() > self.until

    def save(self, name: str, model: nn.Module, ema: nn.Module) -> None:
        """The weights to go on from, and the averaged ones to use (bfloat16)."""
        for suffix, saved in (".raw", model), ("", copy_of(ema).bfloat16()):
            with replacing(self.state / f"{name}{suffix}.safetensors") as file:
                save_model(saved, str(file))

    def load(self, name: str, model: nn.Module, ema: nn.Module) -> None:
        """Go on from the raw weights, or from the averaged ones if only they exist."""
        averaged = self.state / f"{name}.safetensors"
        raw = self.state / f"{name}.raw.safetensors"
        if averaged.exists():
            load_model(ema, averaged)
            load_model(model, raw if raw.exists() else averaged)

    def clips(
        self, scenes: list[Scene], count: int, seed: int
    ) -> tuple[Tensor, list[Scene]]:
        """Rendered clips, uint8 (count, frames, size, size, 3), with their scenes, at
        the largest size that the model is trained at."""
        rng = torch.Generator().manual_seed(seed)
        # Always whole batches: the renderer is compiled for one size.
        drawn = draw(scenes, math.ceil(count / RENDER_BATCH) * RENDER_BATCH, rng)
        return self.render(drawn, seed)[:count], drawn[:count]

    def render(self, scenes: list[Scene], seed: int) -> Tensor:
        """A clip of each scene; best as many as fill whole batches."""
        size = max(self.kind.SIZES)
        generator = torch.Generator(self.device).manual_seed(seed)
        made = [
            render(
                sample_clips(scenes[i : i + RENDER_BATCH], FRAMES, generator),
                size,
                size,
            )
            for i in range(0, len(scenes), RENDER_BATCH)
        ]
        return torch.cat(made)
