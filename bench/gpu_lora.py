"""What LoRAs cost per step on Wan 2.1 14B of the real size, random weights, on a GPU:
``python -m bench.gpu_lora``.

Each run is a process of its own: calls of the transformer at 832 × 480 × 81, without
LoRAs and with 1, 4 and 8 of rank 32 on all attention and feed-forward layers. Ours,
merged and by peft, and diffusers' own loading of the same files; then ours under a cap
of 8 GiB on the GPU's memory, streamed and by mmgp. ``more`` is percent of the step
without LoRAs before it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bench.caps import limit_memory
from bench.clock import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

MODEL = "wan2.1-t2v-14b"
RUNS = ("merged", "peft", "diffusers", "streamed", "mmgp")
PROFILES = {"streamed": "6", "mmgp": "4"}
CAP = 8 << 30
"""Bytes of the GPU, under a memory profile."""
COUNTS = (1, 4, 8)
COLUMNS = ("LoRAs", "put on", "step", "more", "take off", "peak GiB")
RANK = 32


def make_transformer(device: str, *, tiny: bool) -> Any:
    """Normal weights of deviation 0.02, bfloat16."""
    import torch
    from diffusers import WanTransformer3DModel

    size = {"num_layers": 2, "num_attention_heads": 2, "ffn_dim": 64, "text_dim": 32}
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        made = WanTransformer3DModel(**(size if tiny else {}))
    torch.set_default_dtype(torch.float32)
    for parameter in made.parameters():
        parameter.data.normal_(std=0.02)
    return made.eval().requires_grad_(False)


def write_loras(network: Any, folder: Path, count: int, device: str) -> list[Path]:
    import torch
    from safetensors.torch import save_file

    layers = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, torch.nn.Linear) and name.startswith("blocks.")
    }
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(count):
        tensors = {}
        for name, layer in layers.items():
            down = torch.randn(RANK, layer.in_features, device=device) * 0.01
            up = torch.randn(layer.out_features, RANK, device=device) * 0.01
            tensors[f"transformer.{name}.lora_A.weight"] = down.bfloat16()
            tensors[f"transformer.{name}.lora_B.weight"] = up.bfloat16()
        files.append(folder / f"lora{number}.safetensors")
        save_file(tensors, files[-1])
    return files


@contextmanager
def by_diffusers(network: Any, files: list[Path]) -> Iterator[None]:
    names = [file.stem for file in files]
    for name, file in zip(names, files, strict=True):
        network.load_lora_adapter(
            file.parent,
            weight_name=file.name,
            adapter_name=name,
            prefix="transformer",
            low_cpu_mem_usage=True,  # as its load_lora_weights does
        )
    network.set_adapters(names, [1.0 / len(names)] * len(names))
    try:
        yield
    finally:
        network.unload_lora()


def by_us(model: Any, files: list[Path], root: Path) -> AbstractContextManager[Any]:
    from engine.lora.apply import loras_applied
    from engine.progress import Progress
    from engine.settings import Settings

    listed = [{"name": file.name, "multiplier": 1.0 / len(files)} for file in files]
    request = request_for(listed)
    return loras_applied(model, request, Settings(root=root), Progress("bench"))


def request_for(loras: list[dict[str, Any]]) -> Any:
    from engine.request import GenerationRequest

    size = {"width": 832, "height": 480, "num_frames": 81, "num_inference_steps": 20}
    return GenerationRequest.model_validate(
        {"model": MODEL, "prompt": "x", "loras": loras, **size}
    )


def measure(
    run: str, counts: list[int], device: str, *, tiny: bool, calls: int = 3
) -> Iterator[dict[str, float]]:
    """For so many LoRAs: seconds of each part, the step beside one without LoRAs in
    percent, and the peak of GPU memory. ``run`` is one of ``RUNS``."""
    from engine.family import get_variant
    from engine.lora import apply

    network = make_transformer(device, tiny=tiny)
    apply.merges = lambda _: run != "peft"
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        folder = root / "loras" / get_variant(MODEL).family
        files = write_loras(network, folder, max(counts), device)
        model = placed(network, device, PROFILES.get(run))
        steps = partial(step_seconds, network, device, tiny=tiny, calls=calls)
        plain = steps()
        for count in counts:
            some = files[:count]
            theirs = run == "diffusers"
            applied = (
                by_diffusers(network, some) if theirs else by_us(model, some, root)
            )
            yield one_row(applied, steps, plain, count, device)


def placed(network: Any, device: str, profile: str | None) -> Any:
    """On the GPU, or in a memory profile under the cap."""
    import torch

    from engine.family import LoadedModel, get_variant
    from engine.footprint import working_bytes
    from engine.loading import streaming
    from engine.loading.memory import empty_caches
    from engine.loading.offload import place
    from engine.progress import Progress
    from engine.settings import Settings

    pipeline = SimpleNamespace(
        transformer=network,
        vae=torch.nn.Identity(),
        components={"transformer": network},
    )
    variant = get_variant(MODEL)
    if profile is None:
        return LoadedModel(variant, pipeline, device)
    network.to("cpu")
    empty_caches(device)
    limit_memory(CAP)
    # A virtual machine's memory may grow as it is used: its share says nothing.
    streaming.PINNED_SHARE = 1000.0
    settings = Settings(profile=profile, gpu=device, attention="sdpa")
    working = working_bytes(variant, request_for([]))
    return place(variant, pipeline, device, settings, Progress("bench"), working)


def one_row(
    applied: AbstractContextManager[Any],
    steps: Callable[[], float],
    plain: float,
    count: int,
    device: str,
) -> dict[str, float]:
    from engine.loading.memory import empty_caches

    empty_caches(device)
    reset_peak(device)
    clock = now()
    with applied:
        put_on = now() - clock
        step = steps()
        clock = now()
    take_off = now() - clock
    more = 100 * (step / plain - 1)
    found = (count, put_on, step, more, take_off, peak(device))
    return dict(zip(COLUMNS, found, strict=True))


def step_seconds(network: Any, device: str, *, tiny: bool, calls: int) -> float:
    import torch

    frames, height, width = (2, 4, 4) if tiny else (21, 60, 104)
    text = 32 if tiny else 4096
    latents = torch.randn(1, 16, frames, height, width, device=device).bfloat16()
    words = torch.randn(1, 512, text, device=device).bfloat16()
    times = torch.tensor([500.0], device=device)
    seconds = []
    with torch.no_grad():
        for _ in range(1 + calls):
            clock = now()
            network(latents, times, words)
            seconds.append(now() - clock)
    return median(seconds[1:])


def reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats()


def peak(device: str) -> float:
    if not device.startswith("cuda"):
        return 0.0
    import torch

    return torch.cuda.max_memory_allocated() / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--runs", default=",".join(RUNS))
    parser.add_argument("--counts", default=",".join(map(str, COUNTS)))
    parser.add_argument("--calls", type=int, default=3, help="timed, beside a first")
    parser.add_argument(
        "--seconds", type=float, default=540, help="end after these, whatever is left"
    )
    parser.add_argument("--tiny", action="store_true", help="a small network")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    counts = [int(count) for count in options.counts.split(",")]
    if options.one:
        rows = measure(
            options.one,
            counts,
            options.device,
            tiny=options.tiny,
            calls=options.calls,
        )
        for found in rows:
            cells = " | ".join(f"{value:.2f}" for value in found.values())
            print(f"| {options.one} | {cells} |", flush=True)
        return
    end = time.monotonic() + options.seconds
    print("| run | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|", flush=True)
    for run in options.runs.split(","):
        in_process(run, options, end - time.monotonic())


def in_process(run: str, options: argparse.Namespace, seconds: float) -> None:
    """Prints the rows of ``run``."""
    command = [sys.executable, "-m", "bench.gpu_lora", "--one", run]
    command += ["--device", options.device, "--counts", options.counts]
    command += ["--calls", str(options.calls)]
    command += ["--tiny"] * options.tiny
    try:
        done = subprocess.run(command, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        print(f"| {run} | no time left |", flush=True)
        return
    if done.returncode:
        print(f"| {run} | failed ({done.returncode}): see above |", flush=True)


if __name__ == "__main__":
    main()
