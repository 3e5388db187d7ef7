"""Latents to frames, one latent frame at a time, or one tile after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from diffusers.utils.torch_utils import get_module_execution_device

from engine.errors import UserError
from engine.family import LoadedModel
from engine.loading.tiles import automatic_tile
from engine.media.pixels import to_uint8
from engine.request import GenerationRequest

BYTES_PER_PIXEL = 22_700
"""What decoding needs in float32 for each pixel of a frame; measured: 8.5 GiB for
832 × 480."""
TILES = (512, 384, 320, 256, 128)
CELL, OVERLAP = 16, 6
"""Tiles overlap by a sixth, in multiples of so many pixels, at least two."""


def decode(
    model: LoadedModel, latents: torch.Tensor, request: GenerationRequest
) -> Iterator[np.ndarray]:
    """Frames in chunks, uint8 (frames, height, width, 3): one for the first latent
    frame, four for each that follows."""
    vae = model.pipeline.vae
    raw = denormalise(vae, latents)
    size = tile_size(request, vae, raw)
    chunks = decode_tiles(vae, raw, size) if size else decode_chunks(vae, raw)
    for chunk in chunks:
        if not chunk.isfinite().all():
            raise UserError(_told_overflow(vae))
        yield to_uint8(chunk)


def _told_overflow(vae: Any) -> str:
    if vae.dtype == torch.float16:
        return (
            "decoding outgrew float16: give the model's row the option "
            "`vae_dtype: float32` (docs/models.md says how)"
        )
    return "the video has numbers that aren't finite: its weights may be damaged"


def tile_size(request: GenerationRequest, vae: Any, latents: torch.Tensor) -> int:
    """In pixels; 0 decodes the picture as a whole, which automatic does when it fits
    into the GPU's free memory."""
    if request.vae_tile_size is not None:
        return request.vae_tile_size
    per_pixel = BYTES_PER_PIXEL * latents.element_size() / 4
    area = latents.shape[3] * latents.shape[4] * vae.spatial_compression_ratio**2
    return automatic_tile(TILES, latents.device, area, per_pixel)


def denormalise(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """From the transformer's scale to the VAE's."""
    # Offloaded, its weights may lie elsewhere than it runs.
    latents = latents.to(get_module_execution_device(vae), torch.float32)
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(latents)
    # Divided by the reciprocal, as the pipeline does it, to round as it does.
    reciprocal = 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(latents)
    return (latents / reciprocal + mean).to(vae.dtype)


@torch.no_grad()
def decode_chunks(vae: Any, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    """What ``vae.decode`` returns, (1, 3, frames, height, width) in [-1, 1], in
    pieces: its own loop keeps all frames until the last one is done.

    The VAE is causal in time: its convolutions carry what they need of the past in a
    cache.
    """
    vae.clear_cache()
    try:
        latents = vae.post_quant_conv(latents)
        for index in range(latents.shape[2]):
            vae._conv_idx = [0]
            chunk = vae.decoder(
                latents[:, :, index : index + 1],
                feat_cache=vae._feat_map,
                feat_idx=vae._conv_idx,
                first_chunk=index == 0,
            )
            if vae.config.patch_size is not None:
                chunk = unpatchify(chunk, patch_size=vae.config.patch_size)
            yield torch.clamp(chunk, min=-1.0, max=1.0)
    finally:
        vae.clear_cache()


def decode_tiles(vae: Any, latents: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """The same in tiles of ``size`` pixels that overlap and fade into one another. All
    frames of a tile are made before the next one, and wait in main memory."""
    ratio = vae.spatial_compression_ratio
    overlap = max(size // OVERLAP // CELL, 2) * CELL
    tops, lefts = (
        starts(latents.shape[axis] * ratio, size, overlap) for axis in (3, 4)
    )
    tiles, side = {}, size // ratio
    for top in tops:
        for left in lefts:
            row, column = top // ratio, left // ratio
            part = latents[..., row : row + side, column : column + side]
            tiles[top, left] = [
                chunk.to("cpu", torch.float16) for chunk in decode_chunks(vae, part)
            ]
    height, width = latents.shape[3] * ratio, latents.shape[4] * ratio
    device = latents.device
    weights, shares = {}, torch.zeros(height, width, device=device)
    for top, left in tiles:
        weight = (
            fade(top, size, height, overlap)[:, None] * fade(left, size, width, overlap)
        ).to(device)
        shares[top : top + size, left : left + size] += weight
        weights[top, left] = weight
    for pieces in zip(*tiles.values(), strict=True):
        total = torch.zeros(*pieces[0].shape[:3], height, width, device=device)
        for (top, left), piece in zip(tiles, pieces, strict=True):
            here = (..., slice(top, top + size), slice(left, left + size))
            total[here] += weights[top, left] * piece.to(device).float()
        yield total / shares


def starts(length: int, size: int, overlap: int) -> list[int]:
    """Where tiles begin along a side of ``length`` pixels; the last one reaches the
    end."""
    stride = size - overlap
    return list(range(0, max(length - overlap, 1), stride))


def fade(start: int, size: int, length: int, overlap: int) -> torch.Tensor:
    """The weights of a tile's rows or columns: less towards where another overlaps."""
    size = min(size, length - start)
    ramp = (torch.arange(size) + 0.5) / overlap
    rising = ramp.clamp(max=1) if start else torch.ones(size)
    ends = start + size < length
    return rising * (ramp.flip(0).clamp(max=1) if ends else torch.ones(size))
