"""Wan's answers to the engine. Its siblings load torch, so they are imported late."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.family import LoadedModel, ModelVariant, OnComponent, OnStep
from engine.request import GenerationRequest
from wan.variants import VARIANTS

if TYPE_CHECKING:
    import numpy as np
    import torch


class WanFamily:
    """Text to video with Wan 2.1."""

    name = "wan"
    title = "Wan"

    def variants(self) -> Sequence[ModelVariant]:
        return VARIANTS

    def load(
        self,
        variant: ModelVariant,
        folder: Path,
        dtype: str,
        on_component: OnComponent,
    ) -> Any:
        from wan.load import load_pipeline

        return load_pipeline(folder, dtype, on_component)

    def encode(self, model: LoadedModel, request: GenerationRequest) -> Any:
        from wan.encode import encode_prompts

        return encode_prompts(model, request)

    def denoise(
        self,
        model: LoadedModel,
        conditioning: Any,
        request: GenerationRequest,
        on_step: OnStep,
    ) -> torch.Tensor:
        from wan.denoise import denoise

        return denoise(model, conditioning, request, on_step)

    def decode(self, model: LoadedModel, latents: torch.Tensor) -> Iterator[np.ndarray]:
        from wan.decode import decode

        return decode(model, latents)

    def preview(self, model: LoadedModel, latents: torch.Tensor) -> np.ndarray:
        from wan.decode import preview

        return preview(model, latents)
