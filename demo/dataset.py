"""The training set in latents, in parts that are made once and kept.

Each rendered clip gives four: itself, its mirror image, and both run backwards.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from demo.clock import Clock
from demo.codec import to_model
from demo.denoiser import Latents
from demo.evaluate import score
from demo.judge import look, save_judge, train_judge
from demo.kind import Kind, Pin
from demo.scenes import Scene, label_tensor, scene_of, split_scenes
from demo.trainer import FRAMES, Trainer, replacing

PARTS, CLIPS = 24, 256
SECONDS = 260.0
"""No part is begun after so many, the renderer's compilation included."""
JUDGE_PARTS, JUDGE_SECONDS, JUDGE_CLIPS = 24, 240.0, 512
PINNED_FRAMES = (FRAMES - 1, FRAMES - 1, 8, 16, 24)
PINNED_CLIPS = (8, 16, 24)
CLIP_LENGTH = 9


@torch.no_grad()
def make_latents(trainer: Trainer, vae: Any) -> Latents | None:
    """The training set, and the judge with it; None if time ran out."""
    folder = trainer.state / "latents"
    folder.mkdir(exist_ok=True)
    made = len(list(folder.glob("*.safetensors")))
    clock = Clock(trainer.spent("latents") if made else 0.0, SECONDS, trainer.until)
    for number in range(made, PARTS):
        if clock.is_over():
            break
        part = make_part(trainer, vae, number)
        with replacing(folder / f"{number:03}.safetensors") as file:
            save_file(part, file)
        trainer.done("latents", clock.spent())
    files = sorted(folder.glob("*.safetensors"))
    trainer.log(f"{len(files) * CLIPS * 4} clips rendered and encoded")
    if trainer.is_over():
        return None
    parts = [load_file(file, device=trainer.device) for file in files]
    if not (trainer.state / "judge.safetensors").exists():
        make_judge(trainer, parts[:JUDGE_PARTS])
    return joined(trainer.kind, parts)


def joined(kind: Kind, parts: list[dict[str, Tensor]]) -> Latents:
    """The parts' tensors, each kind of them in one."""
    whole = {
        name: torch.cat([part[name] for part in parts])
        for name in parts[0]
        if name != "seen"
    }
    return Latents(
        {size: whole[f"latents {size}"] for size in kind.SIZES},
        {
            f"{name} {size}": Pin(whole[f"{name} {size}"], whole[f"{name} at"])
            for name in ("frame", "clip")
            for size in kind.SIZES
            if kind.GIVEN.others
        },
        [scene_of(row) for row in whole["labels"].tolist()],
    )


def make_part(trainer: Trainer, vae: Any, number: int) -> dict[str, Tensor]:
    """Rendered clips, four ways each: latents, given frames, labels, what the judge
    sees."""
    kind, rng = trainer.kind, random.Random(number)
    frame, begin = rng.choice(PINNED_FRAMES), rng.choice(PINNED_CLIPS)
    part: dict[str, list[Tensor]] = {}
    for view, known in rendered(trainer, number):
        for name, tensor in known.items():
            part.setdefault(name, []).append(tensor)
        for size in kind.SIZES:
            sized = resized(view, size)
            shown = {"latents": sized}
            if kind.GIVEN.others:
                shown["frame"] = sized[:, frame : frame + 1]
                shown["clip"] = sized[:, begin : begin + CLIP_LENGTH]
            for name, frames in shown.items():
                latents = encode_all(kind, vae, frames)
                part.setdefault(f"{name} {size}", []).append(latents)
    made = {name: torch.cat(tensors) for name, tensors in part.items()}
    for name, at in (("frame at", frame), ("clip at", begin)):
        made[name] = torch.full((len(made["labels"]),), at)
    return made


def rendered(
    trainer: Trainer, number: int
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """The clips of a part in each of the four ways, with their labels and what the
    judge sees of them."""
    clips, drawn = trainer.clips(split_scenes()[0], CLIPS, seed=10_000 + number)
    for view, scenes in turned(clips, drawn):
        labels = label_tensor(scenes).to(view.device)
        yield view, {"labels": labels, "seen": look(view)}


@torch.no_grad()
def make_judge_alone(trainer: Trainer) -> None:
    """The judge, from clips that aren't kept."""
    parts = [
        known for number in range(JUDGE_PARTS) for _, known in rendered(trainer, number)
    ]
    trainer.log(f"{len(parts) * CLIPS} clips rendered")
    make_judge(trainer, parts)


def make_judge(trainer: Trainer, parts: list[dict[str, Tensor]]) -> None:
    seen = torch.cat([part["seen"] for part in parts])
    labels = torch.cat([part["labels"] for part in parts])
    with torch.enable_grad():
        judge = train_judge(seen, labels, seconds=JUDGE_SECONDS)
    with replacing(trainer.state / "judge.safetensors") as file:
        save_judge(judge, file)
    _, held_out = split_scenes()
    clips, drawn = trainer.clips(held_out, JUDGE_CLIPS, seed=2)
    trainer.log(f"judge on held-out renders: {score(judge, clips, drawn)}")


def turned(clips: Tensor, scenes: list[Scene]) -> Iterator[tuple[Tensor, list[Scene]]]:
    """Clips (clips, frames, height, width, 3) and their mirror images, forwards and
    backwards, with what then moves the other way."""
    other = {"left": "right", "right": "left"}
    swapped = [replace(s, motion=other.get(s.motion, s.motion)) for s in scenes]
    yield clips, scenes
    yield clips.flip(3), swapped
    yield clips.flip(1), swapped
    yield clips.flip(1, 3), scenes


def resized(clips: Tensor, size: int) -> Tensor:
    """uint8 clips (clips, frames, h, w, 3) at size × size, averaged over pixels."""
    if clips.shape[2] == size:
        return clips
    made = []
    for part in clips.split(16):
        flat = part.flatten(0, 1).permute(0, 3, 1, 2).float()
        small = F.interpolate(flat, (size, size), mode="bilinear", antialias=True)
        pixels = small.round().to(torch.uint8).permute(0, 2, 3, 1)
        made.append(pixels.unflatten(0, part.shape[:2]))
    return torch.cat(made)


def encode_all(kind: Kind, vae: Any, clips: Tensor) -> Tensor:
    """Whitened latents, bfloat16 (clips, channels, frames, h, w)."""
    return torch.cat([whitened(kind, vae, to_model(part)) for part in clips.split(8)])


def whitened(kind: Kind, vae: Any, videos: Tensor) -> Tensor:
    """The same of videos (clips, 3, frames, h, w) in -1..1, all together."""
    mean, deviation = kind.latent_scale(vae)
    with torch.autocast(videos.device.type, torch.bfloat16):
        latents = kind.encode(vae, videos)[0].float()
    return ((latents - mean) / deviation).bfloat16().contiguous()


def load_vae(trainer: Trainer) -> Any:
    """The trained VAE, on the training's device."""
    made = type(trainer.kind.make_vae()).from_pretrained(vae_folder(trainer))
    return trainer.kind.quicken(made).to(trainer.device)


def is_saved(trainer: Trainer) -> bool:
    """Whether the trained VAE is there: a call may end between training and saving."""
    return any(vae_folder(trainer).glob("*.safetensors"))


def vae_folder(trainer: Trainer) -> Path:
    return trainer.state / "vae"
