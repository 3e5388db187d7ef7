"""The training set of a task in latents, in parts that are made once and kept.

Each rendered clip gives four, as in ``demo.dataset``. Each of them is given in one of
the task's ways.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo.clock import Clock
from demo.dataset import encode_all, turned, whitened
from demo.kind import Kind
from demo.scenes import Scene, label_tensor, scene_of, split_scenes
from demo.task import Shown, Task
from demo.trainer import Trainer, replacing

PARTS, CLIPS = 24, 128
SECONDS = 190.0
"""No part is begun after so many, the renderer's compilation included."""


@dataclass
class Pairs:
    """Clips that are given in one way."""

    latents: Tensor
    """Whitened, (clips, channels, frames, h, w): those of pictures first."""
    shown: Shown
    scenes: list[Scene]

    def take(self, chosen: Tensor) -> Pairs:
        """Those with the numbers ``chosen`` (clips,), whole floats."""
        shown = Shown(
            self.shown.condition[chosen].float(),
            self.shown.holes[chosen],
            self.shown.pictures,
        )
        scenes = [self.scenes[i] for i in chosen.tolist()]
        return Pairs(self.latents[chosen].float(), shown, scenes)


@torch.no_grad()
def make_pairs(trainer: Trainer, task: Task, vae: Any) -> dict[str, Pairs] | None:
    """The training set by way; None if time ran out."""
    folder = trainer.state / "pairs"
    folder.mkdir(exist_ok=True)
    made = len(list(folder.glob("*.safetensors")))
    clock = Clock(trainer.spent("pairs") if made else 0.0, SECONDS, trainer.until)
    for number in range(made, PARTS):
        if clock.is_over():
            break
        part = make_part(trainer, task, vae, number)
        with replacing(folder / f"{number:03}.safetensors") as file:
            save_file(part, file)
        trainer.done("pairs", clock.spent())
    files = sorted(folder.glob("*.safetensors"))
    trainer.log(f"{len(files) * CLIPS * 4} clips rendered and encoded")
    if trainer.is_over():
        return None
    return joined(task, [load_file(file, device=trainer.device) for file in files])


def make_part(trainer: Trainer, task: Task, vae: Any, number: int) -> dict[str, Tensor]:
    """Tensors by way and name."""
    rng = random.Random(number)
    train, _ = split_scenes()
    clips, drawn = trainer.clips(train, CLIPS, seed=20_000 + number)
    views = [*turned(clips, drawn)]
    made: dict[str, list[Tensor]] = {}
    edge = 0.0
    for way, share in task.WAYS.items():
        first, edge = round(edge * CLIPS), edge + share
        for view, scenes in views:
            part = slice(first, round(edge * CLIPS))
            if not scenes[part]:
                continue
            pairs = make_view(trainer.kind, task, vae, way, view[part], rng)
            pairs["labels"] = label_tensor(scenes[part])
            for name, tensor in pairs.items():
                made.setdefault(f"{way} {name}", []).append(tensor)
    return {name: torch.cat(tensors) for name, tensors in made.items()}


def make_view(
    kind: Kind, task: Task, vae: Any, way: str, clips: Tensor, rng: random.Random
) -> dict[str, Tensor]:
    """What the transformer sees of uint8 clips, and what it's to make."""
    shown = show_all(kind, task, vae, way, clips, rng)
    latents = encode_all(kind, vae, clips)
    pictures = shown.condition[:, : latents.shape[1], : shown.pictures]
    return {
        "latents": torch.cat([pictures, latents], 2),
        "condition": shown.condition,
        "holes": shown.holes,
        "pictures": torch.tensor([shown.pictures]),
    }


def show_all(
    kind: Kind, task: Task, vae: Any, way: str, clips: Tensor, rng: random.Random
) -> Shown:
    def encode(videos: Tensor) -> Tensor:
        parts = [whitened(kind, vae, part) for part in videos.split(8)]
        return torch.cat(parts)

    return task.show(encode, way, clips, rng)


def joined(task: Task, parts: list[dict[str, Tensor]]) -> dict[str, Pairs]:
    """The parts' tensors of each way, in one."""

    def every(name: str) -> Tensor:
        return torch.cat([part[name] for part in parts if name in part])

    return {
        way: Pairs(
            every(f"{way} latents"),
            Shown(
                every(f"{way} condition"),
                every(f"{way} holes"),
                int(every(f"{way} pictures")[0]),
            ),
            [scene_of(row) for row in every(f"{way} labels").tolist()],
        )
        for way in task.WAYS
        if f"{way} latents" in parts[0]
    }
