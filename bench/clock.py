"""The time, when all work that was begun is done."""

from __future__ import annotations

import time


def now() -> float:
    """Seconds; waits for the GPU where there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
