"""FramePack: a start image to a video of any length, section by section, in constant
memory.

https://arxiv.org/abs/2504.12626. The loop over sections is here and not diffusers'
pipeline, because that keeps each state of the whole video until the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoFramepackPipeline,
    HunyuanVideoFramepackTransformer3DModel,
)
from PIL import Image
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    AutoTokenizer,
    CLIPTextModel,
    LlamaModel,
    SiglipVisionModel,
)

from engine.family import LoadedModel, ModelVariant, OnComponent, OnPhase, OnStep
from engine.loading.checkpoint import load_tokenizer, network_loader
from engine.media.frames import load_image
from engine.media.pixels import to_uint8
from engine.request import GenerationRequest
from engine.sampling.reporting import reporting
from hyvideo.attention import attend_without_mask
from hyvideo.decode import (
    denormalise,
    tile_size,
    tiles_of,
    vae_precision,
)
from hyvideo.encode import Text, cfg_scale, embed
from hyvideo.framepack_sections import (
    OVERLAP,
    WINDOW,
    Sections,
    View,
    count_sections,
    decoded_together,
    join,
)
from hyvideo.variants import options_of

COMPILED_BLOCKS = ["HunyuanVideoTransformerBlock", "HunyuanVideoSingleTransformerBlock"]


@dataclass(frozen=True)
class Conditioning:
    """What the transformer is conditioned on; images are (1, 3, height, width) in
    [-1, 1]."""

    text: Text
    negative: Text | None
    """Only with a ``true_cfg_scale`` above 1."""
    image_embeds: Tensor
    first: Tensor
    last: Tensor | None


def load(
    variant: ModelVariant,  # noqa: ARG001 - both rows have the same layout
    weights: Mapping[str, Path],
    dtype: str,
    on_component: OnComponent,
) -> Any:
    """diffusers' pipeline, on the CPU. Raises ``UnreadableFile``."""
    network = network_loader(weights, dtype, on_component)

    reader = load_tokenizer(AutoImageProcessor, weights["feature_extractor"])
    pipeline = HunyuanVideoFramepackPipeline(
        tokenizer=load_tokenizer(AutoTokenizer, weights["tokenizer"]),
        tokenizer_2=load_tokenizer(AutoTokenizer, weights["tokenizer_2"]),
        text_encoder=network("text_encoder", LlamaModel),
        text_encoder_2=network("text_encoder_2", CLIPTextModel),
        image_encoder=network("image_encoder", SiglipVisionModel),
        feature_extractor=reader,
        transformer=network("transformer", HunyuanVideoFramepackTransformer3DModel),
        vae=network("vae", AutoencoderKLHunyuanVideo, vae_precision(dtype)),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    # diffusers' class doesn't name them, and can't be compiled without.
    pipeline.transformer._repeated_blocks = COMPILED_BLOCKS
    attend_without_mask(pipeline.transformer)
    pipeline.set_progress_bar_config(disable=True)  # the engine shows progress
    return pipeline


@torch.no_grad()
def encode(model: LoadedModel, request: GenerationRequest) -> Conditioning:
    """Embeddings of the prompts and of the start image, and the images themselves."""
    pipeline = model.pipeline
    first = _read_image(pipeline, request, request.image_start)
    last = None
    if request.image_end is not None:
        last = _read_image(pipeline, request, request.image_end)
    is_guided = cfg_scale(model.variant, request) > 1
    negative = request.negative_prompt or ""
    return Conditioning(
        embed(model, request.prompt, None, is_negative=False),
        embed(model, negative, None, is_negative=True) if is_guided else None,
        pipeline.encode_image(first),
        first,
        last,
    )


def _read_image(pipeline: Any, request: GenerationRequest, file: str | None) -> Tensor:
    assert file is not None and request.width and request.height
    picture = Image.fromarray(load_image(file, request.width, request.height))
    image: Tensor = pipeline.video_processor.preprocess(
        picture, request.height, request.width
    )
    return image


@torch.no_grad()
def denoise(
    model: LoadedModel,
    conditioning: Conditioning,
    request: GenerationRequest,
    on_step: OnStep,
    on_phase: OnPhase,
) -> Tensor:
    """Latents (1, 16, 1 + 9 per section, height / 8, width / 8), float32, on the CPU:
    the start image, then the sections in the order of the video.

    The first noise is drawn on the CPU: a seed starts from the same noise on every
    device.
    """
    assert request.num_frames and request.num_inference_steps
    pipeline, count = model.pipeline, count_sections(request.num_frames)
    generator = torch.Generator("cpu").manual_seed(request.seed)
    first = _encode_image(pipeline, conditioning.first, generator)
    last = None
    if conditioning.last is not None:
        last = _encode_image(pipeline, conditioning.last, generator)
    sections = Sections(options_of(model.variant).order, count, first, last)
    _, channels, _, height, width = first.shape
    made = torch.empty(1, channels, 1 + count * WINDOW, height, width)
    made[:, :, :1] = first.cpu()
    for number, place in enumerate(sections.places()):
        on_phase(f"section {number + 1} of {count}")
        pipeline.scheduler = reporting(
            FlowMatchEulerDiscreteScheduler(shift=request.flow_shift),
            _counting_on(on_step, number, count),
        )
        latents = _make_section(
            model, conditioning, request, sections.view(place), generator
        )
        sections.add(latents)
        begin = 1 + place * WINDOW
        made[:, :, begin : begin + WINDOW] = latents.cpu()
    return made


def _counting_on(on_step: OnStep, number: int, count: int) -> OnStep:
    """Counts the steps of all ``count`` sections together."""

    def told(done: int, steps: int, latents: Tensor) -> None:
        on_step(number * steps + done, count * steps, latents)

    return told


def _encode_image(pipeline: Any, image: Tensor, generator: torch.Generator) -> Tensor:
    latents: Tensor = pipeline.prepare_image_latents(
        image, dtype=torch.float32, generator=generator
    )
    return latents


def _make_section(
    model: LoadedModel,
    conditioning: Conditioning,
    request: GenerationRequest,
    view: View,
    generator: torch.Generator,
) -> Tensor:
    """Latents (1, 16, 9, height / 8, width / 8) from noise."""
    assert request.num_inference_steps
    pipeline = model.pipeline
    transformer, device = pipeline.transformer, pipeline._execution_device
    latents: Tensor = pipeline.prepare_latents(
        num_channels_latents=transformer.config.in_channels,
        height=request.height,
        width=request.width,
        num_frames=OVERLAP,
        dtype=torch.float32,
        device=device,
        generator=generator,
    )
    levels = np.linspace(1.0, 0.0, request.num_inference_steps + 1)[:-1]
    pipeline.scheduler.set_timesteps(sigmas=levels, device=device)
    dtype, scale = transformer.dtype, cfg_scale(model.variant, request)
    shared = {
        "image_embeds": conditioning.image_embeds.to(dtype),
        "guidance": _guidance(request.guidance_scale, dtype, device),
        **view.arguments(dtype),
        "return_dict": False,
    }
    text = _arguments(conditioning.text, dtype)
    for time in pipeline.scheduler.timesteps:
        given, moment = latents.to(dtype), time.expand(1)
        velocity = transformer(given, moment, **text, **shared)[0]
        if conditioning.negative is not None:
            negative = _arguments(conditioning.negative, dtype)
            away = transformer(given, moment, **negative, **shared)[0]
            velocity = away + scale * (velocity - away)
        (latents,) = pipeline.scheduler.step(
            velocity.float(), time, latents, return_dict=False
        )
    return latents


def _arguments(text: Text, dtype: torch.dtype) -> dict[str, Tensor]:
    """As diffusers' transformer names them."""
    return {
        "encoder_hidden_states": text.embeds.to(dtype),
        "encoder_attention_mask": text.mask.to(dtype),
        "pooled_projections": text.pooled.to(dtype),
    }


def _guidance(scale: float | None, dtype: torch.dtype, device: Any) -> Tensor:
    """The embedded guidance scale as the transformer takes it."""
    assert scale is not None
    return torch.tensor([scale], dtype=dtype, device=device) * 1000.0


@torch.no_grad()
def decode(
    model: LoadedModel, latents: Tensor, request: GenerationRequest
) -> Iterator[np.ndarray]:
    """Frames in chunks, uint8 (frames, height, width, 3). Each section is decoded
    together with its neighbour and faded into what came before, as diffusers does it,
    but only two of them are in memory."""
    assert request.num_frames
    vae = model.pipeline.vae
    count = count_sections(request.num_frames)
    slices = decoded_together(options_of(model.variant).order, count)
    pieces = (_decode_piece(vae, latents[:, :, part], request) for part in slices)
    for frames in join(pieces):
        yield to_uint8(frames)


def _decode_piece(vae: Any, latents: Tensor, request: GenerationRequest) -> Tensor:
    raw = denormalise(vae, latents)
    with tiles_of(vae, tile_size(request, vae, raw)):
        video: Tensor = vae.decode(raw, return_dict=False)[0]
    return video
