"""HunyuanVideo: a video from text, or from a start image and text.

https://arxiv.org/abs/2412.03603. The start image takes the place of the first latent
frame ("token replace"), or goes beside all of them as further channels ("latent
concat").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    CLIPTextModel,
    LlamaModel,
    LlavaForConditionalGeneration,
)

from engine.family import LoadedModel, ModelVariant, OnComponent, OnPhase, OnStep
from engine.loading.checkpoint import load_tokenizer, network_loader
from engine.request import GenerationRequest
from engine.sampling.reporting import reporting
from hyvideo.attention import attend_without_mask
from hyvideo.decode import decode_video, vae_precision
from hyvideo.encode import Conditioning, cfg_scale, encode_request

LEAD = 4
"""So many frames come first in a video that latent concat makes, and are dropped: in
them the start image settles."""


class ImageToVideo(HunyuanVideoImageToVideoPipeline):
    """diffusers' pipeline, which keeps the start image's latents for previews."""

    image_latents: Tensor

    def prepare_latents(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        latents, self.image_latents = super().prepare_latents(*args, **kwargs)
        return latents, self.image_latents


def load(
    variant: ModelVariant,  # noqa: ARG001 - its files tell what it is
    weights: Mapping[str, Path],
    dtype: str,
    on_component: OnComponent,
) -> Any:
    """diffusers' pipeline for the row, on the CPU. Raises ``UnreadableFile``."""
    network = network_loader(weights, dtype, on_component)

    sees_images = "image_processor" in weights
    language_model = LlavaForConditionalGeneration if sees_images else LlamaModel
    parts = {
        "tokenizer": load_tokenizer(AutoTokenizer, weights["tokenizer"]),
        "tokenizer_2": load_tokenizer(AutoTokenizer, weights["tokenizer_2"]),
        "text_encoder": network("text_encoder", language_model),
        "text_encoder_2": network("text_encoder_2", CLIPTextModel),
        "transformer": network("transformer", HunyuanVideoTransformer3DModel),
        "vae": network("vae", AutoencoderKLHunyuanVideo, vae_precision(dtype)),
        "scheduler": FlowMatchEulerDiscreteScheduler(),
    }
    name_blocks(parts["transformer"])
    attend_without_mask(parts["transformer"])
    if sees_images:
        fill_in_padding(parts["text_encoder"].config, parts["tokenizer"])
        reader = load_tokenizer(AutoImageProcessor, weights["image_processor"])
        pipeline: Any = ImageToVideo(**parts, image_processor=reader)
    else:
        pipeline = HunyuanVideoPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)  # the engine shows progress
    return pipeline


def name_blocks(transformer: Any) -> None:
    """For compilation, for which diffusers names those without token replace alone."""
    blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    transformer._repeated_blocks = sorted({type(block).__name__ for block in blocks})


def fill_in_padding(config: Any, tokenizer: Any) -> None:
    """diffusers asks the language model which token is padding; its configuration
    doesn't say so in every file."""
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id


def encode(model: LoadedModel, request: GenerationRequest) -> Conditioning:
    """Embeddings of the prompts, and the start image."""
    return encode_request(model, request)


def denoise(
    model: LoadedModel,
    conditioning: Conditioning,
    request: GenerationRequest,
    on_step: OnStep,
    on_phase: OnPhase,  # noqa: ARG001 - it has one part
) -> Tensor:
    """Latents (1, channels, latent frames, height / 8, width / 8), float32; with
    latent concat, one latent frame more comes first.

    The first noise is drawn on the CPU: a seed starts from the same noise on every
    device.
    """
    assert request.num_frames
    pipeline = model.pipeline
    frames = request.num_frames + lead_of(pipeline)
    arguments: dict[str, Any] = conditioning.text.arguments()
    if conditioning.negative is not None:
        arguments |= conditioning.negative.arguments("negative_")
    if conditioning.image is not None:
        pipeline = from_image(pipeline)
        arguments["image"] = conditioning.image
    last: list[Tensor] = []

    def keep_last(
        _pipeline: Any, _index: int, _timestep: Any, values: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        last[:] = [values["latents"]]
        return {}

    pipeline.scheduler = reporting(
        FlowMatchEulerDiscreteScheduler(shift=request.flow_shift),
        lambda done, total, end: on_step(done, total, whole_video(pipeline, end)),
    )
    pipeline(
        **arguments,
        width=request.width,
        height=request.height,
        num_frames=frames,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        true_cfg_scale=cfg_scale(model.variant, request),
        generator=torch.Generator("cpu").manual_seed(request.seed),
        # Its result lacks the first latent frame of latent concat, without which the
        # others can't be decoded as the pipeline itself decodes them.
        callback_on_step_end=keep_last,
        output_type="latent",
        return_dict=False,
    )
    return last[0]


def whole_video(pipeline: Any, latents: Tensor) -> Tensor:
    """The latents of the request's frames from those that a step works on."""
    if lead_of(pipeline):
        return latents[:, :, 1:]
    if not isinstance(pipeline, ImageToVideo):
        return latents
    return torch.cat([pipeline.image_latents, latents], dim=2)


def lead_of(pipeline: Any) -> int:
    """How many frames are made before those of the request."""
    kind = pipeline.transformer.config.image_condition_type
    return LEAD if kind == "latent_concat" else 0


def from_image(pipeline: Any) -> Any:
    """The pipeline from images with the parts of ``pipeline``."""
    if isinstance(pipeline, ImageToVideo):
        return pipeline
    made = ImageToVideo(**pipeline.components, image_processor=None)
    made.set_progress_bar_config(disable=True)
    return made


def decode(
    model: LoadedModel, latents: Tensor, request: GenerationRequest
) -> Iterator[np.ndarray]:
    """Frames in chunks, uint8 (frames, height, width, 3)."""
    return decode_video(model, latents, request, skip=lead_of(model.pipeline))
