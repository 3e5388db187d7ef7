"""Runs under a cap on the GPU's memory, and what the app says that they take."""

from __future__ import annotations

from typing import Any

GIB = 1 << 30
STREAMED = " streamed"
"""Ends the name of a run that is compiled beside."""


def cap_of(name: str) -> int | None:
    """GiB that a run has of the GPU's memory."""
    number = name.removesuffix(STREAMED)
    return int(number) if number.isdigit() else None


def settings_of(name: str) -> Any:
    from engine.settings import Settings

    streamed = name.endswith(STREAMED)
    profile = "6" if streamed else "auto"
    return Settings(compile=streamed or name == "compiled", profile=profile)


def is_repeated(name: str) -> bool:
    """Whether the second of two videos is timed: what is compiled is so in the first,
    and what mmgp streams takes as long each time."""
    return name.endswith(STREAMED) or cap_of(name) is None


def limit_memory(cap: int) -> None:
    """Let this process have ``cap`` bytes of the GPU, and see no more: the limit alone
    leaves the whole card in what torch says is free, by which the engine chooses."""
    import torch

    torch.cuda.empty_cache()
    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(cap / whole)

    def mem_get_info(_device: Any = None) -> tuple[int, int]:
        return cap - torch.cuda.memory_reserved(), cap

    torch.cuda.mem_get_info = mem_get_info  # type: ignore[assignment]


def estimated_gib(request: Any, profile: str) -> float:
    """The peak that the form would say; 0 where it says none. To be asked before
    anything lies on the GPU that the app would put there itself."""
    import psutil
    import torch

    from engine.family import get_variant
    from engine.footprint import footprint

    if not torch.cuda.is_available():
        return 0.0
    free, ram = torch.cuda.mem_get_info()[1], psutil.virtual_memory().available
    found = footprint(get_variant(request.model), request, profile, free, ram)
    return found.peak if found else 0.0
