"""What the step cache saves and what it changes, on the demo model in 20 steps:
``python -m bench.cpu_step_cache [--count N] [--judge]``.

For each threshold: how many times fewer the transformer is called, and the video's PSNR
to the one without a cache. With ``--judge`` also how many attributes the judge reads
right, with and without it; that needs some 200 captions to tell a point. Beside them
stands diffusers' first-block cache, which skips all blocks but the first.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from statistics import mean
from typing import Any

import torch
from diffusers import FirstBlockCacheConfig
from torch import Tensor

from demo.captions import full_caption
from demo.evaluate import JUDGE, make_video, scene_captions, score
from demo.judge import Judge, load_judge
from demo.scenes import Scene
from engine.family import LoadedModel, get_variant
from engine.loading.resident import ResidentModel
from engine.progress import Progress
from engine.sampling.step_cache import DEFAULT_THRESHOLD, Calls, steps_forecast
from engine.settings import Settings

MODEL = "wan-demo"
STEPS = 20
COLUMNS = (
    *("cache", "threshold", "calls", "fewer", "PSNR mean", "lowest", "s/video"),
    "right",
)
THRESHOLDS = (0.004, 0.008, DEFAULT_THRESHOLD, 0.02, 0.04)
FIRST_BLOCK = (0.1, 0.15, 0.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--count", type=int, default=4, help="how many captions")
    parser.add_argument("--judge", action="store_true", help="count attributes, too")
    parser.add_argument("--only-default", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as fast as two beside other work, and repeatable
    model = ResidentModel(Settings(gpu="cpu")).get(
        get_variant(MODEL), Progress("benchmark")
    )
    scenes, captions = scene_captions(options.count, full_caption, seed=4)
    judge = load_judge(JUDGE) if options.judge else None
    plain = run(model, captions, lambda: nullcontext(Calls()))
    print(f"| {' | '.join(COLUMNS)} |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, threshold, cache in caches(model, only_default=options.only_default):
        made = plain if name == "none" else run(model, captions, cache)
        told = made.row(name, threshold, plain)
        print(f"{told} {right(judge, made.clips, scenes)} |", flush=True)


Cache = Callable[[], AbstractContextManager[Calls]]


def caches(
    model: LoadedModel, *, only_default: bool
) -> Iterator[tuple[str, float, Cache]]:
    """Name, threshold, and what is put around a video."""
    pipeline = model.pipeline
    yield "none", 0.0, lambda: nullcontext(Calls())
    for limit in (DEFAULT_THRESHOLD,) if only_default else THRESHOLDS:
        yield "forecast", limit, lambda limit=limit: steps_forecast(pipeline, limit)
    for limit in () if only_default else FIRST_BLOCK:
        yield "first block", limit, lambda limit=limit: first_block(pipeline, limit)


@contextmanager
def first_block(pipeline: Any, threshold: float) -> Iterator[Calls]:
    """Diffusers' first-block cache; a call that computes all blocks counts as one."""
    transformer, calls = pipeline.transformer, Calls()

    def count(_module: Any, _arguments: Any) -> None:
        calls.asked += 1
        calls.forecast += 1

    def computed(_module: Any, _arguments: Any) -> None:
        calls.forecast -= 1

    transformer.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    hooks = [
        transformer.register_forward_pre_hook(count),
        transformer.blocks[-1].ffn.register_forward_pre_hook(computed),
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()
        transformer.disable_cache()


class Made:
    """The videos of one setting."""

    def __init__(self, clips: list[Tensor], calls: list[Calls], seconds: float) -> None:
        self.clips = clips
        self.calls = calls
        self.seconds = seconds

    def row(self, name: str, threshold: float, plain: Made) -> str:
        done = [each.asked - each.forecast or STEPS for each in self.calls]
        each = [psnr(*pair) for pair in zip(self.clips, plain.clips, strict=True)]
        return (
            f"| {name} | {threshold or ''} | {mean(done):.1f} | "
            f"{STEPS / mean(done):.2f}× | {mean(each):.1f} dB | {min(each):.1f} dB | "
            f"{self.seconds:.1f} |"
        )


def run(model: LoadedModel, captions: Sequence[str], cache: Cache) -> Made:
    clips, calls, began = [], [], time.perf_counter()
    for seed, caption in enumerate(captions):
        with cache() as counted:
            clips.append(
                make_video(model, caption, seed=seed, num_inference_steps=STEPS)
            )
        calls.append(counted)
    return Made(clips, calls, (time.perf_counter() - began) / len(captions))


def psnr(clip: Tensor, other: Tensor) -> float:
    """In dB, of uint8 clips."""
    error = float(((clip.float() - other.float()) ** 2).mean())
    return 10 * math.log10(255**2 / error) if error else math.inf


def right(judge: Judge | None, clips: Sequence[Tensor], scenes: list[Scene]) -> str:
    """How many of all attributes the judge reads right, in words."""
    if judge is None:
        return ""
    figures = score(judge, torch.stack(list(clips)), scenes)
    found = mean(value for name, value in figures.items() if name != "all")
    return f"{found:.1f} %"


if __name__ == "__main__":
    main()
