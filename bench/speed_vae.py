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
    stock: bool = False
    """As diffusers decodes."""
    tiled: bool = False
    """As diffusers tiles."""
    fast: bool = False
    """As the app decodes on a GPU."""
    tile: int = 0
    """Pixels of our own tiles; 0 is the whole picture."""


VAE_WAYS = {
    "stock float32": VaeWay(torch.float32, stock=True),
    "stock bfloat16": VaeWay(torch.bfloat16, stock=True),
    "stock bfloat16, tiled": VaeWay(torch.bfloat16, stock=True, tiled=True),
    "float32, frame by frame": VaeWay(torch.float32),
    "ours, float32": VaeWay(torch.float32, fast=True),
    "ours, float16": VaeWay(torch.float16, fast=True),
    "ours, float16, tiles of 448": VaeWay(torch.float16, fast=True, tile=448),
    "ours, float16, tiles of 320": VaeWay(torch.float16, fast=True, tile=320),
    "ours, float16, tiles of 256": VaeWay(torch.float16, fast=True, tile=256),
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

    from wan.vae import speed_up

    torch.manual_seed(0)
    with torch.device(device):
        vae = AutoencoderKLWan(**(TINY if tiny else {}))
    vae.eval().requires_grad_(False)
    for weight in vae.parameters():
        weight.data = weight.data.to(way.dtype)
    if way.tiled:
        vae.enable_tiling()
    if way.fast:
        speed_up(vae)
    return vae
