"""VACE: a control video to follow, a mask of what to make anew, pictures of things.

https://arxiv.org/abs/2503.07598
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from engine.family import LoadedModel
from engine.media.frames import is_video, load_clip, load_image, read_image
from engine.request import GenerationRequest
from wan.call import Call

GREY = 128
"""What the transformer was trained to see where something is to be made anew."""


def from_controls(model: LoadedModel, request: GenerationRequest) -> Call:
    """Noise, steered by what the request shows. Raises ``UnreadableFile``.

    Without a mask the whole control video is followed: poses, depth, edges, or plain
    pictures. With one, what is black in it stays as the control video has it, and what
    is white is made anew, whatever the control video shows there.
    """
    assert request.num_inference_steps
    arguments: dict[str, Any] = {
        "num_frames": request.num_frames,
        "guidance_scale_2": request.guidance_scale_2,
    }
    if request.control_video is not None:
        frames = _frames(request, request.control_video)
        if request.control_mask is not None:
            mask = _frames(request, request.control_mask).mean(axis=-1) > 127
            frames = np.where(mask[..., None], np.uint8(GREY), frames)
            arguments["mask"] = _pictures(mask.astype(np.uint8) * 255)
        arguments["video"] = _pictures(frames)
    if request.image_refs:
        arguments["reference_images"] = [
            read_image(file) for file in request.image_refs
        ]
    return Call(
        model.pipeline,
        arguments,
        request.num_inference_steps,
        extra_frames=len(request.image_refs),  # each is a latent frame of its own
    )


def _frames(request: GenerationRequest, file: str) -> np.ndarray:
    """As many as the video has, uint8 (frames, height, width, 3); of a picture, it
    again and again."""
    assert request.width and request.height and request.fps and request.num_frames
    count = request.num_frames
    if is_video(file):
        return load_clip(file, request.width, request.height, request.fps, first=count)
    picture = load_image(file, request.width, request.height)
    return np.broadcast_to(picture, (count, *picture.shape))


def _pictures(frames: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(frame) for frame in frames]
