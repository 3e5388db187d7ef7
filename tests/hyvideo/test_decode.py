from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.family import LoadedModel
from engine.media.pixels import to_uint8
from hyvideo import FAMILY
from hyvideo.decode import (
    decode_chunks,
    decode_video,
    tile_size,
    tiles_of,
)
from tests.tiny_hyvideo import CHANNELS, make_vae


@pytest.fixture
def vae():
    torch.manual_seed(3)
    return make_vae()


def latents_of(frames, height=6, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, CHANNELS, frames, height, width, generator=generator)


@torch.no_grad()
def whole_of(vae, latents):
    return vae.decode(latents, return_dict=False)[0]


@pytest.mark.parametrize("frames", [1, 2, 4, 5, 6, 7, 8, 9, 13])
@torch.no_grad()
def test_chunks_are_the_vaes_own_decoding_bit_for_bit(vae, frames):
    latents = latents_of(frames) * 3
    chunks = list(decode_chunks(vae, latents))
    assert torch.equal(torch.cat(chunks, dim=2), whole_of(vae, latents))
    assert max(chunk.shape[2] for chunk in chunks) <= 13
    assert sum(chunk.shape[2] for chunk in chunks) == 4 * frames - 3


@torch.no_grad()
def test_tiled_chunks_are_the_vaes_own_tiled_decoding_bit_for_bit(vae):
    latents = latents_of(6, height=12, width=16)
    with tiles_of(vae, 64):
        chunks = list(decode_chunks(vae, latents))
        tiled = whole_of(vae, latents)
    assert torch.equal(torch.cat(chunks, dim=2), tiled)
    assert not torch.equal(tiled, whole_of(vae, latents))


@torch.no_grad()
def test_tiles_differ_from_the_whole_by_little_and_not_away_from_seams(vae):
    latents = latents_of(2, height=24, width=24) * 0.3
    whole = whole_of(vae, latents)
    with tiles_of(vae, 128):
        tiled = whole_of(vae, latents)
    difference = (whole - tiled).abs().mean((0, 1, 2))
    assert difference[96:128, 96:128].mean() > 1.5 * difference[:64, :64].mean()


@pytest.mark.parametrize("size", [64, 96, 128, 256, 512])
def test_every_tile_size_overlaps_by_whole_latents(vae, size):
    with tiles_of(vae, size):
        overlap = vae.tile_sample_min_height - vae.tile_sample_stride_height
        assert overlap >= 16
        assert vae.tile_sample_stride_height % 8 == 0
        assert vae.use_tiling
    assert not vae.use_tiling


@torch.no_grad()
def test_tiles_end_with_the_decoding_even_if_it_is_left(vae, request_of):
    model = LoadedModel(FAMILY.variants()[0], SimpleNamespace(vae=vae))
    request = request_of(vae_tile_size=64)
    left = decode_video(model, latents_of(9, height=12, width=12), request)
    next(left)
    assert vae.use_tiling
    left.close()
    assert not vae.use_tiling


def test_automatic_tiling_is_off_on_a_cpu_and_a_size_is_kept(vae, request_of):
    assert tile_size(request_of(), vae, latents_of(3)) == 0
    assert tile_size(request_of(vae_tile_size=128), vae, latents_of(3)) == 128


class OnGpu:
    """As much of latents on a GPU as the choice of tiles looks at."""

    device = torch.device("cuda:0")

    def __init__(self, frames, height, width):
        self.shape = (1, CHANNELS, frames, height // 8, width // 8)

    def element_size(self):
        return 2


@pytest.mark.parametrize(
    ("gib", "size"), [(80, 0), (40, 0), (24, 512), (16, 256), (8, 256), (3, 128)]
)
def test_automatic_tiling_goes_by_the_free_memory(
    vae, request_of, monkeypatch, gib, size
):
    monkeypatch.setattr("engine.loading.tiles.free_memory", lambda device: gib << 30)
    assert tile_size(request_of(), vae, OnGpu(21, 544, 960)) == size


def test_a_longer_video_needs_no_smaller_tiles(vae, request_of, monkeypatch):
    monkeypatch.setattr("engine.loading.tiles.free_memory", lambda device: 40 << 30)
    sizes = {tile_size(request_of(), vae, OnGpu(n, 544, 960)) for n in (5, 21, 200)}
    assert sizes == {0}


def test_pixels_are_rounded_and_clamped():
    values = torch.tensor([-2.0, -1.0, 0.0, 0.004, 1.0, 2.0])
    frames = to_uint8(values.view(1, 1, 1, 1, 6).expand(1, 3, 1, 1, 6))
    assert frames.dtype == np.uint8
    assert frames[0, 0, :, 0].tolist() == [0, 0, 128, 128, 255, 255]
