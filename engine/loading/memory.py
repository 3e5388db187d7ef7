"""Memory that is given back, and running out of it, told in numbers."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.errors import OutOfMemory
from engine.request import GenerationRequest

if TYPE_CHECKING:
    import torch

GIB = 1 << 30

LARGE = 16 << 20
"""Bytes from which a block of main memory is the system's again once it is free."""

KEPT = 512 << 20
"""Free bytes at the end of the heap, above which some are the system's again."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


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
            "fewer frames or a smaller picture, choose memory profile 5, or close "
            "other programs"
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
    if malloc_trim := _glibc("malloc_trim"):
        malloc_trim(0)
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def configure_allocators() -> None:
    """How torch and the C library get memory; to be called before torch is loaded.
    What the environment says already is left as it is."""
    # Huge pages for tensors in main memory: they are faster to come by.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # On a GPU, segments that grow: of fixed ones, a fifth of a small card can lie idle
    # between tensors. Windows has none, and WSL2's driver may fail at the first.
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    can_grow = sys.platform == "linux" and "microsoft" not in platform.release().lower()
    if can_grow and not any(name in os.environ for name in names):
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
    return_large_blocks()


def return_large_blocks() -> None:
    """Let blocks of ``LARGE`` bytes go back to the system when they are freed.

    Left to itself, glibc raises that size to that of the largest block freed before, up
    to 32 MiB. Its heap then keeps what lies between blocks in use, and a job takes the
    more, the more jobs were before it. With that size given, it would give back all but
    128 KiB of the heap's end at each chance, and fetch it anew for the next tensor.
    """
    if mallopt := _glibc("mallopt"):
        mallopt(M_MMAP_THRESHOLD, LARGE)
        mallopt(M_TRIM_THRESHOLD, KEPT)


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc; ``None`` where there is another C library."""
    if sys.platform != "linux":
        return None
    return getattr(ctypes.CDLL(None), name, None)


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
