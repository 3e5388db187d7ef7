"""Wan 2.1 of the real size, random weights, on a GPU, under each memory profile and
under caps on the GPU's memory: ``python -m bench.gpu_wan``.

Every run is a process of its own: load, encode, denoise two steps at 832 × 480 × 81,
decode. Prints seconds, the peak of GPU memory beside the one that the app says
beforehand, and how far the latents are from those of diffusers' pipeline called
directly with the same weights and seed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.caps import GIB, estimated_gib, limit_memory
from bench.clock import now
from bench.speed_networks import (
    CASES,
    TEXT,
    TINY_TEXT,
    draw_weights,
    make,
    on_gpu_in_bfloat16,
)
from bench.speed_vae import TINY as TINY_VAE

if TYPE_CHECKING:
    from engine.events import Event

MODEL = "wan2.1-t2v-1.3b"
MODELS = {MODEL: "wan1.3b", "wan2.1-t2v-14b": "wan14b"}
"""With their cases."""
COLUMNS = (
    *("load", "encode", "denoise", "last step", "decode"),
    *("peak GiB", "said GiB"),
)
PROMPT = "a red ball moving left on grass at day"
STEPS = 2


def write_weights(
    folder: Path, case: str, *, tiny: bool = False, text_layers: int = 24
) -> None:
    """The real sizes, normal weights of deviation 0.02, in diffusers' layout; nothing
    where they are already. Fewer ``text_layers`` take less of the disk."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline
    from transformers import UMT5Config, UMT5EncoderModel

    from demo.text import make_tokenizer

    if (folder / "model_index.json").exists():
        return
    tokenizer = make_tokenizer(512)
    text = {**TEXT, "vocab_size": 256384, "num_layers": text_layers}
    text |= TINY_TEXT if tiny else {}
    with on_gpu_in_bfloat16():
        text_encoder = UMT5EncoderModel(UMT5Config(**text))
        vae = AutoencoderKLWan(**(TINY_VAE if tiny else {}))
    draw_weights(text_encoder, vae)
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        transformer=make(CASES[case], tiny=tiny),
        vae=vae,
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0
        ),
    ).save_pretrained(folder)


def run_profile(root: Path, name: str, run: str, latents_file: Path) -> dict[str, Any]:
    """One video by the app's own code; seconds per phase and peak in GiB. ``run`` is a
    memory profile, or a cap such as ``8 GiB``."""
    import torch
    from diffusers import WanPipeline  # noqa: F401  (not timed in either run)
    from safetensors.torch import save_file

    from engine.family import get_family, get_variant
    from engine.footprint import working_bytes
    from engine.loading.resident import ResidentModel
    from engine.progress import Progress
    from engine.settings import Settings
    from engine.validate import accept

    profile = run
    if run.endswith(" GiB"):
        profile = "auto"
        limit_memory(int(float(run.removesuffix(" GiB")) * GIB))
    settings = Settings(root=root, profile=profile)  # type: ignore[arg-type]
    asked = {
        "model": name,
        "prompt": PROMPT,
        "seed": 1,
        "num_inference_steps": STEPS,
    }
    request = accept(asked, folder=None, settings=settings)
    said = estimated_gib(request, profile)
    family = get_family("wan")
    seconds: dict[str, float] = {}
    steps: list[float] = []
    clock = now()

    def lap(name: str) -> None:
        nonlocal clock
        began, clock = clock, now()
        seconds[name] = clock - began

    def on_step(_done: int, _total: int, _latents: torch.Tensor) -> None:
        steps.append(now())

    progress = Progress("bench", told)
    variant, working = get_variant(name), working_bytes(get_variant(name), request)
    model = ResidentModel(settings).get(variant, progress, working=working)
    lap("load")
    conditioning = family.encode(model, request)
    lap("encode")
    latents = family.denoise(model, conditioning, request, on_step, str)
    lap("denoise")
    model.make_room()
    frames = sum(len(chunk) for chunk in family.decode(model, latents, request))
    lap("decode")
    assert frames == request.num_frames
    save_file({"latents": latents.float().cpu().contiguous()}, latents_file)
    peak = torch.cuda.max_memory_allocated() / GIB
    last = steps[-1] - steps[-2]
    return {**seconds, "last step": last, "peak GiB": peak, "said GiB": said}


def told(event: Event) -> None:
    """What goes on and when, to see where loading takes its time."""
    print(f"{time.perf_counter():.2f} {event}", file=sys.stderr)


def run_stock(root: Path, name: str, latents_file: Path) -> dict[str, Any]:
    """The same by ``WanPipeline`` alone, all of it on the GPU."""
    import torch
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline
    from safetensors.torch import save_file

    from engine.family import get_variant

    variant = get_variant(name)
    folder = root / "ckpts" / variant.folder
    clock = now()
    vae = AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    pipeline = WanPipeline.from_pretrained(folder, vae=vae, torch_dtype=torch.bfloat16)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(
        pipeline.scheduler.config, flow_shift=variant.defaults["flow_shift"]
    )
    pipeline.to("cuda")
    loaded = now()
    latents = pipeline(
        PROMPT,
        negative_prompt=variant.defaults["negative_prompt"],
        num_inference_steps=STEPS,
        guidance_scale=variant.defaults["guidance_scale"],
        generator=torch.Generator("cpu").manual_seed(1),
        output_type="latent",
    ).frames
    done = now()
    save_file({"latents": latents.float().cpu().contiguous()}, latents_file)
    peak = torch.cuda.max_memory_allocated() / GIB
    return {"load": loaded - clock, "denoise": done - loaded, "peak GiB": peak}


def difference(a: Path, b: Path) -> str:
    """How far two files of latents are apart, relative to the second."""
    from safetensors.torch import load_file

    mine, other = load_file(a)["latents"], load_file(b)["latents"]
    return f"{float((mine - other).norm() / other.norm()):.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, help="keep the weights here")
    parser.add_argument("--model", choices=MODELS, default=MODEL)
    parser.add_argument(
        "--runs", default="stock,auto,1,2,4,5,8 GiB", help="profiles and caps"
    )
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    root = options.root or Path(tempfile.mkdtemp(prefix="wgp-bench-"))
    file = root / f"{options.one}.safetensors"
    if options.one == "weights":
        write_weights(root / "ckpts" / options.model, MODELS[options.model])
    elif options.one == "stock":
        print(json.dumps(run_stock(root, options.model, file)))
    elif options.one:
        print(json.dumps(run_profile(root, options.model, options.one, file)))
    else:
        compare(root, options.model, options.runs.split(","))


def compare(root: Path, model: str, runs: list[str]) -> None:
    """Run each in a process of its own and print the table. How far its latents are off
    the first run's stands in the last column."""
    in_process(root, model, "weights")
    print("| run | " + " | ".join(COLUMNS) + f" | off {runs[0]} |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for run in runs:
        result = json.loads(in_process(root, model, run).splitlines()[-1])
        row = [f"{result[name]:.2f}" if name in result else "" for name in COLUMNS]
        off = difference(*(root / f"{each}.safetensors" for each in (run, runs[0])))
        print(f"| {run} | " + " | ".join([*row, off]) + " |", flush=True)


def in_process(root: Path, model: str, one: str) -> str:
    command = [sys.executable, "-m", "bench.gpu_wan", "--root", root, "--one", one]
    command += ["--model", model]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
