"""HunyuanVideo 1.5: a video from text, or from a start image and text.

https://arxiv.org/abs/2511.18870. diffusers' pipelines for it have no step callback,
take their guidance from a component, and in image to video the size from the picture.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    ClassifierFreeGuidance,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
)
from diffusers.pipelines.hunyuan_video1_5.image_processor import (
    HunyuanVideo15ImageProcessor,
)
from diffusers.utils.torch_utils import get_module_execution_device
from PIL import Image
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    Qwen2_5_VLTextModel,
    SiglipVisionModel,
    T5EncoderModel,
)

from engine.family import LoadedModel, ModelVariant, OnComponent, OnPhase, OnStep
from engine.loading.checkpoint import load_tokenizer, network_loader
from engine.loading.memory import free_memory
from engine.loading.tiles import fitting_tile
from engine.media.frames import load_image
from engine.media.pixels import to_uint8
from engine.request import GenerationRequest
from engine.sampling.reporting import reporting
from hyvideo.attention15 import attend_without_mask
from hyvideo.decode import vae_precision

CHUNK = 8
TILES = (256, 128, 64)
"""In pixels; multiples of 64, of which diffusers' overlap of a quarter is whole
latents."""
BYTES_PER_PIXEL = 1800
"""Of a tile's video in bfloat16 while it is decoded: the widest layer's 128 channels
about seven times over."""


class RequestSize(HunyuanVideo15ImageProcessor):
    """Keeps the size of the start image, which is that of the request."""

    def calculate_default_height_width(
        self,
        height: int,
        width: int,
        target_size: int,  # noqa: ARG002 - diffusers would choose a size by it
    ) -> tuple[int, int]:
        return height, width


class _GivenEmbeddings:
    """Takes embeddings as they are given; diffusers' pipelines reshape them, which
    fails where a kind of them has no token."""

    def encode_prompt(
        self, prompt: Any = None, *, prompt_embeds: Any = None, **more: Any
    ) -> Any:
        if prompt_embeds is None:
            return super().encode_prompt(prompt, **more)  # type: ignore[misc]
        given = (
            prompt_embeds,
            more["prompt_embeds_mask"],
            more["prompt_embeds_2"],
            more["prompt_embeds_mask_2"],
        )
        return tuple(each.to(more["device"], more["dtype"]) for each in given)


class TextToVideo(_GivenEmbeddings, HunyuanVideo15Pipeline):
    """diffusers' pipeline for embeddings without padding."""


class ImageToVideo(_GivenEmbeddings, HunyuanVideo15ImageToVideoPipeline):
    """diffusers' pipeline for embeddings without padding."""


@dataclass(frozen=True)
class Text:
    """What one prompt says: embeddings (1, tokens, channels) by the language model,
    and those of its quoted words (1, letters, channels), none of them padding."""

    embeds: Tensor
    glyphs: Tensor

    def arguments(self, prefix: str = "") -> dict[str, Tensor]:
        """As diffusers' pipelines name them."""
        return {
            f"{prefix}prompt_embeds": self.embeds,
            f"{prefix}prompt_embeds_mask": self.embeds.new_ones(self.embeds.shape[:2]),
            f"{prefix}prompt_embeds_2": self.glyphs,
            f"{prefix}prompt_embeds_mask_2": self.glyphs.new_ones(
                self.glyphs.shape[:2]
            ),
        }


@dataclass(frozen=True)
class Conditioning:
    """What the transformer is conditioned on."""

    text: Text
    negative: Text | None
    """Only with classifier-free guidance, which a scale of 1 turns off."""
    image: Image.Image | None
    """The first frame, in the size of the request."""


def load(
    variant: ModelVariant,
    weights: Mapping[str, Path],
    dtype: str,
    on_component: OnComponent,
) -> Any:
    """diffusers' pipeline for the row, on the CPU. Raises ``UnreadableFile``."""
    network = network_loader(weights, dtype, on_component)

    parts = {
        "tokenizer": load_tokenizer(AutoTokenizer, weights["tokenizer"]),
        "tokenizer_2": load_tokenizer(AutoTokenizer, weights["tokenizer_2"]),
        "text_encoder": network("text_encoder", Qwen2_5_VLTextModel),
        "text_encoder_2": network("text_encoder_2", T5EncoderModel),
        "transformer": network("transformer", HunyuanVideo15Transformer3DModel),
        "vae": network("vae", AutoencoderKLHunyuanVideo15, vae_precision(dtype)),
    }
    if "image_start" in variant.media:
        reader = load_tokenizer(AutoImageProcessor, weights["feature_extractor"])
        parts["image_encoder"] = network("image_encoder", SiglipVisionModel)
        parts["feature_extractor"] = reader
    return assemble(parts)


