"""The Wan demo model from a start image, or from a start and an end image.

The layout is Wan 2.2's: beside the noisy latents the transformer sees which frames are
given, four channels, and the latents of a video of them and of grey.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from torch import Tensor, nn

from demo.codec import to_model
from demo.kind import Text
from demo.task import Encode, Shown, whole

BASE = "wan"
VARIANT = "wan-demo-i2v"
WAYS = {"first": 0.45, "both": 0.45, "nothing": 0.1}
SPARSE: frozenset[str] = frozenset()
SECONDS = 170.0
RATE = 4e-4
FRAMES_TOGETHER = 4
"""That one latent frame holds, but the first."""


def make_transformer(base: Any) -> WanTransformer3DModel:
    """The base with further channels, which count nothing yet."""
    channels = base.config.in_channels
    config = {**base.config, "in_channels": 2 * channels + FRAMES_TOGETHER}
    made = WanTransformer3DModel.from_config(config)
    weights = base.state_dict()
    weight = torch.zeros_like(made.patch_embedding.weight)
    weight[:, :channels] = weights["patch_embedding.weight"]
    made.load_state_dict({**weights, "patch_embedding.weight": weight})
    return made


def trained(transformer: nn.Module) -> list[nn.Parameter]:
    return list(transformer.parameters())


def show(encode: Encode, way: str, clips: Tensor, _rng: random.Random) -> Shown:
    holes = {
        "first": whole(clips, first=1),
        "both": whole(clips, first=1, last=1),
        "nothing": whole(clips),
    }[way]
    given = frames_given(holes, clips.shape[1])
    video = to_model(clips) * given[:, None, :, None, None]
    return Shown(encode(video), holes)


def frames_given(holes: Tensor, count: int) -> Tensor:
    """Whether each of ``count`` frames is given, bool (clips, count)."""
    frames = torch.arange(count, device=holes.device)
    return (frames < holes[:, :1]) | (frames >= holes[:, 1:2])


def mask_channels(holes: Tensor, frames: int) -> Tensor:
    """1 for frames that are given, (clips, 4, latent frames); the first frame counts
    four times."""
    given = frames_given(holes, (frames - 1) * FRAMES_TOGETHER + 1)
    repeated = given[:, :1].expand(-1, FRAMES_TOGETHER)
    every = torch.cat([repeated, given[:, 1:]], 1)
    return every.unflatten(1, (frames, FRAMES_TOGETHER)).transpose(1, 2).float()


def velocity(
    transformer: nn.Module, noisy: Tensor, levels: Tensor, text: Text, shown: Shown
) -> Tensor:
    """Predicted noise − latents; it knows one noise level for all frames."""
    count, _, frames, height, width = noisy.shape
    mask = mask_channels(shown.holes, frames)[..., None, None]
    mask = mask.expand(count, -1, -1, height, width)
    return transformer(
        hidden_states=torch.cat([noisy, mask.to(noisy), shown.condition], 1),
        timestep=levels * 1000,
        encoder_hidden_states=text.states,
        return_dict=False,
    )[0]


def save_pipeline(folder: Path, transformer: Any) -> None:
    """Write diffusers' pipeline, without the parts of the base."""
    WanImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=transformer,
    ).save_pretrained(folder)
