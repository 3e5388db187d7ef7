"""What a request asks of a model: a video from text, from images or from a video."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import WanImageToVideoPipeline, WanVideoToVideoPipeline
from PIL import Image

from engine.family import LoadedModel
from engine.media.frames import load_clip, load_image
from engine.request import GenerationRequest
from wan.call import Call, share
from wan.forcing import from_history
from wan.vace import from_controls
from wan.variants import options_of


class ImageToVideo(WanImageToVideoPipeline):
    """diffusers' pipeline, which keeps the start image's latents for previews."""

    image_latents: torch.Tensor

    def encode_image(self, image: Any, device: Any = None) -> torch.Tensor:
        """Of start and end image both, where the network was trained to see both."""
        if isinstance(image, list) and not self.transformer.config.pos_embed_seq_len:
            image = image[:1]
        seen: torch.Tensor = super().encode_image(image, device)
        return seen

    def prepare_latents(self, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, ...]:
        made: tuple[torch.Tensor, ...] = super().prepare_latents(*args, **kwargs)
        self.image_latents = made[1]
        return made


def prepare(model: LoadedModel, request: GenerationRequest) -> Call:
    """The pipeline that makes the video of ``request``, and what it is given.

    Raises ``UnreadableFile``.
    """
    task = options_of(model.variant).task
    if task == "vace":
        return from_controls(model, request)
    if task == "forcing":
        return from_history(model, request)
    if request.image_start is not None:
        return from_images(model, request)
    if request.source_video is not None:
        return from_video(model, request)
    return from_text(model, request)


def from_text(model: LoadedModel, request: GenerationRequest) -> Call:
    """Nothing but noise to begin with."""
    assert request.num_inference_steps
    arguments = {
        "num_frames": request.num_frames,
        "guidance_scale_2": request.guidance_scale_2,
    }
    return Call(model.pipeline, arguments, request.num_inference_steps)


def from_images(model: LoadedModel, request: GenerationRequest) -> Call:
    """The first frame given, and maybe the last."""
    assert request.num_inference_steps
    first = _read(request, request.image_start)
    last = _read(request, request.image_end)
    pipeline = model.pipeline
    if not isinstance(pipeline, ImageToVideo):  # it makes videos from text too
        expand = options_of(model.variant).expand_timesteps
        pipeline = share(pipeline, ImageToVideo, expand_timesteps=expand)
    arguments = {
        "image": first,
        "last_image": last,
        "num_frames": request.num_frames,
        "guidance_scale_2": request.guidance_scale_2,
    }
    return Call(
        pipeline,
        arguments,
        request.num_inference_steps,
        keeps_first=pipeline.config.expand_timesteps,
    )


def from_video(model: LoadedModel, request: GenerationRequest) -> Call:
    """A source video with noise, of which the more steps follow the more it has."""
    assert request.source_video and request.width and request.height and request.fps
    assert request.strength is not None and request.num_inference_steps
    frames = load_clip(
        request.source_video,
        request.width,
        request.height,
        request.fps,
        first=request.num_frames,
    )
    arguments = {
        "video": [Image.fromarray(frame) for frame in frames],
        "strength": request.strength,
    }
    # As the pipeline counts them.
    steps = int(request.num_inference_steps * request.strength)
    return Call(share(model.pipeline, WanVideoToVideoPipeline), arguments, steps)


def _read(request: GenerationRequest, file: str | None) -> Image.Image | None:
    if file is None:
        return None
    assert request.width and request.height
    return Image.fromarray(load_image(file, request.width, request.height))
