"""How well a demo model follows its captions: ``python -m demo.evaluate``.

Captions are of combinations of attributes that were never drawn in training. Videos
are made as the app makes them, with the model's own defaults, and read by the judge,
which has seen rendered video only.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from demo.captions import canonical_caption, full_caption
from demo.judge import Judge, load_judge, read_attributes
from demo.scenes import ATTRIBUTES, Attributes, Scene, draw, label_tensor, split_scenes
from engine.family import LoadedModel, get_family, get_variant
from engine.loading.resident import ResidentModel
from engine.progress import Progress
from engine.settings import PROJECT, Settings
from engine.validate import accept

JUDGE = PROJECT / "ckpts" / "demo" / "judge.safetensors"
FIXED_SEEDS = tuple(range(10))
COLUMNS = 5
"""Frames of a clip in a picture of it."""


def scene_captions(
    count: int, wording: Callable[[Scene, random.Random], str], seed: int
) -> tuple[list[Scene], list[str]]:
    """Held-out scenes, each with a caption that was never drawn in training."""
    _, held_out = split_scenes()
    scenes = draw(held_out, count, torch.Generator().manual_seed(seed))
    rng = random.Random(seed)
    return scenes, [wording(scene, rng) for scene in scenes]


def score(
    judge: Judge,
    clips: Tensor,
    scenes: list[Scene],
    attributes: Attributes = ATTRIBUTES,
) -> dict[str, float]:
    """Percent right of each attribute, and of all at once."""
    right = torch.cat(
        [read_attributes(judge, part) for part in clips.split(32)]
    ) == label_tensor(scenes, attributes).to(clips.device)
    percent = (100 * right.float().mean(0)).tolist()
    result = {name: round(p, 1) for name, p in zip(attributes, percent, strict=True)}
    return {**result, "all": round(100 * right.all(1).float().mean().item(), 1)}


def strip(clips: Tensor, file: Path, columns: int = COLUMNS) -> None:
    """A picture with one row per clip: ``columns`` of its frames, left to right."""
    frames = torch.linspace(0, clips.shape[1] - 1, columns).round().long().tolist()
    rows = [torch.cat([clip[i] for i in frames], 1) for clip in clips]
    Image.fromarray(torch.cat(rows).cpu().numpy()).save(file)


def make_video(
    model: LoadedModel,
    prompt: str,
    *,
    settings: Settings | None = None,
    **values: object,
) -> Tensor:
    """Frames, uint8 (frames, height, width, 3), by the way that the app takes."""
    asked = {"model": model.variant.id, "prompt": prompt, **values}
    request = accept(asked, folder=None, settings=settings or Settings())
    family = get_family(model.variant.family)
    conditioning = family.encode(model, request)
    latents = family.denoise(
        model, conditioning, request, lambda *_: None, lambda _: None
    )
    frames = list(family.decode(model, latents, request))
    return torch.from_numpy(np.concatenate(frames))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="wan-demo")
    parser.add_argument("--count", type=int, default=200, help="how many captions")
    parser.add_argument("--gpu", default="cpu", help="device, such as cuda:0")
    parser.add_argument("--root", type=Path, help="folder with its own ckpts/")
    parser.add_argument("--steps", type=int, help="instead of the model's default")
    parser.add_argument("--guidance", type=float, help="likewise")
    parser.add_argument("--pictures", type=Path, help="PNG of ten seeds, unpicked")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    settings = Settings(gpu=options.gpu, root=options.root or PROJECT)
    progress = Progress("evaluation")
    model = ResidentModel(settings).get(get_variant(options.model), progress)
    chosen = {
        "num_inference_steps": options.steps,
        "guidance_scale": options.guidance,
    }
    values = {name: value for name, value in chosen.items() if value is not None}

    scenes, captions = scene_captions(options.count, full_caption, seed=4)
    clips = []
    for seed, caption in enumerate(captions):
        clips.append(make_video(model, caption, seed=seed, **values))
        print(f"\r{len(clips)} of {options.count}", end="", flush=True)
    figures = score(load_judge(JUDGE), torch.stack(clips), scenes)
    print("\n" + table(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.pictures:
        fixed, _ = scene_captions(len(FIXED_SEEDS), full_caption, seed=5)
        videos = [
            make_video(model, canonical_caption(scene), seed=seed, **values)
            for seed, scene in zip(FIXED_SEEDS, fixed, strict=True)
        ]
        strip(torch.stack(videos), options.pictures)


def table(figures: dict[str, float]) -> str:
    """The figures as Markdown."""
    names = " | ".join(figures)
    values = " | ".join(f"{value:.1f} %" for value in figures.values())
    return f"| {names} |\n|{' --- |' * len(figures)}\n| {values} |"


if __name__ == "__main__":
    main()
