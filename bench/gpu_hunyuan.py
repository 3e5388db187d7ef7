"""HunyuanVideo 13B at 960 × 544 × 81 and HunyuanVideo 1.5 (8.3B) at 848 × 480 × 121,
random weights of the real sizes, on a GPU: ``python -m bench.gpu_hunyuan --model 1.5``.

diffusers' own pipeline, its VAE tiled as its documentation has it, then ours: resident,
compiled, and under caps on the GPU's memory with what ``auto`` chooses for such a card,
and streamed and compiled.
Every run is a process of its own that makes its weights anew. Prints seconds for the
text, for a step and for decoding, and the peaks of GPU memory in GiB while denoising
and while decoding: of the second of two videos, but of the first where ``auto`` chose
for a cap; then the peak that the app says beforehand. A step is the mean of those after
the first.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from bench.caps import (
    GIB,
    cap_of,
    estimated_gib,
    is_repeated,
    limit_memory,
    settings_of,
)
from bench.clock import now
from bench.hunyuan_networks import make_networks, make_tokenizers

MODELS = {"hunyuan": "hunyuan-video-t2v", "1.5": "hunyuan-video-1.5-t2v-480p"}
RUNS = (
    *("stock", "resident", "compiled"),
    *("24", "14", "8", "24 streamed", "14 streamed", "8 streamed"),
)
"""Numbers are caps in GiB."""
COLUMNS = ("text", "step", "decoding", "denoising GiB", "decoding GiB", "said GiB")
PROMPT = (
    "A small wooden boat with a red sail crosses a wide bay at dusk while gulls circle "
    "above it, the water is dark and calm, lanterns are lit along the harbour wall, "
    "the camera glides over the bow and follows the boat from the side, soft light, "
    "fine mist, slow and steady motion, shallow depth of field"
)
TINY = {"width": 64, "height": 48, "num_frames": 9}
"""With ``--tiny``: for a try without a GPU."""


@dataclass
class Course:
    """Seconds of each phase, the ends of all steps, peaks of memory; waits for the GPU
    at each end."""

    found: dict[str, float] = field(default_factory=dict)
    ends: list[float] = field(default_factory=list)

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        began = now()
        yield
        self.note(name, now() - began)

    @contextmanager
    def peak(self, name: str) -> Iterator[None]:
        import torch

        has_gpu = torch.cuda.is_available()
        if has_gpu:
            torch.cuda.reset_peak_memory_stats()
        yield
        most = torch.cuda.max_memory_allocated() if has_gpu else 0
        self.note(f"{name} GiB", most / GIB)

    def on_step(self, _done: int, _total: int, _latents: Any) -> None:
        self.ends.append(now())

    def steps_told(self) -> None:
        self.note("step", (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1))

    def note(self, name: str, value: float) -> None:
        """Also told at once: what comes after it may fail."""
        self.found[name] = value
        print(f"{name}: {value:.2f}", file=sys.stderr, flush=True)


def request_for(model: str, steps: int, *, tiny: bool) -> Any:
    """What the row makes by default, in few steps."""
    from engine.family import get_variant
    from engine.request import GenerationRequest

    variant = get_variant(MODELS[model])
    return GenerationRequest.model_validate(
        {
            **variant.defaults,
            **(TINY if tiny else {}),
            "model": variant.id,
            "prompt": PROMPT,
            "num_inference_steps": steps,
            "seed": 1,
        }
    )


def run_stock(model: str, request: Any, parts: dict[str, Any]) -> Course:
    """diffusers' pipeline, all on the GPU."""
    pipeline = stock_pipeline(model, parts, request)
    pipeline.vae.enable_tiling()
    make_stock_video(model, pipeline, request.with_values(num_inference_steps=2))
    return make_stock_video(model, pipeline, request)


def stock_pipeline(model: str, parts: dict[str, Any], request: Any) -> Any:
    from diffusers import (
        ClassifierFreeGuidance,
        FlowMatchEulerDiscreteScheduler,
        HunyuanVideo15Pipeline,
        HunyuanVideoPipeline,
    )

    scheduler = FlowMatchEulerDiscreteScheduler(shift=request.flow_shift)
    if model == "hunyuan":
        return HunyuanVideoPipeline(**parts, scheduler=scheduler)
    guider = ClassifierFreeGuidance(guidance_scale=request.guidance_scale)
    return HunyuanVideo15Pipeline(**parts, scheduler=scheduler, guider=guider)


def make_stock_video(model: str, pipeline: Any, request: Any) -> Course:
    import torch

    from engine.sampling.reporting import reporting

    course = Course()
    with torch.no_grad(), course.lap("text"):
        texts = stock_texts(model, pipeline, request)
    guidance = {"guidance_scale": request.guidance_scale} if model == "hunyuan" else {}
    plain, pipeline.scheduler = (
        pipeline.scheduler,
        reporting(pipeline.scheduler, course.on_step),
    )
    with course.peak("denoising"):
        (latents,) = pipeline(
            **texts,
            **guidance,
            width=request.width,
            height=request.height,
            num_frames=request.num_frames,
            num_inference_steps=request.num_inference_steps,
            generator=torch.Generator("cpu").manual_seed(request.seed),
            output_type="latent",
            return_dict=False,
        )
    course.steps_told()
    pipeline.scheduler = plain
    with torch.no_grad(), course.peak("decoding"), course.lap("decoding"):
        vae = pipeline.vae
        raw = latents.to(vae.dtype) / vae.config.scaling_factor
        video = vae.decode(raw, return_dict=False)[0]
        pipeline.video_processor.postprocess_video(video, output_type="np")
    return course


