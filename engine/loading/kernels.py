"""Compilation of the denoisers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from engine.attention.use import DENOISERS

COMPILED = "compiled"
"""In the data folder: what was compiled, for the next start."""


def keep_compiled(root: Path) -> None:
    """Keep what is compiled below ``root``, unless torch's own variable names another
    folder."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(root / COMPILED))


def compile_blocks(pipeline: Any, root: Path) -> None:
    """Compile the denoisers' repeated blocks at their first use, which takes a while
    once for each size of video and makes every step faster."""
    keep_compiled(root)
    for name in DENOISERS:
        denoiser = getattr(pipeline, name, None)
        if denoiser is not None:
            denoiser.compile_repeated_blocks()
