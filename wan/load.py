"""Files to the pipeline of diffusers that a row runs on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKLWan,
    SkyReelsV2Transformer3DModel,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    CLIPVisionModel,
    UMT5EncoderModel,
)

from engine.family import ModelVariant, OnComponent
from engine.loading.checkpoint import load_tokenizer, network_loader
from wan.call import fit_scale
from wan.denoise import load_scheduler
from wan.forcing import FromText
from wan.tasks import ImageToVideo
from wan.vae import speed_up
from wan.variants import options_of

CLASSES = {
    "text": (WanPipeline, WanTransformer3DModel),
    "image": (ImageToVideo, WanTransformer3DModel),
    "vace": (WanVACEPipeline, WanVACETransformer3DModel),
    "forcing": (FromText, SkyReelsV2Transformer3DModel),
}
"""The task that a row was trained for → diffusers' pipeline and transformer for it."""


def load(
    variant: ModelVariant,
    weights: Mapping[str, Path],
    dtype: str,
    on_component: OnComponent,
) -> Any:
    """The pipeline, on the CPU. Raises ``UnreadableFile``."""
    network = network_loader(weights, dtype, on_component)

    options = options_of(variant)
    pipeline_class, transformer_class = CLASSES[options.task]
    config: dict[str, Any] = {}
    parts = {
        "tokenizer": load_tokenizer(AutoTokenizer, weights["tokenizer"]),
        "text_encoder": network("text_encoder", UMT5EncoderModel, dtype),
        "transformer": network("transformer", transformer_class, dtype),
        "vae": _load_vae(network, dtype, options.vae_dtype),
        "scheduler": load_scheduler(weights["scheduler"]),
    }
    if options.boundary_ratio is not None:
        parts["transformer_2"] = network("transformer_2", transformer_class, dtype)
        config["boundary_ratio"] = options.boundary_ratio
    if options.expand_timesteps:
        config["expand_timesteps"] = True
    if "image_encoder" in weights:
        processor = load_tokenizer(AutoImageProcessor, weights["image_processor"])
        parts["image_processor"] = processor
        parts["image_encoder"] = network("image_encoder", CLIPVisionModel, "float32")
    return fit_scale(pipeline_class(**parts, **config))


def _load_vae(network: Callable[..., Any], dtype: str, vae_dtype: str) -> Any:
    """Never in bfloat16, in which its decoder shows banding."""
    if dtype == "float32":  # on a CPU, which is fastest in it
        return network("vae", AutoencoderKLWan, dtype)
    vae = network("vae", AutoencoderKLWan, vae_dtype)
    speed_up(vae)
    return vae