def assemble(parts: Mapping[str, Any]) -> Any:
    """The pipeline of these networks and tokenizers: from a start image where an
    image encoder is among them."""
    each_run = {"scheduler": FlowMatchEulerDiscreteScheduler(), "guider": make_guider()}
    pipeline: Any
    if "image_encoder" in parts:
        pipeline = ImageToVideo(**parts, **each_run)
        pipeline.video_processor = RequestSize(
            vae_scale_factor=pipeline.vae_scale_factor_spatial,
            do_resize=False,
            do_convert_rgb=True,
        )
    else:
        pipeline = TextToVideo(**parts, **each_run)
        # Without an image its tokens would all be masked.
        pipeline.vision_num_semantic_tokens = 0
    attend_without_mask(pipeline.transformer)
    pipeline.set_progress_bar_config(disable=True)  # the engine shows progress
    return pipeline


@torch.no_grad()
def encode(model: LoadedModel, request: GenerationRequest) -> Conditioning:
    """Embeddings of the prompt and of the negative one, and the start image."""
    assert request.width and request.height
    is_guided = make_guider(request.guidance_scale).num_conditions > 1
    negative = request.negative_prompt or ""
    image = None
    if request.image_start is not None:
        pixels = load_image(request.image_start, request.width, request.height)
        image = Image.fromarray(pixels)
    return Conditioning(
        _embed(model.pipeline, request.prompt),
        _embed(model.pipeline, negative) if is_guided else None,
        image,
    )


def _embed(pipeline: Any, prompt: str) -> Text:
    embeds, mask, glyphs, glyphs_mask = pipeline.encode_prompt(
        prompt, device=pipeline._execution_device, dtype=pipeline.transformer.dtype
    )
    return Text(embeds[:, mask[0].bool()], glyphs[:, glyphs_mask[0].bool()])


def denoise(
    model: LoadedModel,
    conditioning: Conditioning,
    request: GenerationRequest,
    on_step: OnStep,
    on_phase: OnPhase,  # noqa: ARG001 - it has one part
) -> Tensor:
    """Latents (1, 32, latent frames, height / 16, width / 16) in the transformer's
    precision.

    The first noise is drawn on the CPU: a seed starts from the same noise on every
    device.
    """
    pipeline = model.pipeline
    pipeline.scheduler = reporting(
        FlowMatchEulerDiscreteScheduler(shift=request.flow_shift), on_step
    )
    pipeline.guider = make_guider(request.guidance_scale)
    arguments: dict[str, Any] = conditioning.text.arguments()
    if conditioning.negative is not None:
        arguments |= conditioning.negative.arguments("negative_")
    if conditioning.image is not None:
        arguments["image"] = conditioning.image
    else:
        arguments |= {"width": request.width, "height": request.height}
    (latents,) = pipeline(
        **arguments,
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type="latent",
        return_dict=False,
    )
    result: Tensor = latents
    return result


def make_guider(guidance_scale: float | None = 1.0) -> ClassifierFreeGuidance:
    """A fresh one, because it keeps the step of the run that it was used in."""
    assert guidance_scale is not None
    logger = logging.getLogger("diffusers.guiders.guider_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it says each time that it is experimental
    try:
        return ClassifierFreeGuidance(guidance_scale=guidance_scale)
    finally:
        logger.setLevel(level)


@torch.no_grad()
def decode(
    model: LoadedModel, latents: Tensor, request: GenerationRequest
) -> Iterator[np.ndarray]:
    """Frames in chunks, uint8 (frames, height, width, 3).

    The VAE's attention is over all frames, so it works tile by tile, each through
    the whole video.
    """
    vae = model.pipeline.vae
    device = get_module_execution_device(vae)
    raw = latents.to(device, vae.dtype) / vae.config.scaling_factor
    with tiles_of(vae, tile_size(request, raw)):
        video = vae.decode(raw, return_dict=False)[0]
    for start in range(0, video.shape[2], CHUNK):
        yield to_uint8(video[:, :, start : start + CHUNK])


def tile_size(request: GenerationRequest, latents: Tensor) -> int:
    """In pixels; 0 decodes the picture as a whole. Automatic takes the largest tile
    that the GPU's free memory holds, on a CPU the largest."""
    if request.vae_tile_size is not None:
        return request.vae_tile_size // TILES[-1] * TILES[-1]
    if latents.device.type != "cuda":
        return TILES[0]
    free = free_memory(latents.device)
    frames = latents.shape[2] * 4
    per_pixel = BYTES_PER_PIXEL * latents.element_size() / 2
    return fitting_tile(TILES, frames * per_pixel, free)


@contextmanager
def tiles_of(vae: Any, size: int) -> Iterator[None]:
    """While it lasts, ``vae`` decodes tiles of ``size`` pixels; 0 is the whole. The
    start image is always encoded as a whole."""
    if size:
        vae.enable_tiling(
            tile_sample_min_height=size,
            tile_sample_min_width=size,
            tile_latent_min_height=size // vae.spatial_compression_ratio,
            tile_latent_min_width=size // vae.spatial_compression_ratio,
        )
    try:
        yield
    finally:
        vae.disable_tiling()
