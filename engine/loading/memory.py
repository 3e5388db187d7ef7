"""Running out of memory, told in numbers."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.errors import OutOfMemory
from engine.request import GenerationRequest

if TYPE_CHECKING:
    import torch

GIB = 1 << 30


@contextmanager
def out_of_memory_told(request: GenerationRequest, device: str) -> Iterator[None]:
    """Turns the many ways in which memory runs out into ``OutOfMemory``."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        where = f"{device}{free_memory_told(device)}"
        raise OutOfMemory(
            f"out of memory on {where} with {request.model} at "
            f"{request.width}x{request.height}, {request.num_frames} frames. Ask for "
            "fewer frames or a smaller picture, choose a memory profile with a higher "
            "number, or close other programs"
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Torch's errors are told by name and text, so that torch needn't be loaded."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in str(error)
        or "CUDA out of memory" in str(error)
    )


def empty_caches(device: str) -> None:
    """Give back memory that nothing refers to any more."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def watch_peak_memory(device: str) -> None:
    """From here on ``peak_memory`` counts anew."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: str) -> float | None:
    """GiB of the GPU that torch held at most; ``None`` on other devices."""
    if not device.startswith("cuda"):
        return None
    import torch

    return round(torch.cuda.max_memory_reserved(device) / GIB, 2)


def free_memory_told(device: str) -> str:
    """`` (1.2 of 12.0 GiB free)`` on a GPU, nothing elsewhere."""
    if not device.startswith("cuda"):
        return ""
    import torch

    free, total = torch.cuda.mem_get_info(device)
    return f" ({free / GIB:.1f} of {total / GIB:.1f} GiB free)"


def free_memory(device: str | torch.device) -> int:
    """Of a GPU, in bytes, with what torch holds in reserve: else what is chosen by it
    would depend on what ran before."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(free + reserve)
