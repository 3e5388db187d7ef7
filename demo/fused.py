"""Kernel fusion where it pays."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")

MANY = 4_000_000
"""Rays at once from which compiling pays on a CPU too: it takes a minute, and then
a picture is drawn ten times as fast."""


def fused(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function of tensors, or of vectors of them, for many rays at once, and
    on a GPU for any number of them."""

    @functools.cache
    def compiled() -> Callable[P, R]:
        return torch.compile(function, dynamic=False)

    @functools.wraps(function)
    def chosen(*args: P.args, **kwargs: P.kwargs) -> R:
        first = args[0]
        rays = first if isinstance(first, torch.Tensor) else first.x  # type: ignore
        pays = rays.is_cuda or rays.numel() >= MANY
        return (compiled() if pays else function)(*args, **kwargs)

    return chosen
