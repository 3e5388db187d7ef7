"""Hunyuan Video's answers to the engine: each row's architecture has a module of its
own, which loads torch, so it is imported late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.family import LoadedModel, ModelVariant, OnComponent, OnPhase, OnStep
from engine.request import GenerationRequest
from hyvideo.variants import VARIANTS, options_of

if TYPE_CHECKING:
    import numpy as np
    import torch

PREVIEWS = Path(__file__).parent / "previews"


class HunyuanVideoFamily:
    """Text and images to video with HunyuanVideo, HunyuanVideo 1.5 and FramePack."""

    name = "hyvideo"
    title = "Hunyuan Video"

    def variants(self) -> Sequence[ModelVariant]:
        return VARIANTS

    def load(
        self,
        variant: ModelVariant,
        weights: Mapping[str, Path],
        dtype: str,
        on_component: OnComponent,
    ) -> Any:
        return architecture_of(variant).load(variant, weights, dtype, on_component)

    def encode(self, model: LoadedModel, request: GenerationRequest) -> Any:
        return architecture_of(model.variant).encode(model, request)

    def denoise(
        self,
        model: LoadedModel,
        conditioning: Any,
        request: GenerationRequest,
        on_step: OnStep,
        on_phase: OnPhase,
    ) -> torch.Tensor:
        latents: torch.Tensor = architecture_of(model.variant).denoise(
            model, conditioning, request, on_step, on_phase
        )
        return latents

    def decode(
        self, model: LoadedModel, latents: torch.Tensor, request: GenerationRequest
    ) -> Iterator[np.ndarray]:
        chunks: Iterator[np.ndarray] = architecture_of(model.variant).decode(
            model, latents, request
        )
        return chunks

    def preview(self, model: LoadedModel, latents: torch.Tensor) -> np.ndarray:
        from engine.sampling.preview import linear_preview, load_factors

        factors = load_factors(PREVIEWS, model.variant.preview)
        return linear_preview(factors, latents)


def architecture_of(variant: ModelVariant) -> Any:
    """The module with this row's ``load``, ``encode``, ``denoise`` and ``decode``."""
    return import_module(f"hyvideo.{options_of(variant).architecture}")
