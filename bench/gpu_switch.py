"""From one video to the next, on a GPU: ``python -m bench.gpu_switch``.

``jobs``: two videos of Wan 2.1 1.3B in one queue, by the app's own command line: the
seconds from the end of the first until the second's steps begin, and until the first
of them is made.

``switch``: Wan 2.1 14B, then LTX Video 13B, then Wan again, loaded by the app in one
process from files that the system still holds in memory. Beside each stands what
reading the same bytes into pinned memory takes.

All weights have the real sizes and are random. ``switch`` needs 80 GB of disk and as
much free memory, or 60 with ``--text-layers 4``, a sixth of the text encoders' layers.
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

from bench import gpu_ltx, gpu_wan
from bench.clock import now

PROJECT = Path(__file__).resolve().parents[1]
WAN, LTX = "wan2.1-t2v-14b", "ltxv-13b-0.9.7"
TINY_JOB = {"model": "wan-demo", "width": 64, "height": 64, "num_frames": 9}
BLOCK = 64 << 20
"""Bytes that are read at once."""


def measure_jobs(root: Path, *, tiny: bool, text_layers: int) -> None:
    """Print how long the second of two jobs waits."""
    if not tiny:
        folder = root / "ckpts" / gpu_wan.MODEL
        gpu_wan.write_weights(folder, "wan1.3b", text_layers=text_layers)
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


def write_models(root: Path, *, tiny: bool, text_layers: int) -> None:
    """What ``switch`` reads, where it isn't there yet."""
    folder = root / "ckpts" / "switch-wan"
    gpu_wan.write_weights(folder, "wan14b", tiny=tiny, text_layers=text_layers)
    write_ltx(root / "ckpts" / "switch-ltx", tiny=tiny, text_layers=text_layers)


def measure_switch(root: Path, *, tiny: bool, text_layers: int) -> None:
    """Print what each change of the model takes."""
    from engine.family import get_variant
    from engine.loading.resident import ResidentModel
    from engine.progress import Progress
    from engine.settings import Settings

    write_models(root, tiny=tiny, text_layers=text_layers)
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


def write_ltx(folder: Path, *, tiny: bool, text_layers: int) -> None:
    """LTX Video 13B in diffusers' layout, with its latent upsampler."""
    if (folder / "model_index.json").exists():
        return
    networks = gpu_ltx.make_networks(tiny=tiny, text_layers=text_layers)
    networks.pop("latent_upsampler").save_pretrained(folder / "latent_upsampler")
    gpu_ltx.stock_pipeline(networks).save_pretrained(folder)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "work", nargs="*", help="jobs, write, switch; all when left out"
    )
    parser.add_argument("--root", type=Path, help="keep the weights here")
    parser.add_argument(
        "--tiny", action="store_true", help="for a try without a GPU: tiny networks"
    )
    parser.add_argument("--text-layers", type=int, default=24, help="fewer take less")
    options = parser.parse_args(arguments)
    measures = {"jobs": measure_jobs, "write": write_models, "switch": measure_switch}
    if not set(options.work) <= set(measures):
        parser.error(f"choose from {', '.join(measures)}")
    with tempfile.TemporaryDirectory(prefix="wgp-bench-") as folder:
        for name in options.work or measures:
            root = options.root or Path(folder)
            measures[name](root, tiny=options.tiny, text_layers=options.text_layers)


if __name__ == "__main__":
    main()
