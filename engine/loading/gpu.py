"""How much memory a GPU has, asked of its driver: the page's process loads no torch."""

from __future__ import annotations

import subprocess
from functools import lru_cache

QUERY = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")


@lru_cache(maxsize=4)
def gpu_bytes(gpu: str) -> int | None:
    """Of the device in the settings, which may be empty; ``None`` when it is no NVIDIA
    GPU or the driver doesn't say."""
    kind, _, index = gpu.partition(":")
    if kind not in ("", "cuda"):
        return None
    try:
        done = subprocess.run(
            QUERY, capture_output=True, text=True, timeout=5, check=True
        )
        return int(done.stdout.splitlines()[int(index or 0)]) << 20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
