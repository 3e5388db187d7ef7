"""How the denoiser computes: its attention backend, and compilation."""

from __future__ import annotations

import logging
from typing import Any

from engine.errors import UserError


def use_attention(pipeline: Any, backend: str) -> None:
    """Let the denoiser use this attention backend; ``auto`` is diffusers' own choice.

    Raises ``UserError`` when the backend is unknown or its package is missing.
    """
    if backend == "auto" or not hasattr(pipeline, "transformer"):
        return
    logger = logging.getLogger("diffusers.models.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it says that the feature is experimental
    try:
        pipeline.transformer.set_attention_backend(backend)
    except (ValueError, RuntimeError, ImportError) as error:
        raise UserError(f"attention {backend!r} can't be used: {error}") from error
    finally:
        logger.setLevel(level)


def compile_blocks(pipeline: Any) -> None:
    """Compile the denoiser's repeated blocks at their first use, which takes a while
    once and makes every step faster."""
    if hasattr(pipeline, "transformer"):
        pipeline.transformer.compile_repeated_blocks()
