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
TILES = (512, 448, 384, 320, 256, 192, 128)
CELL = 16
"""Tiles are multiples of so many pixels."""


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
    height, width = picture_size(vae, latents)

    def largest(size: int) -> int:
        down, across = spans(height, size), spans(width, size)
        return (down[0][1] - down[0][0]) * (across[0][1] - across[0][0])

    per_pixel = BYTES_PER_PIXEL * latents.element_size() / 4
    return automatic_tile(TILES, latents.device, height * width, per_pixel, largest)


def picture_size(vae: Any, latents: torch.Tensor) -> tuple[int, int]:
    """Height and width in pixels."""
    ratio = vae.spatial_compression_ratio
    return latents.shape[3] * ratio, latents.shape[4] * ratio


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
    """The same in tiles of at most ``size`` pixels that overlap and fade into one
    another. All frames of a tile are made before the next one, and wait in main
    memory."""
    ratio, device = vae.spatial_compression_ratio, latents.device
    height, width = picture_size(vae, latents)
    tiles, weights = [], []
    shares = torch.zeros(height, width, device=device)
    for top, bottom in spans(height, size):
        for left, right in spans(width, size):
            part = latents[
                ..., top // ratio : bottom // ratio, left // ratio : right // ratio
            ]
            chunks = [
                chunk.to("cpu", torch.float16) for chunk in decode_chunks(vae, part)
            ]
            here = (..., slice(top, bottom), slice(left, right))
            tiles.append((here, chunks))
            down, across = (
                fade(*span, length, overlap_of(size))
                for span, length in (((top, bottom), height), ((left, right), width))
            )
            weights.append((down[:, None] * across).to(device))
            shares[here] += weights[-1]
    for at in range(latents.shape[2]):
        frames = tiles[0][1][at].shape[2]
        total = torch.zeros(1, 3, frames, height, width, device=device)
        for (here, chunks), weight in zip(tiles, weights, strict=True):
            total[here] += weight * chunks[at].to(device).float()
        yield total / shares


def overlap_of(size: int) -> int:
    """In pixels: how far a seam is seen doesn't grow with the tiles."""
    return 48 if size >= 320 else 32


def spans(length: int, size: int) -> list[tuple[int, int]]:
    """Where tiles begin and end along a side of ``length`` pixels: as few as tiles of
    ``size`` must be, and then no longer than so many must be."""
    overlap = overlap_of(size)
    count = max(1, -(-(length - overlap) // (size - overlap)))
    side = -(-(length + (count - 1) * overlap) // (count * CELL)) * CELL
    begins = range(0, max(length - overlap, 1), max(side - overlap, CELL))
    return [(begin, min(begin + side, length)) for begin in begins]


def fade(begin: int, end: int, length: int, overlap: int) -> torch.Tensor:
    """The weights of a tile's rows or columns: less towards where another overlaps."""
    size = end - begin
    ramp = ((torch.arange(size) + 0.5) / overlap).clamp(max=1)
    rising = ramp if begin else torch.ones(size)
    return rising * (ramp.flip(0) if end < length else torch.ones(size))
