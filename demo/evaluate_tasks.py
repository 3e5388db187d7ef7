"""How well a demo model does what images and videos ask of it:
``python -m demo.evaluate_tasks --model wan-demo-i2v``.

Clips are rendered from combinations of attributes that were never drawn in training.
Videos are made as the app makes them, with the model's own defaults. Measured are the
PSNR of what must be kept, and what the judge reads.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from demo.clips import sample_clips
from demo.evaluate import JUDGE, make_video, score, strip
from demo.judge import load_judge
from demo.render import render
from demo.scenes import Scene, draw, split_scenes
from demo.trainer import FRAMES
from demo.trials import Make, Shelf, decibels, trials_of
from engine.family import LoadedModel, get_variant
from engine.loading.resident import ResidentModel
from engine.progress import Progress
from engine.settings import Settings


@dataclass(frozen=True)
class Clips:
    """Rendered ones, uint8 (clips, frames, height, width, 3), with their scenes."""

    videos: torch.Tensor
    scenes: list[Scene]


def held_out_clips(count: int, size: int) -> Clips:
    """Square clips, rendered on the CPU one by one."""
    generator = torch.Generator().manual_seed(6)
    scenes = draw(split_scenes()[1], count, generator)
    videos = [
        render(sample_clips([scene], FRAMES, generator), size, size)[0]
        for scene in scenes
    ]
    return Clips(torch.stack(videos), scenes)


def measure(
    model: LoadedModel,
    make: Make,
    clips: Clips,
    settings: Settings,
    picture: Path | None = None,
) -> dict[str, float]:
    """The mean and worst PSNR of what is kept, and percents of what the judge reads."""
    shelf = Shelf(settings.media)
    videos, asked, kept = [], [], []
    for seed, (clip, scene) in enumerate(zip(clips.videos, clips.scenes, strict=True)):
        trial = make(clip, scene, shelf)
        made = make_video(
            model, trial.prompt, settings=settings, seed=seed, **trial.media
        )
        videos.append(made)
        asked.append(trial.scene)
        if trial.kept is not None:
            kept.append(decibels(made, clip, trial.kept))
    if picture is not None:
        pairs = torch.cat([clips.videos[:6], torch.stack(videos[:6])], 2)
        strip(pairs, picture)
    figures = score(load_judge(JUDGE), torch.stack(videos), asked)
    if not kept:
        return figures
    mean = round(sum(kept) / len(kept), 1)
    return {"kept (dB)": mean, "worst (dB)": round(min(kept), 1), **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="wan-demo")
    parser.add_argument("--count", type=int, default=20, help="how many clips of each")
    parser.add_argument("--gpu", default="cpu", help="device, such as cuda:0")
    parser.add_argument("--root", type=Path, help="folder with its own ckpts/")
    parser.add_argument("--pictures", type=Path, help="folder for pictures")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    variant = get_variant(options.model)
    figures = {}
    with tempfile.TemporaryDirectory() as empty:
        settings = Settings(root=options.root or Path(empty), gpu=options.gpu)
        model = ResidentModel(settings).get(variant, Progress("evaluation"))
        clips = held_out_clips(options.count, int(variant.defaults["width"]))
        for name, make in trials_of(variant).items():
            picture = None
            if options.pictures:
                options.pictures.mkdir(parents=True, exist_ok=True)
                picture = options.pictures / f"{name.replace(' ', '-')}.png"
            figures[name] = measure(model, make, clips, settings, picture)
            print(f"{name}: {figures[name]}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
