"""Ways to decode with Wan's VAE: what the speed of a layout and a precision is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

TINY = {"base_dim": 8, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}


@dataclass(frozen=True)
class VaeWay:
    dtype: torch.dtype
    channels_last: bool = False
    compiled: bool = False
    """The norms, each of which is six passes over all numbers."""
    tiled: bool = False
    """As diffusers tiles."""
    tile: int = 0
    """Pixels of our own tiles; 0 is the whole picture."""
    stock: bool = False


VAE_WAYS = {
    "stock float32": VaeWay(torch.float32, stock=True),
    "stock bfloat16": VaeWay(torch.bfloat16, stock=True),
    "stock bfloat16, tiled": VaeWay(torch.bfloat16, stock=True, tiled=True),
    "ours, float32": VaeWay(torch.float32),
    "ours, float32, channels last": VaeWay(torch.float32, channels_last=True),
    "ours, float16": VaeWay(torch.float16),
    "ours, float16, channels last": VaeWay(torch.float16, channels_last=True),
    "ours, float16, channels last, compiled norms": VaeWay(
        torch.float16, channels_last=True, compiled=True
    ),
    "ours, bfloat16, channels last, compiled norms": VaeWay(
        torch.bfloat16, channels_last=True, compiled=True
    ),
    "ours, float32, tiles of 256": VaeWay(torch.float32, tile=256),
    "ours, float16, channels last, compiled norms, tiles of 448": VaeWay(
        torch.float16, channels_last=True, compiled=True, tile=448
    ),
    "ours, float16, channels last, compiled norms, tiles of 256": VaeWay(
        torch.float16, channels_last=True, compiled=True, tile=256
    ),
}


def decoder(way: VaeWay, device: str, *, tiny: bool) -> Callable[[], torch.Tensor]:
    """Decodes 832 × 480 × 81, to frames in main memory."""
    from wan.decode import decode_chunks, decode_tiles

    vae = make_vae(way, device, tiny=tiny)
    torch.manual_seed(1)
    size = (1, 16, 3, 8, 8) if tiny else (1, 16, 21, 60, 104)
    latents = torch.randn(size).to(device, way.dtype)
    if way.stock:
        return lambda: vae.decode(latents, return_dict=False)[0].to(
            "cpu", torch.float16
        )

    def run() -> torch.Tensor:
        made = (
            decode_tiles(vae, latents, way.tile)
            if way.tile
            else decode_chunks(vae, latents)
        )
        return torch.cat([chunk.to("cpu", torch.float16) for chunk in made], dim=2)

    return run


def make_vae(way: VaeWay, device: str, *, tiny: bool) -> Any:
    """Torch's own initial weights, the same each time."""
    from diffusers import AutoencoderKLWan
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanRMS_norm

    torch.manual_seed(0)
    with torch.device(device):
        vae = AutoencoderKLWan(**(TINY if tiny else {}))
    vae.eval().requires_grad_(False)
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weight in vae.parameters():
        weight.data = weight.data.to(way.dtype)
        if way.channels_last and weight.ndim in formats:
            weight.data = weight.data.to(memory_format=formats[weight.ndim])
    if way.tiled:
        vae.enable_tiling()
    if way.compiled and device != "cpu":
        # All norms are one function to the compiler, each size another form of it;
        # beyond the limit nothing is compiled any more, silently.
        torch.compiler.reset()
        torch._dynamo.config.recompile_limit = 64
        for module in vae.modules():
            if isinstance(module, WanRMS_norm):
                module.compile(dynamic=True)
    return vae
