"""From one video to the next, on a GPU: ``python -m bench.gpu_switch``.

``jobs``: two videos of Wan 2.1 1.3B in one queue, by the app's own command line: the
seconds from the end of the first until the second's steps begin, and until the first
of them is made.

``switch``: Wan 2.1 14B, then LTX Video 13B, then Wan again, loaded by the app in one
process from files that the system still holds in memory. Beside each stands what
reading the same bytes into pinned memory takes.

All weights have the real sizes and are random. ``switch`` needs 80 GB of disk and as
much free memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import gpu_wan
from bench.clock import now
from bench.gpu_wan import TEXT, TINY_TEXT
from bench.speed_networks import CASES, make, on_gpu_in_bfloat16

PROJECT = Path(__file__).resolve().parents[1]
WAN, LTX = "wan2.1-t2v-14b", "ltxv-13b-0.9.7"
TINY_JOB = {"model": "wan-demo", "width": 64, "height": 64, "num_frames": 9}
TINY_LTX_VAE = {
    "block_out_channels": (8, 16, 16, 16, 16),
    "decoder_block_out_channels": (8, 16, 32),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_layers_per_block": (1, 1, 1, 1),
}
TINY_UPSAMPLER = {"mid_channels": 64, "num_blocks_per_stage": 1}
BLOCK = 64 << 20
"""Bytes that are read at once."""


def measure_jobs(root: Path, *, tiny: bool) -> None:
    """Print how long the second of two jobs waits."""
    if not tiny:
        gpu_wan.write_weights(root / "ckpts" / gpu_wan.MODEL)
    job = {"num_inference_steps": 4, **(TINY_JOB if tiny else {"model": gpu_wan.MODEL})}
    jobs = [{**job, "prompt": f"a red ball on {on}"} for on in ("grass", "sand")]
    file = root / "jobs.json"
    file.write_text(json.dumps(jobs), encoding="utf-8")
    saved = None
    print("| second job, after the end of the first | seconds |\n|---|---|", flush=True)
    for moment, event in events(["--process", str(file), "--root", str(root)]):
        if event["event"] == "saved":
            saved = moment
        elif saved is not None and event.get("phase") == "denoise":
            is_begin = event["event"] == "phase"
            if is_begin or event.get("step") == 1:
                told = "its steps begin" if is_begin else "its first step is made"
                print(f"| {told} | {moment - saved:.2f} |", flush=True)


def events(words: list[str]) -> Iterator[tuple[float, dict[str, Any]]]:
    """What the app tells, and when."""
    command = [sys.executable, "wgp.py", *words, "--json"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    ) as app:
        assert app.stdout is not None
        for line in app.stdout:
            yield time.perf_counter(), json.loads(line)
    if app.returncode:
        raise SystemExit(f"the app ended with {app.returncode}")


def measure_switch(root: Path, *, tiny: bool) -> None:
    """Print what each change of the model takes."""
    from engine.family import get_variant
    from engine.loading.resident import ResidentModel
    from engine.progress import Progress
    from engine.settings import Settings

    gpu_wan.write_weights(root / "ckpts" / "switch-wan", "wan14b", tiny=tiny)
    write_ltx(root / "ckpts" / "switch-ltx", tiny=tiny)
    resident = ResidentModel(Settings(root=root, gpu="cpu" if tiny else ""))
    progress = Progress("bench", lambda event: print(event, file=sys.stderr))
    print("| to | GB | load, s | read and pin, s | ratio |\n|---|---|---|---|---|")
    for name, folder in ((WAN, "wan"), (LTX, "ltx"), (WAN, "wan")):
        place = root / "ckpts" / f"switch-{folder}"
        variant = replace(get_variant(name), files={}, folder=place.name, hub=None)
        size, floor = read_and_pin(place)
        began = now()
        resident.get(variant, progress)
        took = now() - began
        print(
            f"| {name} | {size / 1e9:.1f} | {took:.2f} | {floor:.2f} | "
            f"{took / floor:.2f} |",
            flush=True,
        )
    resident.release()


def read_and_pin(folder: Path) -> tuple[int, float]:
    """Bytes of all weights in ``folder``, and the seconds until they are in pinned
    memory."""
    import torch

    size, began = 0, now()
    for file in folder.rglob("*.safetensors"):
        whole = torch.empty(
            file.stat().st_size, dtype=torch.uint8, pin_memory=torch.cuda.is_available()
        )
        view = memoryview(whole.numpy())
        with file.open("rb", buffering=0) as stream:
            for start in range(0, len(view), BLOCK):
                stream.readinto(view[start : start + BLOCK])
        size += len(view)
    return size, now() - began


def write_ltx(folder: Path, *, tiny: bool) -> None:
    """LTX Video 13B 0.9.7 in diffusers' layout, with its latent upsampler."""
    import torch
    from diffusers import (
        AutoencoderKLLTXVideo,
        FlowMatchEulerDiscreteScheduler,
        LTXConditionPipeline,
    )
    from diffusers.pipelines.ltx.modeling_latent_upsampler import (
        LTXLatentUpsamplerModel,
    )
    from transformers import T5Config, T5EncoderModel

    from demo.text import make_tokenizer
    from engine.loading.layouts.ltx import RECENT_VAE
    from engine.loading.memory import empty_caches

    tokenizer = make_tokenizer(256)
    text = {**TEXT, "vocab_size": 32128, **(TINY_TEXT if tiny else {})}
    with on_gpu_in_bfloat16():
        text_encoder = T5EncoderModel(T5Config(**text, feed_forward_proj="gated-gelu"))
        vae = AutoencoderKLLTXVideo(**{**RECENT_VAE, **(TINY_LTX_VAE if tiny else {})})
        upsampler = LTXLatentUpsamplerModel(**(TINY_UPSAMPLER if tiny else {}))
    for network in (text_encoder, vae, upsampler):
        for parameter in network.parameters():
            parameter.data.normal_(std=0.02)
    LTXConditionPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        transformer=make(CASES["ltx13b"], tiny=tiny),
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(),
    ).save_pretrained(folder)
    upsampler.save_pretrained(folder / "latent_upsampler")
    empty_caches("cuda" if torch.cuda.is_available() else "cpu")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", nargs="*", help="jobs, switch; both when left out")
    parser.add_argument("--root", type=Path, help="keep the weights here")
    parser.add_argument(
        "--tiny", action="store_true", help="for a try without a GPU: tiny networks"
    )
    options = parser.parse_args(arguments)
    measures = {"jobs": measure_jobs, "switch": measure_switch}
    if not set(options.work) <= set(measures):
        parser.error(f"choose from {', '.join(measures)}")
    with tempfile.TemporaryDirectory(prefix="wgp-bench-") as folder:
        for name in options.work or measures:
            measures[name](options.root or Path(folder), tiny=options.tiny)


if __name__ == "__main__":
    main()