def stock_texts(model: str, pipeline: Any, request: Any) -> dict[str, Any]:
    """Padded, as diffusers has them."""
    if model == "hunyuan":
        names = ("prompt_embeds", "pooled_prompt_embeds", "prompt_attention_mask")
        return dict(zip(names, pipeline.encode_prompt(request.prompt), strict=True))
    names = (
        *("prompt_embeds", "prompt_embeds_mask"),
        *("prompt_embeds_2", "prompt_embeds_mask_2"),
    )
    texts = {}
    for prefix, prompt in (("", request.prompt), ("negative_", "")):
        found = pipeline.encode_prompt(prompt, dtype=pipeline.transformer.dtype)
        own = [prefix + name for name in names]
        texts |= dict(zip(own, found, strict=True))
    return texts


def run_ours(model: str, request: Any, parts: dict[str, Any], name: str) -> Course:
    """The family's own code, placed as the engine places it."""
    import torch

    from engine.family import get_variant
    from engine.footprint import working_bytes
    from engine.loading.offload import place
    from engine.progress import Progress

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    cap = cap_of(name)
    if cap and device != "cpu":
        for part in parts.values():
            if isinstance(part, torch.nn.Module):
                part.to("cpu")
        limit_memory(cap * GIB)
    variant = get_variant(request.model)
    progress = Progress("bench", lambda event: print(event, file=sys.stderr))
    working = working_bytes(variant, request)
    pipeline = our_pipeline(model, parts)
    loaded = place(variant, pipeline, device, settings_of(name), progress, working)
    if is_repeated(name):
        make_our_video(loaded, request.with_values(num_inference_steps=2))
    return make_our_video(loaded, request)


def our_pipeline(model: str, parts: dict[str, Any]) -> Any:
    if model == "1.5":
        from hyvideo import hunyuan15

        return hunyuan15.assemble(parts)
    from diffusers import FlowMatchEulerDiscreteScheduler, HunyuanVideoPipeline

    from hyvideo.attention import attend_without_mask
    from hyvideo.hunyuan import name_blocks

    attend_without_mask(parts["transformer"])
    name_blocks(parts["transformer"])
    return HunyuanVideoPipeline(**parts, scheduler=FlowMatchEulerDiscreteScheduler())


def make_our_video(model: Any, request: Any) -> Course:
    from engine.family import get_family

    course, family = Course(), get_family("hyvideo")
    with course.lap("text"):
        conditioning = family.encode(model, request)
    with course.peak("denoising"):
        latents = family.denoise(
            model, conditioning, request, course.on_step, lambda _phase: None
        )
    course.steps_told()
    model.make_room()
    with course.peak("decoding"), course.lap("decoding"):
        for _chunk in family.decode(model, latents, request):
            pass
    return course


def measure(
    run: str, model: str, steps: int, *, tiny: bool = False
) -> dict[str, float]:
    """What stands in the table, by its columns."""
    parts = {**make_networks(model, tiny=tiny), **make_tokenizers(model)}
    request = request_for(model, steps, tiny=tiny)
    if run == "stock":
        course = run_stock(model, request, parts)
    else:
        course = run_ours(model, request, parts, run)
    said = 0.0 if run == "stock" else estimated_gib(request, settings_of(run).profile)
    return {**course.found, "said GiB": said}


def in_process(run: str, options: argparse.Namespace, seconds: float) -> str:
    """A row of the table."""
    command = [sys.executable, "-m", "bench.gpu_hunyuan", "--one", run]
    command += ["--model", options.model, "--steps", str(options.steps)]
    command += ["--tiny"] if options.tiny else []
    try:
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return f"| {run} | no time left |"
    if done.returncode:
        return f"| {run} | failed ({done.returncode}): see above |"
    found = json.loads(done.stdout.splitlines()[-1])
    cells = [f"{found[name]:.2f}" for name in COLUMNS]
    return f"| {run} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=MODELS, default="hunyuan")
    parser.add_argument("--runs", default=",".join(RUNS))
    parser.add_argument("--steps", type=int, default=3, help="of a video; at least 2")
    parser.add_argument(
        "--seconds", type=float, default=540, help="end after these, whatever is left"
    )
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--one", choices=RUNS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps < 2:
        parser.error("--steps: at least 2, because the first isn't counted")
    if options.one:
        found = measure(options.one, options.model, options.steps, tiny=options.tiny)
        print(json.dumps(found))
        return
    runs = options.runs.split(",")
    if not set(runs) <= set(RUNS):
        parser.error(f"--runs: choose from {','.join(RUNS)}")
    end = time.monotonic() + options.seconds
    print("| run | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|", flush=True)
    for run in runs:
        print(in_process(run, options, end - time.monotonic()), flush=True)


if __name__ == "__main__":
    main()
