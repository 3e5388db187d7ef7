"""Files to the pipeline of diffusers that a row runs on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKLWan,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    CLIPVisionModel,
    UMT5EncoderModel,
)

from engine.family import ModelVariant, OnComponent
from engine.loading.checkpoint import load_component, load_tokenizer
from wan.call import fit_scale
from wan.denoise import load_scheduler
from wan.tasks import ImageToVideo
from wan.variants import kind_of

PIPELINES = {"text": WanPipeline, "image": ImageToVideo}
"""The task that a row was trained for → diffusers' pipeline for it."""


def load(
    variant: ModelVariant,
    weights: Mapping[str, Path],
    dtype: str,
    on_component: OnComponent,
) -> Any:
    """The pipeline, on the CPU. Raises ``UnreadableFile``."""

    def network(name: str, kind: Any, precision: str) -> Any:
        on_component(name.replace("_", " "))
        return load_component(kind, weights[name], precision)

    kind = kind_of(variant)
    parts = {
        "tokenizer": load_tokenizer(AutoTokenizer, weights["tokenizer"]),
        "text_encoder": network("text_encoder", UMT5EncoderModel, dtype),
        "transformer": network("transformer", WanTransformer3DModel, dtype),
        # In bfloat16 its decoder shows banding.
        "vae": network("vae", AutoencoderKLWan, "float32"),
        "scheduler": load_scheduler(weights["scheduler"]),
    }
    if kind.boundary_ratio is not None:
        parts["transformer_2"] = network("transformer_2", WanTransformer3DModel, dtype)
    if "image_encoder" in weights:
        processor = load_tokenizer(AutoImageProcessor, weights["image_processor"])
        parts["image_processor"] = processor
        parts["image_encoder"] = network("image_encoder", CLIPVisionModel, "float32")
    pipeline = PIPELINES[kind.task](
        **parts,
        boundary_ratio=kind.boundary_ratio,
        expand_timesteps=kind.expand_timesteps,
    )
    return fit_scale(pipeline)
