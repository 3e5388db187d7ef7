"""LTX Video 13B of the real size, random weights, distilled in two passes at
1280 × 704 × 81, on a GPU: ``python -m bench.gpu_ltx``.

diffusers' own pipelines doing the same passes, then ours: resident, compiled, and under
caps on the GPU's memory with what ``auto`` chooses for such a card, and streamed and
compiled. Every run is a process of its own that makes its weights anew, which is faster
than reading 38 GB. Prints seconds for each phase and the peak of GPU memory in GiB: of
the second of two videos, but of the first where ``auto`` chose for a cap. Beside it
stands the peak that the app says beforehand.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
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
from bench.speed_networks import (
    CASES,
    TEXT,
    TINY_TEXT,
    draw_weights,
    make,
    on_gpu_in_bfloat16,
)

MODEL = "ltxv-13b-0.9.7-distilled"
ASKED = {
    "model": MODEL,
    "prompt": "a red ball moving left on grass at day",
    "width": 1280,
    "height": 704,
    "num_frames": 81,
    "seed": 1,
}
RUNS = (
    *("stock", "resident", "compiled"),
    *("24", "12", "8", "6"),
    *("24 streamed", "12 streamed", "8 streamed", "6 streamed"),
)
"""Numbers are caps in GiB."""
TINY_VAE = {
    "block_out_channels": (8, 16, 16, 16, 16),
    "decoder_block_out_channels": (8, 16, 32),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1),
}
TINY_UPSAMPLER = {"mid_channels": 64, "num_blocks_per_stage": 1}
PHASES = ("text", "first pass", "upsampling", "second pass", "decoding", "writing")
ALSO = ("passes", "peak GiB", "said GiB")


class Laps:
    """Seconds of each phase; waits for the GPU at each end."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        began = now()
        yield
        self.seconds[name] = now() - began
        print(f"{name}: {self.seconds[name]:.2f}", file=sys.stderr, flush=True)


def make_networks(*, tiny: bool = False, text_layers: int = 24) -> dict[str, Any]:
    """The real sizes, normal weights of deviation 0.02, bfloat16, on the GPU."""
    from diffusers import AutoencoderKLLTXVideo
    from diffusers.pipelines.ltx.modeling_latent_upsampler import (
        LTXLatentUpsamplerModel,
    )
    from transformers import T5Config, T5EncoderModel

    from engine.loading.layouts.ltx import RECENT_VAE

    text = {**TEXT, "vocab_size": 32128, "num_layers": text_layers}
    text |= TINY_TEXT if tiny else {}
    with on_gpu_in_bfloat16():
        networks = {
            "text_encoder": T5EncoderModel(
                T5Config(**text, feed_forward_proj="gated-gelu")
            ),
            "vae": AutoencoderKLLTXVideo(**RECENT_VAE | (TINY_VAE if tiny else {})),
            "latent_upsampler": LTXLatentUpsamplerModel(
                **(TINY_UPSAMPLER if tiny else {})
            ),
        }
    draw_weights(*networks.values())
    for network in networks.values():
        network.eval().requires_grad_(False)
    return {**networks, "transformer": make(CASES["ltx13b"], tiny=tiny)}


def write(frames: Iterator[Any], request: Any, folder: Path, laps: Laps) -> None:
    """Decode all frames, then write them, to time one after the other."""
    from engine.media.video import VideoWriter

    with laps.lap("decoding"):
        made = list(frames)
    with (
        laps.lap("writing"),
        VideoWriter(
            folder / "video.mp4",
            width=request.width,
            height=request.height,
            fps=request.fps,
            tags={},
        ) as video,
    ):
        for chunk in made:
            video.write(chunk)


def run_stock(request: Any, folder: Path) -> Laps:
    """diffusers' pipelines, all on the GPU."""
    import torch
    from diffusers import LTXLatentUpsamplePipeline

    networks = make_networks()
    upsampler = networks.pop("latent_upsampler")
    pipeline = stock_pipeline(networks)
    upsampling = LTXLatentUpsamplePipeline(vae=pipeline.vae, latent_upsampler=upsampler)
    make_stock_video(pipeline, upsampling, request, folder)
    torch.cuda.reset_peak_memory_stats()
    return make_stock_video(pipeline, upsampling, request, folder)


def make_stock_video(
    pipeline: Any, upsampling: Any, request: Any, folder: Path
) -> Laps:
    import torch

    from engine.family import get_variant
    from ltx_video.sizes import Size, doubled, first_size
    from ltx_video.variants import config_of

    laps = Laps()
    config = config_of(get_variant(MODEL))
    assert config.first_pass.timesteps and config.second_pass
    with torch.no_grad(), laps.lap("text"):
        embeds, mask, _, _ = pipeline.encode_prompt(
            request.prompt, do_classifier_free_guidance=False
        )
    shared = {
        "prompt_embeds": embeds,
        "prompt_attention_mask": mask,
        "num_frames": request.num_frames,
        "frame_rate": request.fps,
        "guidance_scale": 1.0,
        "generator": torch.Generator("cpu").manual_seed(request.seed),
        "output_type": "latent",
    }
    whole = Size(request.width, request.height)
    small = first_size(whole, config.downscale_factor)
    large = doubled(small)._asdict()
    with laps.lap("first pass"):
        levels = torch.tensor(config.first_pass.timesteps)
        small_latents = pipeline(
            **shared, **small._asdict(), timesteps=levels * 1000
        ).frames
    with laps.lap("upsampling"):
        latents = upsampling(
            latents=small_latents, **large, adain_factor=1.0, output_type="latent"
        ).frames
    with laps.lap("second pass"):
        # Of four steps the last three, which begin with noise of the first level.
        levels = torch.tensor([1.0, *(config.second_pass.timesteps or ())])
        latents = pipeline(
            **shared,
            **large,
            timesteps=levels * 1000,
            latents=latents,
            denoise_strength=0.75,
        ).frames
    write(stock_frames(pipeline, latents, config, whole), request, folder, laps)
    return laps


