"""Wan's answers to the engine. Its siblings load torch, so they are imported late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.family import LoadedModel, ModelVariant, OnComponent, OnPhase, OnStep
from engine.request import GenerationRequest
from wan.variants import VARIANTS, options_of

if TYPE_CHECKING:
    import numpy as np
    import torch

PREVIEWS = Path(__file__).parent / "previews"


class WanFamily:
    """Text, images and videos to video with Wan 2.1, Wan 2.2 and SkyReels V2."""

    name = "wan"
    title = "Wan"

    def variants(self) -> Sequence[ModelVariant]:
        return VARIANTS

    def load(
        self,
        variant: ModelVariant,
        weights: Mapping[str, Path],
        dtype: str,
        on_component: OnComponent,
    ) -> Any:
        from wan.load import load

        return load(variant, weights, dtype, on_component)

    def encode(self, model: LoadedModel, request: GenerationRequest) -> Any:
        from wan.encode import encode

        return encode(model, request)

    def denoise(
        self,
        model: LoadedModel,
        conditioning: Any,
        request: GenerationRequest,
        on_step: OnStep,
        on_phase: OnPhase,
    ) -> torch.Tensor:
        from wan import denoise, forcing

        if options_of(model.variant).task == "forcing":
            return forcing.denoise(model, conditioning, request, on_step, on_phase)
        return denoise.denoise(model, conditioning, request, on_step)

    def decode(
        self,
        model: LoadedModel,
        latents: torch.Tensor,
        request: GenerationRequest,
    ) -> Iterator[np.ndarray]:
        from wan.decode import decode

        return decode(model, latents, request)

    def preview(self, model: LoadedModel, latents: torch.Tensor) -> np.ndarray:
        from engine.sampling.preview import linear_preview, load_factors

        factors = load_factors(PREVIEWS, model.variant.preview)
        return linear_preview(factors, latents)
