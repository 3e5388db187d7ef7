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
from diffusers.utils.torch_utils import get_module_execution_device
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
from engine.loading.checkpoint import load_component, load_tokenizer
from engine.media.frames import load_image
from engine.request import GenerationRequest
from engine.sampling.reporting import reporting
from hyvideo.decode import to_uint8
from hyvideo.framepack_sections import (
    OVERLAP,
    WINDOW,
    Sections,
    View,
    count_sections,
    decoded_together,
    join,
)
from hyvideo.variants import ORDERS

COMPILED_BLOCKS = ["HunyuanVideoTransformerBlock", "HunyuanVideoSingleTransformerBlock"]


@dataclass(frozen=True)
class Text:
    """What one prompt says: embeddings (1, tokens, channels) by the language model,
    which of them are real (1, tokens), and CLIP's of the whole (1, channels)."""

    embeds: Tensor
    mask: Tensor
    pooled: Tensor

    def arguments(self) -> dict[str, Tensor]:
        """As diffusers' transformer names them."""
        return {
            "encoder_hidden_states": self.embeds,
            "encoder_attention_mask": self.mask,
            "pooled_projections": self.pooled,
        }


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

    def network(name: str, kind: Any) -> Any:
        on_component(name.replace("_", " "))
        return load_component(kind, weights[name], dtype)

    reader = load_tokenizer(AutoImageProcessor, weights["feature_extractor"])
    pipeline = HunyuanVideoFramepackPipeline(
        tokenizer=load_tokenizer(AutoTokenizer, weights["tokenizer"]),
        tokenizer_2=load_tokenizer(AutoTokenizer, weights["tokenizer_2"]),
        text_encoder=network("text_encoder", LlamaModel),
        text_encoder_2=network("text_encoder_2", CLIPTextModel),
        image_encoder=network("image_encoder", SiglipVisionModel),
        feature_extractor=reader,
        transformer=network("transformer", HunyuanVideoFramepackTransformer3DModel),
        vae=network("vae", AutoencoderKLHunyuanVideo),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    )
    # diffusers' class doesn't name them, and can't be compiled without.
    pipeline.transformer._repeated_blocks = COMPILED_BLOCKS
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
    is_guided = (request.true_cfg_scale or 1.0) > 1
    negative = request.negative_prompt or ""
    return Conditioning(
        _embed(model, request.prompt),
        _embed(model, negative) if is_guided else None,
        pipeline.encode_image(first).to(pipeline.transformer.dtype),
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


def _embed(model: LoadedModel, prompt: str) -> Text:
    pipeline = model.pipeline
    embeds, pooled, mask = pipeline.encode_prompt(
        prompt, max_sequence_length=model.variant.max_sequence_length
    )
    dtype = pipeline.transformer.dtype
    return Text(embeds.to(dtype), mask.to(dtype), pooled.to(dtype))


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
    pipeline, steps = model.pipeline, request.num_inference_steps
    generator = torch.Generator("cpu").manual_seed(request.seed)
    first = _encode_image(pipeline, conditioning.first, generator)
    last = None
    if conditioning.last is not None:
        last = _encode_image(pipeline, conditioning.last, generator)
    count = count_sections(request.num_frames)
    sections = Sections(ORDERS[model.variant.id], count, first, last)
    _, channels, _, height, width = first.shape
    made = torch.empty(1, channels, 1 + count * WINDOW, height, width)
    made[:, :, :1] = first.cpu()
    for number, place in enumerate(sections.places()):
        on_phase(f"section {number + 1} of {count}")
        before = number * steps
        pipeline.scheduler = reporting(
            FlowMatchEulerDiscreteScheduler(shift=request.flow_shift),
            lambda done, _, latents, before=before: on_step(
                before + done, count * steps, latents
            ),
        )
        latents = _make_section(
            pipeline, conditioning, request, sections.view(place), generator
        )
        sections.add(latents)
        begin = 1 + place * WINDOW
        made[:, :, begin : begin + WINDOW] = latents.cpu()
    return made


def _encode_image(pipeline: Any, image: Tensor, generator: torch.Generator) -> Tensor:
    latents: Tensor = pipeline.prepare_image_latents(
        image, dtype=torch.float32, generator=generator
    )
    return latents


def _make_section(
    pipeline: Any,
    conditioning: Conditioning,
    request: GenerationRequest,
    view: View,
    generator: torch.Generator,
) -> Tensor:
    """Latents (1, 16, 9, height / 8, width / 8) from noise."""
    assert request.num_inference_steps
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
    scale = request.true_cfg_scale or 1.0
    shared = {
        "image_embeds": conditioning.image_embeds,
        "guidance": _guidance(transformer, request.guidance_scale, device),
        **view.arguments(transformer.dtype),
        "return_dict": False,
    }
    for time in pipeline.scheduler.timesteps:
        given = latents.to(transformer.dtype)
        moment = time.expand(1)
        velocity = transformer(
            given, moment, **conditioning.text.arguments(), **shared
        )[0]
        if conditioning.negative is not None:
            away = transformer(
                given, moment, **conditioning.negative.arguments(), **shared
            )[0]
            velocity = away + scale * (velocity - away)
        (latents,) = pipeline.scheduler.step(
            velocity.float(), time, latents, return_dict=False
        )
    return latents


def _guidance(transformer: Any, scale: float | None, device: Any) -> Tensor:
    """The embedded guidance scale as the transformer takes it."""
    assert scale is not None
    return torch.tensor([scale], dtype=transformer.dtype, device=device) * 1000.0


@torch.no_grad()
def decode(
    model: LoadedModel, latents: Tensor, request: GenerationRequest
) -> Iterator[np.ndarray]:
    """Frames in chunks, uint8 (frames, height, width, 3). Each section is decoded
    together with its neighbour and faded into what came before, as diffusers does it,
    but only two of them are in memory."""
    assert request.num_frames
    pipeline = model.pipeline
    slices = decoded_together(
        ORDERS[model.variant.id], count_sections(request.num_frames)
    )
    pieces = (_decode_piece(pipeline.vae, latents[:, :, part]) for part in slices)
    for frames in join(pieces):
        yield to_uint8(frames)


def _decode_piece(vae: Any, latents: Tensor) -> Tensor:
    device = get_module_execution_device(vae)
    raw = latents.to(device).to(vae.dtype) / vae.config.scaling_factor
    video: Tensor = vae.decode(raw, return_dict=False)[0]
    return video
