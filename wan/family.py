"""Wan's answers to the engine. Its siblings load torch, so they are imported late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.family import LoadedModel, ModelVariant, OnComponent, OnPhase, OnStep
from engine.loading.checkpoint import load_component, load_tokenizer
from engine.request import GenerationRequest
from wan.variants import VARIANTS

if TYPE_CHECKING:
    import numpy as np
    import torch

PREVIEWS = Path(__file__).parent / "previews"


class WanFamily:
    """Text to video with Wan 2.1."""

    name = "wan"
    title = "Wan"

    def variants(self) -> Sequence[ModelVariant]:
        return VARIANTS

    def load(
        self,
        variant: ModelVariant,  # noqa: ARG002 - each row has the same layout
        weights: Mapping[str, Path],
        dtype: str,
        on_component: OnComponent,
    ) -> Any:
        from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
        from transformers import AutoTokenizer, UMT5EncoderModel

        from wan.denoise import load_scheduler

        def network(name: str, kind: Any, precision: str) -> Any:
            on_component(name.replace("_", " "))
            return load_component(kind, weights[name], precision)

        pipeline = WanPipeline(
            tokenizer=load_tokenizer(AutoTokenizer, weights["tokenizer"]),
            text_encoder=network("text_encoder", UMT5EncoderModel, dtype),
            transformer=network("transformer", WanTransformer3DModel, dtype),
            # In bfloat16 its decoder shows banding.
            vae=network("vae", AutoencoderKLWan, "float32"),
            scheduler=load_scheduler(weights["scheduler"]),
        )
        pipeline.set_progress_bar_config(disable=True)  # the engine shows progress
        return pipeline

    def encode(self, model: LoadedModel, request: GenerationRequest) -> Any:
        from wan.encode import encode_prompts

        return encode_prompts(model, request)

    def denoise(
        self,
        model: LoadedModel,
        conditioning: Any,
        request: GenerationRequest,
        on_step: OnStep,
        on_phase: OnPhase,  # noqa: ARG002 - it has one part
    ) -> torch.Tensor:
        from wan.denoise import denoise

        return denoise(model, conditioning, request, on_step)

    def decode(
        self,
        model: LoadedModel,
        latents: torch.Tensor,
        request: GenerationRequest,  # noqa: ARG002 - its latents have the size asked for
    ) -> Iterator[np.ndarray]:
        from wan.decode import decode

        return decode(model, latents)

    def preview(self, model: LoadedModel, latents: torch.Tensor) -> np.ndarray:
        from engine.sampling.preview import linear_preview, load_factors

        factors = load_factors(PREVIEWS, model.variant.preview)
        return linear_preview(factors, latents)
