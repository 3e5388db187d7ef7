"""Prompts to text embeddings, and the frames that the video is to show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch

from engine.family import LoadedModel
from engine.media.frames import is_video, load_clip, load_image
from engine.request import GenerationRequest
from ltx_video.guidance import is_guided
from ltx_video.sizes import Size, whole_size
from ltx_video.variants import config_of


@dataclass(frozen=True)
class Pin:
    """Frames, uint8 (frames, height, width, 3), that the video shows from
    ``frame_index`` on; strength 1 keeps them as they are."""

    frames: np.ndarray
    frame_index: int
    strength: float


@dataclass(frozen=True)
class Text:
    """Embeddings of a prompt's parts, one after the other."""

    embeds: torch.Tensor
    """(1, tokens, channels)."""
    mask: torch.Tensor | None
    """Which of them are words, (1, tokens); ``None``: all."""


@dataclass(frozen=True)
class Conditioning:
    """What the transformer is conditioned on."""

    text: Text
    negative: Text | None
    """As long as ``text``; None when no step is guided."""
    parts: int
    """Of the prompt; they follow one another in the video."""
    pins: tuple[Pin, ...]


def split_prompt(prompt: str) -> list[str]:
    """The parts of a prompt that ``|`` separates."""
    return [part.strip() for part in prompt.split("|")]


@torch.no_grad()
def encode(model: LoadedModel, request: GenerationRequest) -> Conditioning:
    """Embeddings of the prompt and of the negative one, and the given frames."""
    prompts = split_prompt(request.prompt)
    assert request.guidance_scale is not None
    negative = None
    if is_guided(config_of(model.variant), request.guidance_scale):
        negative = _embed(model, [request.negative_prompt or ""] * len(prompts))
    return Conditioning(
        _embed(model, prompts), negative, len(prompts), tuple(_pins(request))
    )


def _embed(model: LoadedModel, prompts: list[str]) -> Text:
    embeds, mask, _, _ = model.pipeline.encode_prompt(
        prompts,
        do_classifier_free_guidance=False,
        max_sequence_length=model.variant.max_sequence_length,
    )
    return Text(embeds.flatten(0, 1)[None], mask.flatten()[None])


def without_padding(conditioning: Conditioning) -> Conditioning:
    """Its texts as long as the longest of them is without padding, which is at the end:
    attention without a mask is faster. Parts of a prompt stay as they are."""
    if conditioning.parts > 1:
        return conditioning
    texts = [conditioning.text]
    if conditioning.negative is not None:
        texts.append(conditioning.negative)
    masks = [text.mask for text in texts if text.mask is not None]
    words = [int(mask.sum()) for mask in masks]
    longest = max(words)
    is_even = min(words) == longest
    text, *negative = [
        Text(text.embeds[:, :longest], None if is_even else mask[:, :longest])
        for text, mask in zip(texts, masks, strict=True)
    ]
    return replace(conditioning, text=text, negative=negative[0] if negative else None)


def _pins(request: GenerationRequest) -> Iterator[Pin]:
    """In the order of their frames, so that the same request gives the same noise."""
    width, height, count = request.width, request.height, request.num_frames
    assert width and height and count and request.fps
    fitted = whole_size(width, height)
    if request.source_video is not None:
        clip = load_clip(
            request.source_video,
            width,
            height,
            request.fps,
            last=request.overlap_frames,
        )
        yield Pin(padded(clip, fitted), 0, 1.0)
    if request.image_start is not None:
        image = load_image(request.image_start, width, height)
        yield Pin(padded(image[None], fitted), 0, 1.0)
    for condition in request.conditions:
        start = condition.first_frame(count)
        if is_video(condition.file):
            frames = load_clip(
                condition.file, width, height, request.fps, first=count - start
            )
            frames = frames[: (len(frames) - 1) // 8 * 8 + 1]
        else:
            frames = load_image(condition.file, width, height)[None]
        yield from in_pieces(Pin(padded(frames, fitted), start, condition.strength))
    if request.image_end is not None:
        image = load_image(request.image_end, width, height)
        yield Pin(padded(image[None], fitted), count - 1, 1.0)


def in_pieces(pin: Pin) -> Iterator[Pin]:
    """A clip as a whole, or pieces of 9 frames that overlap by one when it doesn't
    begin at a multiple of 8.

    diffusers gives the first 9 frames their own time, and puts those after them among
    the video's latents, which lie at multiples of 8: up to 7 frames too early.
    """
    if pin.frame_index % 8 == 0 or len(pin.frames) <= 9:
        yield pin
        return
    for begin in range(0, len(pin.frames) - 1, 8):
        frames = pin.frames[begin : begin + 9]
        yield Pin(frames, pin.frame_index + begin, pin.strength)


def padded(frames: np.ndarray, whole: Size) -> np.ndarray:
    """``frames`` with their borders drawn out, half to each side."""
    more_y, more_x = whole.height - frames.shape[1], whole.width - frames.shape[2]
    before_y, before_x = more_y // 2, more_x // 2
    borders = (
        (0, 0),
        (before_y, more_y - before_y),
        (before_x, more_x - before_x),
        (0, 0),
    )
    return np.pad(frames, borders, mode="edge")
