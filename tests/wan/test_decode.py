from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.family import LoadedModel
from engine.loading.weights import components_in
from engine.media.pixels import to_uint8
from engine.request import GenerationRequest
from tests.tiny_wan import CHANNELS, make_vae
from wan import FAMILY
from wan.decode import (
    decode_chunks,
    decode_tiles,
    fade,
    overlap_of,
    spans,
    tile_size,
)
from wan.variants import VARIANTS


@pytest.fixture(params=[True, False], ids=["patched", "wans-own"])
def vae(request):
    torch.manual_seed(3)
    return make_vae(patched=request.param)


def request_of(**values):
    return GenerationRequest(model="wan-demo", prompt="x", **values)


def latents_of(frames, seed=0):
    return torch.randn(
        1, CHANNELS, frames, 4, 6, generator=torch.Generator().manual_seed(seed)
    )


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_chunks_are_the_vaes_own_decoding_bit_for_bit(vae, frames):
    latents = latents_of(frames) * 3
    with torch.no_grad():
        whole = vae.decode(latents, return_dict=False)[0]
    chunks = list(decode_chunks(vae, latents))
    assert [chunk.shape[2] for chunk in chunks] == [1] + [4] * (frames - 1)
    assert torch.equal(torch.cat(chunks, dim=2), whole)
    assert whole.shape == (1, 3, 4 * frames - 3, 32, 48)
    assert whole.abs().max() <= 1


def test_a_decoding_that_was_left_does_not_touch_the_next(vae):
    latents = latents_of(3)
    with torch.no_grad():
        whole = vae.decode(latents, return_dict=False)[0]
    left = decode_chunks(vae, latents_of(3, seed=1))
    next(left)
    next(left)
    left.close()
    assert torch.equal(torch.cat(list(decode_chunks(vae, latents)), dim=2), whole)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_tile_of_the_whole_picture_is_the_whole(vae, frames):
    latents = latents_of(frames)
    whole = list(decode_chunks(vae, latents))
    tiled = list(decode_tiles(vae, latents, 64))
    assert [chunk.shape for chunk in tiled] == [chunk.shape for chunk in whole]
    assert torch.allclose(torch.cat(tiled, 2), torch.cat(whole, 2), atol=1e-3)


def test_tiles_are_what_each_place_is_decoded_as_and_fade_where_they_overlap(vae):
    latents = torch.randn(
        1, CHANNELS, 2, 12, 4, generator=torch.Generator().manual_seed(1)
    )
    made = torch.cat(list(decode_tiles(vae, latents, 64)), 2)
    assert made.shape == (1, 3, 5, 96, 32)
    top, bottom = (
        torch.cat(list(decode_chunks(vae, part)), 2)
        for part in (latents[..., :8, :], latents[..., 4:, :])
    )
    assert torch.allclose(made[..., :32, :], top[..., :32, :], atol=1e-3)
    assert torch.allclose(made[..., 64:, :], bottom[..., 32:, :], atol=1e-3)
    share = ((torch.arange(32) + 0.5) / 32)[:, None]
    between = top[..., 32:, :] * (1 - share) + bottom[..., :32, :] * share
    assert torch.allclose(made[..., 32:64, :], between, atol=1e-3)


@pytest.mark.parametrize(
    ("length", "size", "expected"),
    [
        (64, 64, [(0, 64)]),
        (8, 64, [(0, 8)]),
        (65, 64, [(0, 64), (32, 65)]),
        (96, 64, [(0, 64), (32, 96)]),
        (832, 512, [(0, 448), (400, 832)]),
        (480, 448, [(0, 272), (224, 480)]),
    ],
)
def test_tiles_are_few_and_alike_and_reach_the_end_of_a_side(length, size, expected):
    assert spans(length, size) == expected
    total = torch.zeros(length)
    for begin, end in expected:
        assert end - begin <= size
        total[begin:end] += fade(begin, end, length, overlap_of(size))
    assert total.min() > 0
    assert expected[-1][1] == length


def test_a_picture_is_decoded_whole_where_it_fits(vae, monkeypatch):
    here = latents_of(2)
    assert tile_size(request_of(), vae, here) == 0
    assert tile_size(request_of(vae_tile_size=256), vae, here) == 256
    large = torch.empty(1, CHANNELS, 1, 60, 104, device="meta")
    on_gpu = SimpleNamespace(
        device=torch.device("cuda:0"),
        shape=large.shape,
        element_size=large.element_size,
    )
    for gib, size in ((24, 0), (8, 512), (4, 448), (2, 256), (1, 192)):
        free = gib << 30
        monkeypatch.setattr(
            "engine.loading.tiles.free_memory", lambda _, free=free: free
        )
        assert tile_size(request_of(), vae, on_gpu) == size


def test_chunks_need_no_gradients(vae):
    assert not any(chunk.requires_grad for chunk in decode_chunks(vae, latents_of(2)))


@pytest.mark.parametrize("folder", ["tiny_folder", "tiny_folder_with_wans_vae"])
def test_frames_are_those_of_diffusers_own_pipeline(folder, request):
    pipeline = FAMILY.load(
        VARIANTS[0],
        components_in(request.getfixturevalue(folder)),
        "float32",
        lambda name: None,
    )
    latents = latents_of(3)
    model = LoadedModel(FAMILY.variants()[0], pipeline)
    ours = np.concatenate(list(FAMILY.decode(model, latents, request_of())))
    vae = pipeline.vae
    shape = (1, CHANNELS, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape)
    scale = 1.0 / torch.tensor(vae.config.latents_std).view(shape)
    with torch.no_grad():
        decoded = vae.decode(latents / scale + mean, return_dict=False)[0]
    video = pipeline.video_processor.postprocess_video(decoded, output_type="np")[0]
    assert ours.dtype == np.uint8
    assert np.array_equal(ours, (video * 255).round().astype(np.uint8))


def test_pixels_are_rounded_and_clamped():
    values = torch.tensor([-2.0, -1.0, 0.0, 0.004, 1.0, 2.0])
    chunk = values.view(1, 1, 1, 1, 6).expand(1, 3, 1, 1, 6)
    frames = to_uint8(chunk)
    assert frames.shape == (1, 1, 6, 3)
    assert frames[0, 0, :, 0].tolist() == [0, 0, 128, 128, 255, 255]