def stock_pipeline(networks: dict[str, Any]) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, LTXConditionPipeline

    from demo.text import make_tokenizer

    return LTXConditionPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        tokenizer=make_tokenizer(256),
        **networks,
    )


def stock_frames(pipeline: Any, latents: Any, config: Any, whole: Any) -> Iterator[Any]:
    """Decoded whole, scaled to the size of the video."""
    import torch

    from ltx_video.decode import resized, to_uint8

    vae = pipeline.vae
    with torch.no_grad():
        raw = pipeline._denormalize_latents(latents, vae.latents_mean, vae.latents_std)
        raw = raw.to(vae.dtype)
        timestep = torch.tensor([config.decode_timestep]).to(raw)
        video = vae.decode(raw, timestep, return_dict=False)[0]
    for start in range(0, video.shape[2], 8):
        yield to_uint8(resized(video[:, :, start : start + 8], whole))


def run_ours(request: Any, folder: Path, name: str) -> Laps:
    """The family's own code, placed as the engine places it."""
    import torch
    from diffusers import FlowMatchEulerDiscreteScheduler

    from demo.text import make_tokenizer
    from engine.family import get_variant
    from engine.footprint import working_bytes
    from engine.loading.offload import place
    from engine.progress import Progress
    from ltx_video.pipeline import LtxPipeline

    networks = make_networks()
    cap = cap_of(name)
    if cap:
        for network in networks.values():
            network.to("cpu")
        limit_memory(cap * GIB)
    pipeline = LtxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        tokenizer=make_tokenizer(256),
        **networks,
    )
    variant = get_variant(MODEL)
    progress = Progress("bench", lambda event: print(event, file=sys.stderr))
    working = working_bytes(variant, request)
    model = place(variant, pipeline, "cuda:0", settings_of(name), progress, working)
    if is_repeated(name):
        make_our_video(model, request, folder)
    torch.cuda.reset_peak_memory_stats()
    return make_our_video(model, request, folder)


def make_our_video(model: Any, request: Any, folder: Path) -> Laps:
    from engine.family import get_family

    laps, family = Laps(), get_family("ltx_video")
    with laps.lap("text"):
        conditioning = family.encode(model, request)
    began: list[tuple[str, float]] = []
    latents = family.denoise(
        model,
        conditioning,
        request,
        lambda *_: None,
        lambda phase: began.append((phase, now())),
    )
    ends = [moment for _, moment in began[1:]] + [now()]
    for (phase, start), end in zip(began, ends, strict=True):
        laps.seconds[phase] = end - start
    model.make_room()
    write(family.decode(model, latents, request), request, folder, laps)
    return laps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", default=",".join(RUNS))
    parser.add_argument(
        "--seconds", type=float, default=540, help="end after these, whatever is left"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    runs = options.runs.split(",")
    if not set(runs) <= set(RUNS):
        parser.error(f"--runs: choose from {','.join(RUNS)}")
    end = time.monotonic() + options.seconds
    print("| run | " + " | ".join((*PHASES, *ALSO)) + " |")
    print("|---" * (1 + len(PHASES) + len(ALSO)) + "|", flush=True)
    for run in runs:
        print(in_process(run, end - time.monotonic()), flush=True)


def in_process(run: str, seconds: float) -> str:
    """A row of the table."""
    command = [sys.executable, "-m", "bench.gpu_ltx", "--one", run]
    try:
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return f"| {run} | no time left |"
    if done.returncode:
        return f"| {run} | failed ({done.returncode}): see above |"
    found = json.loads(done.stdout.splitlines()[-1])
    cells = [f"{found[name]:.2f}" for name in (*PHASES, *ALSO)]
    return f"| {run} | " + " | ".join(cells) + " |"


def measure(name: str) -> dict[str, float]:
    import torch

    from engine.settings import Settings
    from engine.validate import accept

    request = accept(ASKED, folder=None, settings=Settings())
    with tempfile.TemporaryDirectory() as folder:
        if name == "stock":
            laps = run_stock(request, Path(folder))
        else:
            laps = run_ours(request, Path(folder), name)
    seconds = laps.seconds
    passes = seconds["first pass"] + seconds["second pass"]
    peak = torch.cuda.max_memory_allocated() / GIB
    said = 0.0 if name == "stock" else estimated_gib(request, settings_of(name).profile)
    found = (passes, peak, said)
    return {**seconds, **dict(zip(ALSO, found, strict=True))}


if __name__ == "__main__":
    main()
