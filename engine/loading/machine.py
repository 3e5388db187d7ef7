"""What memory this machine has, asked without torch, for the app's own process."""

from __future__ import annotations

import re
import subprocess
from functools import lru_cache
from typing import Literal

import psutil

from engine.settings import Settings

ANSWER_SECONDS = 10.0


def machine_memory(settings: Settings) -> tuple[int | None, int]:
    """Bytes free on the GPU that ``settings`` choose (``None`` without one) and in
    main memory, as the worker finds them before it loads anything."""
    free_ram = int(psutil.virtual_memory().available)
    return _ask(settings.gpu, "free"), free_ram


@lru_cache(maxsize=4)
def gpu_bytes(gpu: str) -> int | None:
    """All of the GPU that the settings call ``gpu``; ``None`` when it is no NVIDIA GPU
    or the driver doesn't say."""
    return _ask(gpu, "total")


def _ask(gpu: str, which: Literal["free", "total"]) -> int | None:
    chosen = re.fullmatch(r"(?:cuda(?::(\d+))?)?", gpu)
    if chosen is None:  # the CPU, or another kind of device
        return None
    command = ["nvidia-smi", f"--query-gpu=memory.{which}", f"--id={chosen[1] or 0}"]
    try:
        said = subprocess.run(
            [*command, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=True,
        )
        return int(said.stdout) << 20
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
