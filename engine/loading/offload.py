"""Memory profiles: where a model's parts lie while it works.

The only module that imports mmgp, and only when a CUDA device is used: importing it
patches safetensors for the whole process.
"""

from __future__ import annotations

from typing import Any

from engine.family import LoadedModel, ModelVariant
from engine.settings import Settings


def choose_device(settings: Settings) -> str:
    """The device that models run on, as torch names it."""
    if settings.gpu:
        return settings.gpu
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"


def choose_dtype(device: str) -> str:
    """The precision of the denoiser and the text encoder: CPUs are fastest and most
    exact in float32."""
    return "bfloat16" if device.startswith("cuda") else "float32"


def place(
    variant: ModelVariant, pipeline: Any, device: str, settings: Settings
) -> LoadedModel:
    """``pipeline`` under a memory profile, ready to run on ``device``."""
    if device == "cpu":
        return LoadedModel(variant, pipeline, device)
    raise NotImplementedError
