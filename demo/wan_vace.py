"""The Wan demo model with VACE: a control video to follow, a hole to fill, a reference
image to show. https://arxiv.org/abs/2503.07598

The model from text stays as it is; a few further blocks see what is given, and add to
what its own blocks make.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from torch import Tensor, nn

from demo.codec import to_model
from demo.controls import edges, grey, random_holes
from demo.kind import Text
from demo.task import Encode, Shown, hole_masks, whole

BASE = "wan"
VARIANT = "wan-demo-vace"
WAYS = {"hole": 0.4, "grey": 0.15, "edges": 0.2, "reference": 0.2, "nothing": 0.05}
SPARSE = frozenset({"reference", "grey", "edges"})
SECONDS = 500.0
RATE = 6e-4
FRAMES_TOGETHER, PIXELS_TOGETHER = 4, 16
LAYERS = (0, 2, 4)
"""Which of the base's blocks get something added."""


def make_transformer(base: Any) -> WanVACETransformer3DModel:
    """The base, and copies of a few of its blocks that add nothing yet."""
    channels = base.config.in_channels
    names = ("pos_embed_seq_len", "image_dim", "added_kv_proj_dim")
    config = {name: value for name, value in base.config.items() if name not in names}
    made = WanVACETransformer3DModel.from_config(
        {
            **config,
            "vace_layers": list(LAYERS),
            "vace_in_channels": 2 * channels + PIXELS_TOGETHER**2,
        }
    )
    unset = made.load_state_dict(base.state_dict(), strict=False)
    assert not unset.unexpected_keys
    assert all(name.startswith("vace_") for name in unset.missing_keys)
    for block, layer in zip(made.vace_blocks, LAYERS, strict=True):
        block.load_state_dict(base.blocks[layer].state_dict(), strict=False)
        nn.init.zeros_(block.proj_out.weight)
        nn.init.zeros_(block.proj_out.bias)
    for name, parameter in made.named_parameters():
        parameter.requires_grad_(name.startswith("vace_"))
    return made


def trained(transformer: nn.Module) -> list[nn.Parameter]:
    return [
        parameter
        for name, parameter in transformer.named_parameters()
        if name.startswith("vace_")
    ]


def show(encode: Encode, way: str, clips: Tensor, rng: random.Random) -> Shown:
    """Latents of what stays, and of what is shown of the rest."""
    holes, video = whole(clips), to_model(clips)
    stays, rest = torch.zeros_like(video), torch.zeros_like(video)
    if way == "hole":
        holes = random_holes(clips, rng)
        frames = torch.arange(clips.shape[1], device=clips.device)
        anew = hole_masks(holes, frames, *clips.shape[2:4])[:, None]
        stays = video * ~anew
    elif way in ("grey", "edges"):
        rest = to_model({"grey": grey, "edges": edges}[way](clips))
    condition = torch.cat([encode(stays), encode(rest)], 1)
    if way == "reference":
        # Mirrored, so that nothing can be copied from where it is.
        picture = to_model(clips[:, rng.randrange(clips.shape[1])].flip(2)[:, None])
        latents = encode(picture)
        alone = torch.cat([latents, torch.zeros_like(latents)], 1)
        return Shown(torch.cat([alone, condition], 2), holes, pictures=1)
    return Shown(condition, holes)


def mask_channels(holes: Tensor, frames: int, height: int, width: int) -> Tensor:
    """1 where pixels are to be made anew, (clips, 256, latent frames, h, w): a channel
    for each pixel of a latent's square, in the frame that is nearest in time."""
    count = (frames - 1) * FRAMES_TOGETHER + 1
    nearest = ((torch.arange(frames) + 0.5) * count / frames).long().to(holes.device)
    side = PIXELS_TOGETHER
    masks = hole_masks(holes, nearest, height * side, width * side)
    squares = masks.unflatten(3, (width, side)).unflatten(2, (height, side))
    return squares.permute(0, 3, 5, 1, 2, 4).flatten(1, 2).float()


def velocity(
    transformer: nn.Module, noisy: Tensor, levels: Tensor, text: Text, shown: Shown
) -> Tensor:
    """Predicted noise − latents; it knows one noise level for all frames."""
    _, _, frames, height, width = noisy.shape
    mask = mask_channels(shown.holes, frames - shown.pictures, height, width)
    mask = torch.cat([torch.zeros_like(mask[:, :, : shown.pictures]), mask], 2)
    return transformer(
        hidden_states=noisy,
        timestep=levels * 1000,
        encoder_hidden_states=text.states,
        control_hidden_states=torch.cat([shown.condition, mask.to(noisy)], 1),
        return_dict=False,
    )[0]


def save_pipeline(folder: Path, transformer: Any) -> None:
    """Write diffusers' pipeline, without the parts of the base."""
    WanVACEPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=transformer,
    ).save_pretrained(folder)
