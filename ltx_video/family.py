"""LTX Video's answers to the engine. Its siblings load torch, so they are imported
late."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.family import (
    LoadedModel,
    ModelVariant,
    OnComponent,
    OnPhase,
    OnStep,
)
from engine.loading.checkpoint import load_tokenizer, network_loader
from engine.request import GenerationRequest
from ltx_video.config import check_together
from ltx_video.variants import VARIANTS, config_of, options_of

if TYPE_CHECKING:
    import numpy as np
    import torch

PREVIEWS = Path(__file__).parent / "previews"


class LtxVideoFamily:
    """Text, images and videos to video with LTX Video."""

    name = "ltx_video"
    title = "LTX Video"

    def variants(self) -> Sequence[ModelVariant]:
        return VARIANTS

    def load(
        self,
        variant: ModelVariant,
        weights: Mapping[str, Path],
        dtype: str,
        on_component: OnComponent,
    ) -> Any:
        config = config_of(variant)
        lora = weights.get("distilled_lora")
        named = options_of(variant).config
        check_together(named, config, lora or weights["transformer"])
        from diffusers import (
            AutoencoderKLLTXVideo,
            FlowMatchEulerDiscreteScheduler,
            LTXVideoTransformer3DModel,
        )
        from diffusers.pipelines.ltx.modeling_latent_upsampler import (
            LTXLatentUpsamplerModel,
        )
        from transformers import AutoTokenizer, T5EncoderModel

        from engine.lora.merge import merge_lora
        from ltx_video.pipeline import LtxPipeline

        network = network_loader(weights, dtype, on_component)

        in_two_passes = config.second_pass is not None
        text_encoder = network("text_encoder", T5EncoderModel)
        transformer = network("transformer", LTXVideoTransformer3DModel)
        if lora is not None:
            on_component("distilled LoRA")
            merge_lora(transformer, lora, self.name)
        pipeline = LtxPipeline(
            tokenizer=load_tokenizer(AutoTokenizer, weights["tokenizer"]),
            text_encoder=text_encoder,
            transformer=transformer,
            vae=network("vae", AutoencoderKLLTXVideo),
            scheduler=FlowMatchEulerDiscreteScheduler(),
            latent_upsampler=network("latent_upsampler", LTXLatentUpsamplerModel)
            if in_two_passes
            else None,
        )
        pipeline.set_progress_bar_config(disable=True)  # the engine shows progress
        return pipeline

    def encode(self, model: LoadedModel, request: GenerationRequest) -> Any:
        from ltx_video.encode import encode

        return encode(model, request)

    def denoise(
        self,
        model: LoadedModel,
        conditioning: Any,
        request: GenerationRequest,
        on_step: OnStep,
        on_phase: OnPhase,
    ) -> torch.Tensor:
        from ltx_video.denoise import denoise

        return denoise(model, conditioning, request, on_step, on_phase)

    def decode(
        self, model: LoadedModel, latents: torch.Tensor, request: GenerationRequest
    ) -> Iterator[np.ndarray]:
        from ltx_video.decode import decode

        return decode(model, latents, request)

    def preview(self, model: LoadedModel, latents: torch.Tensor) -> np.ndarray:
        from engine.sampling.preview import linear_preview, load_factors

        factors = load_factors(PREVIEWS, model.variant.preview)
        return linear_preview(factors, latents)
