"""The fastest exact attention of a GPU, measured once and kept in the data folder."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from engine.aside import write_aside
from engine.attention.registry import Backend, Machine, prepare

BETTER_BY = 0.05
"""Torch's own choice is given up only for one that is so much faster: timings differ
from run to run, and a video should not."""

HEADS, TOKENS = 24, 8192
"""Of what is timed; kernels keep their order beyond."""

RUNS = 5

Seconds = Mapping[str, float]
"""By backend; infinite where it failed."""


def fastest(candidates: Sequence[Backend], seconds: Seconds) -> Backend:
    """The fastest of ``candidates``, of which the first is torch's own."""
    usual = candidates[0]
    best = min(candidates, key=lambda each: seconds.get(each.name, math.inf))
    limit = (1 - BETTER_BY) * seconds.get(usual.name, math.inf)
    return best if seconds.get(best.name, math.inf) < limit else usual


def measured(
    file: Path | None, machine: str, time_all: Callable[[], Seconds]
) -> Seconds:
    """Seconds by backend on ``machine``: from ``file``, or measured now and added to
    it. A file that can't be read or written only costs the measurement."""
    known = _read(file)
    if machine not in known:
        known[machine] = dict(time_all())
        _write(file, known)
    return known[machine]


def machine_name(device: str, head_dim: int, installed: Mapping[str, str]) -> str:
    """All that a measurement depends on."""
    import torch

    packages = [f"{name} {installed[name]}" for name in sorted(installed)]
    gpu = torch.cuda.get_device_name(device)
    return ", ".join([gpu, f"torch {torch.__version__}", *packages, f"head {head_dim}"])


def time_backends(
    candidates: Sequence[Backend], device: str, head_dim: int, machine: Machine
) -> dict[str, float]:
    """Median seconds of each on ``device``, a CUDA one, in bfloat16."""
    import torch

    shape = (1, TOKENS, HEADS, head_dim)
    with torch.random.fork_rng(devices=[device]), torch.inference_mode():
        inputs = [
            torch.randn(shape, device=device, dtype=torch.bfloat16) for _ in range(3)
        ]
        return {each.name: _seconds(each, inputs, machine) for each in candidates}


def _seconds(backend: Backend, inputs: Sequence[Any], machine: Machine) -> float:
    from diffusers.models.attention_dispatch import (
        AttentionBackendName,
        dispatch_attention_fn,
    )

    name = AttentionBackendName(backend.diffusers)
    times: list[float] = []
    try:
        prepare(backend, machine)
        for _ in range(RUNS + 1):
            begin, end = _events()
            begin.record()
            dispatch_attention_fn(*inputs, backend=name)
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1000)
    except (
        RuntimeError,
        ValueError,
        TypeError,
        ImportError,
        OSError,
    ):  # this GPU refuses it after all
        return math.inf
    return median(times[1:])  # the first one warms up


def _events() -> tuple[Any, Any]:
    import torch

    event: Any = torch.cuda.Event
    return event(enable_timing=True), event(enable_timing=True)


def _read(file: Path | None) -> dict[str, dict[str, float]]:
    if file is None:
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {
            str(machine): {
                str(name): math.inf if value is None else float(value)
                for name, value in seconds.items()
            }
            for machine, seconds in found.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(file: Path | None, known: Mapping[str, Seconds]) -> None:
    if file is None:
        return
    told = {
        machine: {
            name: None if math.isinf(value) else round(value, 6)
            for name, value in seconds.items()
        }
        for machine, seconds in known.items()
    }
    with contextlib.suppress(OSError):
        write_aside(file, json.dumps(told, indent=1) + "\n")


def automatic(candidates: Sequence[Backend]) -> list[Backend]:
    """Those that ``auto`` may take."""
    return [each for each in candidates if each.is_exact and each.is_automatic]
