"""Latents become frames of exactly the size that was asked for."""

import numpy as np
import pytest
import torch

from ltx_video import FAMILY
from ltx_video.decode import CHUNK, cut, decode_whole, resized, tile_size, use_tiles
from ltx_video.sizes import Size, doubled, first_size, whole_size
from ltx_video.variants import config_of
from tests.tiny_ltx import CHANNELS


def latents_of(frames=3, height=2, width=3):
    return torch.randn(
        1, CHANNELS, frames, height, width, generator=torch.manual_seed(0)
    )


def test_frames_are_those_of_diffusers_own_pipeline(model, request_of):
    latents = latents_of()
    ours = np.concatenate(list(FAMILY.decode(model, latents, request_of())))
    pipeline = model.pipeline
    vae = pipeline.vae
    raw = pipeline._denormalize_latents(latents, vae.latents_mean, vae.latents_std)
    with torch.no_grad():
        decoded = vae.decode(raw, None, return_dict=False)[0]
    video = pipeline.video_processor.postprocess_video(decoded, output_type="np")[0]
    assert ours.dtype == np.uint8
    assert ours.shape == (17, 64, 96, 3)
    assert np.abs(ours.astype(float) - video * 255).max() <= 0.51


def test_frames_come_in_small_chunks(model, request_of):
    chunks = list(FAMILY.decode(model, latents_of(), request_of()))
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, 1]


@pytest.mark.parametrize(("width", "height"), [(96, 64), (90, 50), (72, 40)])
def test_any_size_is_cut_from_the_middle_of_whole_cells(
    model, request_of, width, height
):
    request = request_of(width=width, height=height)
    frames = np.concatenate(list(FAMILY.decode(model, latents_of(), request)))
    assert frames.shape == (17, height, width, 3)


def test_two_passes_are_scaled_down_to_the_size_asked_for(two_passes, request_of):
    request = request_of(width=96, height=64)
    latents = latents_of(height=4, width=6)
    frames = np.concatenate(list(FAMILY.decode(two_passes, latents, request)))
    assert frames.shape == (17, 64, 96, 3)


def test_sizes_of_the_passes():
    whole = whole_size(1280, 720)
    assert whole == Size(1280, 736)
    first = first_size(whole, 2 / 3)
    assert first == Size(832, 480)
    assert doubled(first) == Size(1664, 960)
    assert first_size(Size(32, 32), 2 / 3) == Size(32, 32)


def test_scaling_keeps_colours():
    video = torch.zeros(1, 3, 2, 8, 8)
    video[:, 0] = 1.0
    scaled = resized(video, Size(6, 4))
    assert scaled.shape == (1, 3, 2, 4, 6)
    assert torch.allclose(scaled[:, 0], torch.ones(1)), "red stays red"
    assert cut(video, 4, 2).shape == (1, 3, 2, 2, 4)


def test_a_vae_that_knows_noise_is_shown_its_timestep(load, tmp_path, request_of):
    from tests.tiny_ltx import write_tiny_ltx

    model = load(folder=write_tiny_ltx(tmp_path / "noisy", timestep_conditioning=True))
    seen = []
    decode = model.pipeline.vae.decode

    def noting(latents, timestep, **more):
        seen.append((latents, timestep))
        return decode(latents, timestep, **more)

    model.pipeline.vae.decode = noting
    latents, config = latents_of(), config_of(model.variant)
    decode_whole(model.pipeline.vae, latents, request_of(), config)
    given, timestep = seen[0]
    assert timestep.tolist() == pytest.approx([config.decode_timestep])
    raw = model.pipeline._denormalize_latents(
        latents, model.pipeline.vae.latents_mean, model.pipeline.vae.latents_std
    )
    off = (given - (1 - config.decode_noise_scale) * raw).std()
    assert float(off) == pytest.approx(config.decode_noise_scale, rel=0.2)


def test_automatic_tiling_is_off_on_a_cpu_and_a_size_is_kept(request_of):
    latents = latents_of()
    assert tile_size(request_of(), latents, "cpu") == 0
    assert tile_size(request_of(vae_tile_size=128), latents, "cpu") == 128


def test_automatic_tiling_goes_by_the_free_memory(request_of, monkeypatch):
    latents = torch.zeros(1, 128, 11, 22, 40)
    for free, expected in ((80, 0), (12, 512), (6, 256)):
        monkeypatch.setattr(
            "ltx_video.decode.free_memory", lambda device, free=free: free << 30
        )
        assert tile_size(request_of(), latents, "cuda:0") == expected


@pytest.mark.parametrize("size", [64, 96, 128, 256, 512])
def test_every_tile_size_overlaps(model, size):
    vae = model.pipeline.vae
    use_tiles(vae, size)
    overlap = vae.tile_sample_min_height - vae.tile_sample_stride_height
    assert overlap >= 32
    assert vae.tile_sample_stride_height % 32 == 0
    use_tiles(vae, 0)
    assert not vae.use_tiling


@torch.no_grad()
def test_tiles_differ_from_the_whole_only_around_their_seams(model):
    vae, latents = model.pipeline.vae, latents_of(height=12, width=12) * 0.3
    use_tiles(vae, 0)
    whole = vae.decode(latents, return_dict=False)[0]
    use_tiles(vae, 256)
    tiled = vae.decode(latents, return_dict=False)[0]
    difference = (whole - tiled).abs().mean((0, 1, 2))
    seam = slice(192, 256)
    assert difference[:64, :64].mean() < 0.01
    assert difference[:64, seam].mean() > 0.1


def test_given_frames_are_encoded_as_a_whole_after_a_tiled_decoding(model, request_of):
    request = request_of(vae_tile_size=64)
    video = decode_whole(
        model.pipeline.vae,
        latents_of(height=4, width=4),
        request,
        config_of(model.variant),
    )
    assert video.shape[3:] == (128, 128)
    assert not model.pipeline.vae.use_tiling


def test_bfloat16_latents_become_bytes(model, request_of):
    latents = latents_of().bfloat16()
    chunk = next(FAMILY.decode(model, latents, request_of()))
    assert chunk.dtype == np.uint8


def test_large_latents_are_reduced_before_decoding(model, request_of, monkeypatch):
    vae, latents, seen = model.pipeline.vae, latents_of() * 4, []

    def note(raw, timestep, return_dict):
        seen.append(raw)
        return (raw,)

    monkeypatch.setattr(vae, "decode", note)
    config = config_of(model.variant)
    for ratio in (0.0, 0.6):
        changed = config.model_copy(update={"tone_map_compression_ratio": ratio})
        decode_whole(vae, latents, request_of(), changed)
    shape = (1, -1, 1, 1, 1)
    plain, mapped = (
        (raw - vae.latents_mean.view(shape)) / vae.latents_std.view(shape)
        for raw in seen
    )
    torch.testing.assert_close(plain, latents)
    assert mapped.abs().max() < 0.75 * plain.abs().max()
    small = plain.abs() < 0.3
    torch.testing.assert_close(mapped[small], plain[small], rtol=0.15, atol=0)
