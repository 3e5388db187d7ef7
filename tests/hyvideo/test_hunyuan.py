from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoPipeline,
)
from PIL import Image

from engine.errors import Cancelled
from hyvideo import FAMILY
from hyvideo.variants import TEMPLATES
from tests.tiny_hyvideo import CHANNELS

FROM_TEXT = ("hyvideo-demo", "hunyuan-video-t2v")
FROM_IMAGE = ("hunyuan-video-i2v", "hunyuan-video-i2v-33ch")
EMBEDDED = ("hunyuan-video-t2v", "hunyuan-video-i2v")
FRAMES = {"hunyuan-video-i2v-33ch": 13}
"""Of the pipeline, for a video of 9."""


def denoise(model, request, on_step=lambda done, total, latents: None):
    return FAMILY.denoise(model, FAMILY.encode(model, request), request, on_step, str)


def upstream(row, folder):
    kind = (
        HunyuanVideoImageToVideoPipeline if row in FROM_IMAGE else HunyuanVideoPipeline
    )
    pipeline = kind.from_pretrained(folder)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call_upstream(row, folder, request, picture, **more):
    """diffusers' own pipeline as its users call it."""
    if row in FROM_IMAGE:
        more["image"] = Image.open(picture)
    if row in TEMPLATES:
        more["prompt_template"] = TEMPLATES[row]
    is_embedded = row in EMBEDDED
    scale = request.true_cfg_scale if is_embedded else request.guidance_scale
    return upstream(row, folder)(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=64,
        height=48,
        num_frames=FRAMES.get(row, 9),
        num_inference_steps=3,
        guidance_scale=request.guidance_scale if is_embedded else 1.0,
        true_cfg_scale=scale,
        generator=torch.Generator().manual_seed(request.seed),
        **more,
    ).frames


@pytest.mark.parametrize("true_cfg_scale", [1.0, 4.0])
@pytest.mark.parametrize("row", [*FROM_TEXT, *FROM_IMAGE])
def test_videos_are_those_of_diffusers_own_pipeline(
    load, tiny_folder_of, request_of, picture, row, true_cfg_scale
):
    """Within rounding: it pads the prompt and masks the padding, which changes the
    order of sums."""
    values = {"guidance_scale": true_cfg_scale}
    if row in EMBEDDED:
        values = {"guidance_scale": 6.0, "true_cfg_scale": true_cfg_scale}
    if row in FROM_IMAGE:
        values["image_start"] = picture
    request = request_of(
        model=row, flow_shift=5.0, negative_prompt="a blue cube", **values
    )
    model = load(row)
    latents = denoise(model, request)
    theirs = call_upstream(
        row, tiny_folder_of(row), request, picture, output_type="latent"
    )
    lead = latents.shape[2] - theirs.shape[2]
    assert lead == (1 if row in FRAMES else 0)
    assert theirs.shape == (1, CHANNELS, 3, 6, 8)
    assert (latents[:, :, lead:] - theirs).abs().max() < 1e-4
    frames = np.concatenate(list(FAMILY.decode(model, latents, request)))
    video = call_upstream(row, tiny_folder_of(row), request, picture, output_type="np")[
        0
    ]
    assert frames.shape == video.shape == (9, 48, 64, 3)
    assert np.abs(frames / 255 - video).max() < 1 / 255
