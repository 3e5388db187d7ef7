"""Kernel fusion where it pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")


def fused(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a function of tensors on machines with a GPU.

    On a CPU, compiling costs more than it saves here, so the function stays as it is.
    """
    if not torch.cuda.is_available():
        return function
    return torch.compile(function, dynamic=False)
