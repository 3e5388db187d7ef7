"""What LoRAs cost per step on Wan 2.1 14B of the real size, random weights, on a GPU:
``python -m bench.gpu_lora``.

Each run is a process of its own: one call of the transformer at 832 × 480 × 81, without
LoRAs and with 1, 4 and 8 of rank 32 on all attention and feed-forward layers. Beside
ours, merged and by peft, resident and under a memory profile, stands diffusers' own
loading of the same files.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from bench.clock import now

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

MODEL = "wan2.1-t2v-14b"
RUNS = ("merged", "peft", "profile", "diffusers")
COUNTS = (1, 4, 8)
COLUMNS = ("LoRAs", "put on", "step", "more", "take off", "peak GiB")
RANK, CALLS = 32, 3


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
    from engine.request import GenerationRequest
    from engine.settings import Settings

    listed = [{"name": file.name, "multiplier": 1.0 / len(files)} for file in files]
    request = GenerationRequest.model_validate(
        {"model": MODEL, "prompt": "x", "num_inference_steps": 20, "loras": listed}
    )
    return loras_applied(model, request, Settings(root=root), Progress("bench"))


def measure(run: str, count: int, device: str, *, tiny: bool) -> dict[str, float]:
    """Seconds of each part, the step beside one without LoRAs in percent, and the peak
    of GPU memory. ``run`` is one of ``RUNS``."""
    from engine.family import LoadedModel, get_variant
    from engine.loading.memory import empty_caches
    from engine.loading.offload import place
    from engine.lora import apply
    from engine.progress import Progress
    from engine.settings import Settings

    network = make_transformer(device, tiny=tiny)
    pipeline = SimpleNamespace(transformer=network, components={"transformer": network})
    variant = get_variant(MODEL)
    model = LoadedModel(variant, pipeline, device)
    if run == "profile":
        network.to("cpu")
        empty_caches(device)
        settings = Settings(profile="4", gpu=device)
        model = place(variant, pipeline, device, settings, Progress("bench"))
    apply.merges = lambda _: run == "merged"
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        root = Path(name)
        files = write_loras(network, root / "loras" / variant.family, count, device)
        plain = step_seconds(network, device, tiny=tiny)
        reset_peak(device)
        others = by_us(model, files, root) if run != "diffusers" else nullcontext()
        applied = by_diffusers(network, files) if run == "diffusers" else others
        clock = now()
        stack.enter_context(applied)
        put_on = now() - clock
        step = step_seconds(network, device, tiny=tiny)
        clock = now()
        stack.close()
        take_off = now() - clock
    more = 100 * (step / plain - 1)
    return dict(
        zip(COLUMNS, (count, put_on, step, more, take_off, peak(device)), strict=True)
    )


def step_seconds(network: Any, device: str, *, tiny: bool) -> float:
    import torch

    frames, height, width = (2, 4, 4) if tiny else (21, 60, 104)
    text = 32 if tiny else 4096
    latents = torch.randn(1, 16, frames, height, width, device=device).bfloat16()
    words = torch.randn(1, 512, text, device=device).bfloat16()
    times = torch.tensor([500.0], device=device)
    seconds = []
    with torch.no_grad():
        for _ in range(1 + CALLS):
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
    parser.add_argument(
        "--seconds", type=float, default=540, help="end after these, whatever is left"
    )
    parser.add_argument("--tiny", action="store_true", help="a small network")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run, count = options.one.split(":")
        found = measure(run, int(count), options.device, tiny=options.tiny)
        print(" | ".join(f"{value:.2f}" for value in found.values()))
        return
    end = time.monotonic() + options.seconds
    print("| run | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|", flush=True)
    for run in options.runs.split(","):
        for count in options.counts.split(","):
            told = in_process(f"{run}:{count}", options, end - time.monotonic())
            print(f"| {run} | {told} |", flush=True)


def in_process(one: str, options: argparse.Namespace, seconds: float) -> str:
    """The cells of a row, after its first."""
    command = [sys.executable, "-m", "bench.gpu_lora", "--one", one]
    command += ["--device", options.device, *["--tiny"] * options.tiny]
    try:
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return f"{one} | no time left"
    return (done.stdout.splitlines() or [f"{one} | failed"])[-1]


if __name__ == "__main__":
    main()
