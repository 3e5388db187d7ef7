"""Latents to frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from diffusers import LTXLatentUpsamplePipeline
from diffusers.utils.torch_utils import get_module_execution_device, randn_tensor
from torch import Tensor
from torch.nn import functional as F

from engine.family import LoadedModel
from engine.loading.memory import free_memory
from engine.media.pixels import to_uint8
from engine.request import GenerationRequest
from ltx_video.config import LtxConfig
from ltx_video.sizes import CELL, Size, whole_size
from ltx_video.variants import config_of

CHUNK = 8
BYTES_PER_PIXEL = 140
"""What decoding needs in bfloat16; measured: 9.3 GiB for 81 frames of 1280 × 704."""
TILES = (512, 256)


@torch.no_grad()
def decode(
    model: LoadedModel, latents: Tensor, request: GenerationRequest
) -> Iterator[np.ndarray]:
    """Frames in chunks, uint8 (frames, height, width, 3), scaled and cut to the size
    of the request."""
    assert request.width and request.height
    vae = model.pipeline.vae
    video = decode_whole(vae, latents, request, config_of(model.variant))
    whole = whole_size(request.width, request.height)
    for start in range(0, video.shape[2], CHUNK):
        chunk = video[:, :, start : start + CHUNK]
        yield to_uint8(cut(resized(chunk, whole), request.width, request.height))


def decode_whole(
    vae: Any, latents: Tensor, request: GenerationRequest, config: LtxConfig
) -> Tensor:
    """(1, 3, frames, height, width), about [-1, 1]."""
    device = get_module_execution_device(vae)
    shape = (1, -1, 1, 1, 1)
    latents = latents.float().to(device)
    ratio = config.tone_map_compression_ratio
    if ratio > 0:
        latents = LTXLatentUpsamplePipeline.tone_map_latents(None, latents, ratio)
    mean, deviation = (
        each.float().to(device).view(shape)
        for each in (vae.latents_mean, vae.latents_std)
    )
    raw = latents * deviation / vae.config.scaling_factor + mean
    raw = raw.to(vae.dtype)
    timestep = None
    if vae.config.timestep_conditioning:
        generator = torch.Generator("cpu").manual_seed(request.seed)
        noise = randn_tensor(
            raw.shape, generator=generator, device=torch.device(device), dtype=raw.dtype
        )
        raw = (1 - config.decode_noise_scale) * raw + config.decode_noise_scale * noise
        timestep = torch.tensor(
            [config.decode_timestep], device=device, dtype=raw.dtype
        )
    use_tiles(vae, tile_size(request, raw, device))
    try:
        video: Tensor = vae.decode(raw, timestep, return_dict=False)[0]
    finally:
        use_tiles(vae, 0)  # given frames are always encoded as a whole
    return video


def tile_size(request: GenerationRequest, latents: Tensor, device: Any) -> int:
    """In pixels; 0 decodes the picture as a whole, which automatic does when it fits
    into the GPU's free memory."""
    if request.vae_tile_size is not None:
        return request.vae_tile_size
    if torch.device(device).type != "cuda":
        return 0
    free = free_memory(device)
    pixels = latents.shape[2] * 8 * latents.shape[3] * latents.shape[4] * CELL * CELL
    needed = pixels * BYTES_PER_PIXEL * latents.element_size() / 2
    if needed < 0.9 * free:
        return 0
    return TILES[0] if free > 8 << 30 else TILES[1]


def use_tiles(vae: Any, size: int) -> None:
    """Tiles of ``size`` pixels that overlap by a quarter, at least by one cell."""
    vae.use_tiling = size > 0
    if size:
        stride = size - max(size // 4 // CELL, 1) * CELL
        vae.enable_tiling(
            tile_sample_min_height=size,
            tile_sample_min_width=size,
            tile_sample_stride_height=stride,
            tile_sample_stride_width=stride,
        )


def resized(video: Tensor, whole: Size) -> Tensor:
    """(1, 3, frames, height, width) in this size."""
    if video.shape[3:] == (whole.height, whole.width):
        return video
    frames = video[0].transpose(0, 1).float()
    scaled = F.interpolate(
        frames, (whole.height, whole.width), mode="bilinear", antialias=True
    )
    return scaled.transpose(0, 1)[None]


def cut(video: Tensor, width: int, height: int) -> Tensor:
    """The middle of the picture."""
    top, left = (video.shape[3] - height) // 2, (video.shape[4] - width) // 2
    return video[..., top : top + height, left : left + width]
