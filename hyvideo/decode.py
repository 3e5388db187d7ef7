"""Latents to frames, a few latent frames at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers.utils.torch_utils import get_module_execution_device
from torch import Tensor

from engine.family import LoadedModel
from engine.loading.tiles import automatic_tile
from engine.media.pixels import to_uint8
from engine.request import GenerationRequest

BYTES_PER_PIXEL = 3600
"""What decoding needs in 16 bits for each pixel of the frames that are decoded
together; measured: 22.2 GiB for pieces of 17 frames of 832 × 480."""
TILES = (512, 256, 128)
CELL = 16
"""Overlaps are multiples of it, in pixels."""


@torch.no_grad()
def decode_video(
    model: LoadedModel, latents: Tensor, request: GenerationRequest, *, skip: int = 0
) -> Iterator[np.ndarray]:
    """Frames in chunks, uint8 (frames, height, width, 3), without the first ``skip``
    of them.

    ``latents`` are in the transformer's scale.
    """
    vae = model.pipeline.vae
    raw = denormalise(vae, latents)
    with tiles_of(vae, tile_size(request, vae, raw)):
        for chunk in decode_chunks(vae, raw):
            kept = chunk[:, :, skip:]
            skip = max(skip - chunk.shape[2], 0)
            if kept.shape[2]:
                yield to_uint8(kept)


def vae_precision(dtype: str) -> str:
    """Its authors run it in float16, which rounds less than bfloat16."""
    return "float16" if dtype == "bfloat16" else dtype


def denormalise(vae: Any, latents: Tensor) -> Tensor:
    """From the transformer's scale to the VAE's."""
    # Offloaded, its weights may lie elsewhere than it runs.
    latents = latents.to(get_module_execution_device(vae), vae.dtype)
    factor: float = vae.config.scaling_factor
    return latents / factor


def decode_chunks(vae: Any, latents: Tensor) -> Iterator[Tensor]:
    """What ``vae.decode`` returns, (1, 3, frames, height, width), about [-1, 1], in
    pieces: it keeps all frames until the last one is done.

    Its pieces are 17 frames that overlap and fade into one another; so are these.
    """
    length = vae.tile_sample_min_num_frames
    stride = vae.tile_sample_stride_num_frames
    per_latent = vae.temporal_compression_ratio
    if latents.shape[2] <= length // per_latent:
        yield decode_piece(vae, latents)
        return
    before: Tensor | None = None
    for start in range(0, latents.shape[2], stride // per_latent):
        piece = decode_piece(
            vae, latents[:, :, start : start + length // per_latent + 1]
        )
        if before is None:
            yield piece[:, :, : stride + 1]
        else:
            piece = vae.blend_t(before, piece[:, :, 1:], length - stride)
            yield piece[:, :, :stride]
        before = piece


def decode_piece(vae: Any, latents: Tensor) -> Tensor:
    """As a whole, or in tiles."""
    cell = vae.spatial_compression_ratio
    height, width = latents.shape[3] * cell, latents.shape[4] * cell
    is_larger = height > vae.tile_sample_min_height or width > vae.tile_sample_min_width
    if vae.use_tiling and is_larger:
        tiled: Tensor = vae.tiled_decode(latents).sample
        return tiled
    whole: Tensor = vae.decoder(vae.post_quant_conv(latents))
    return whole


def tile_size(request: GenerationRequest, vae: Any, latents: Tensor) -> int:
    """In pixels; 0 decodes the picture as a whole, which automatic does when it fits
    into the GPU's free memory."""
    if request.vae_tile_size is not None:
        return request.vae_tile_size
    frames = min(
        (latents.shape[2] - 1) * vae.temporal_compression_ratio,
        vae.tile_sample_min_num_frames,
    )
    area = latents.shape[3] * latents.shape[4] * vae.spatial_compression_ratio**2
    per_pixel = (frames + 1) * BYTES_PER_PIXEL * latents.element_size() / 2
    return automatic_tile(TILES, latents.device, area, per_pixel)


@contextmanager
def tiles_of(vae: Any, size: int) -> Iterator[None]:
    """While it lasts, ``vae`` works in tiles of ``size`` pixels that overlap by a
    quarter; 0 is the whole picture. Start images are always encoded as a whole."""
    if size:
        stride = size - max(size // 4 // CELL, 1) * CELL
        vae.enable_tiling(
            tile_sample_min_height=size,
            tile_sample_min_width=size,
            tile_sample_stride_height=stride,
            tile_sample_stride_width=stride,
        )
    try:
        yield
    finally:
        vae.disable_tiling()
