"""Compilation of the denoisers."""

from __future__ import annotations

from typing import Any

from engine.attention.use import DENOISERS


def compile_blocks(pipeline: Any) -> None:
    """Compile the denoisers' repeated blocks at their first use, which takes a while
    once and makes every step faster."""
    for name in DENOISERS:
        denoiser = getattr(pipeline, name, None)
        if denoiser is not None:
            denoiser.compile_repeated_blocks()
