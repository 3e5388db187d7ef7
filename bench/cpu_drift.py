"""How far 8 bits move the demo model's videos: ``python -m bench.cpu_drift [--count N]
[--judge] [--gpu cuda:0]``.

For each way: the videos' PSNR to the exact ones, and with ``--judge`` how many
attributes the judge reads right; that needs some 200 captions to tell a point. A CPU
multiplies no 8-bit floats: it rounds them as a GPU does, and multiplies in float32.
With ``--gpu`` the kernels are the real ones, and attention in 8 bits is among the rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from statistics import mean

import torch
from torch import Tensor

from bench.cpu_step_cache import psnr, right
from demo.captions import full_caption
from demo.evaluate import JUDGE, make_video, scene_captions
from demo.judge import load_judge
from engine.family import LoadedModel, get_variant
from engine.loading import products
from engine.loading.resident import ResidentModel
from engine.progress import Progress
from engine.settings import Settings

MODEL = "wan-demo"
WAYS = {
    "exact": ("auto", "exact"),
    "int8": ("auto", "int8"),
    "fp8": ("auto", "fp8"),
    "flash3-fp8": ("flash3-fp8", "exact"),
}
"""Name → attention and products."""

# The demo model is small: of its layers' products none would be in 8 bits.
products.LEAST_WIDTH = products.FEW_TOKENS = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--count", type=int, default=4, help="how many captions")
    parser.add_argument("--judge", action="store_true", help="count attributes, too")
    parser.add_argument("--gpu", default="cpu", help="device, such as cuda:0")
    options = parser.parse_args()
    on_cpu = options.gpu == "cpu"
    if on_cpu:
        torch.set_num_threads(1)  # as fast as two beside other work, and repeatable
    scenes, captions = scene_captions(options.count, full_caption, seed=4)
    judge = load_judge(JUDGE) if options.judge else None
    exact: list[Tensor] = []
    print("| 8 bits | PSNR, mean | lowest | right |")
    print("| --- | ---: | ---: | ---: |")
    for name, (attention, kind) in WAYS.items():
        if on_cpu and attention != "auto":
            continue
        model = load(Settings(gpu=options.gpu, attention=attention), kind)
        clips = make_clips(model, captions)
        exact = exact or clips
        found = [psnr(*pair) for pair in zip(clips, exact, strict=True)]
        told = f"| {name} | {mean(found):.1f} dB | {min(found):.1f} dB |"
        print(f"{told} {right(judge, clips, scenes)} |", flush=True)


def load(settings: Settings, kind: str) -> LoadedModel:
    model = ResidentModel(settings).get(get_variant(MODEL), Progress("benchmark"))
    if kind != "exact":
        products.replace_linears(model.pipeline.transformer, kind)
    return model


def make_clips(model: LoadedModel, captions: Sequence[str]) -> list[Tensor]:
    return [make_video(model, each, seed=seed) for seed, each in enumerate(captions)]


if __name__ == "__main__":
    main()
