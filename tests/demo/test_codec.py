"""The training forms of the VAEs give the numbers of diffusers' own."""

import pytest
import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
)
from torch.nn import functional as F

from demo import hyvideo, ltx_video, wan
from demo.axes import Axes
from demo.codec import replicated_conv, to_model, to_uint8
from demo.vae import LATENT_NOISE


def tiny_vae(*, is_residual: bool) -> AutoencoderKLWan:
    torch.manual_seed(0)
    return AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        attn_scales=[],
        temperal_downsample=[True, True],
        in_channels=48,
        out_channels=48,
        patch_size=4,
        is_residual=is_residual,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ).eval()


@pytest.mark.parametrize("is_residual", [False, True])
@pytest.mark.parametrize("frames", [1, 9])
@torch.no_grad()
def test_the_quick_form_is_the_same_network(is_residual, frames):
    vae, quick = tiny_vae(is_residual=is_residual), tiny_vae(is_residual=is_residual)
    wan.quicken(quick)
    video = torch.rand(2, 3, frames, 32, 48) * 2 - 1
    latents = vae.encode(video).latent_dist.mean
    torch.testing.assert_close(
        wan.encode(quick, video)[0], latents, rtol=1e-4, atol=1e-5
    )
    rebuilt = wan.decode(quick, latents).clamp(-1, 1)
    torch.testing.assert_close(
        rebuilt, vae.decode(latents).sample, rtol=1e-4, atol=1e-5
    )


def test_the_quick_form_keeps_the_names_of_the_weights():
    vae = tiny_vae(is_residual=True)
    names = list(vae.state_dict())
    assert list(wan.quicken(vae).state_dict()) == names


def test_pixels_survive_the_way_to_the_model_and_back():
    clips = torch.randint(0, 256, (1, 2, 8, 8, 3), dtype=torch.uint8)
    assert torch.equal(to_uint8(to_model(clips)), clips)


def tiny_ltx_vae() -> AutoencoderKLLTXVideo:
    torch.manual_seed(0)
    config = dict(ltx_video.make_vae().config)
    config["latent_channels"] = 16
    config["block_out_channels"] = (8, 16, 16, 16, 32)
    config["decoder_block_out_channels"] = (8, 16, 32)
    return AutoencoderKLLTXVideo.from_config(config).eval()


@pytest.mark.parametrize("frames", [1, 17])
@torch.no_grad()
def test_the_quick_form_of_the_twin_is_the_same_network(frames):
    vae, quick = tiny_ltx_vae(), ltx_video.quicken(tiny_ltx_vae())
    assert list(vae.state_dict()) == list(quick.state_dict())
    video = torch.rand(2, 3, frames, 64, 96) * 2 - 1
    latents = vae.encode(video).latent_dist.mean
    torch.testing.assert_close(
        ltx_video.encode(quick, video)[0], latents, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        ltx_video.decode(quick, latents),
        vae.decode(latents).sample,
        rtol=1e-4,
        atol=1e-5,
    )


def tiny_hunyuan_vae() -> AutoencoderKLHunyuanVideo:
    torch.manual_seed(0)
    config = {**hyvideo.make_vae().config, "block_out_channels": (4, 8, 8, 16)}
    return AutoencoderKLHunyuanVideo.from_config(config).double().eval()


@pytest.mark.parametrize("frames", [1, 13])
@torch.no_grad()
def test_the_quick_form_of_hunyuans_encoder_is_the_same_network(frames):
    vae, quick = tiny_hunyuan_vae(), hyvideo.quicken(tiny_hunyuan_vae())
    assert list(vae.state_dict()) == list(quick.state_dict())
    video = torch.rand(2, 3, frames, 32, 48, dtype=torch.double) * 2 - 1
    made = hyvideo.encode(quick, video)[0]
    first = vae.encode(video[:, :, :1]).latent_dist.mean
    torch.testing.assert_close(made[:, :, :1], first)
    others = vae.encode(video).latent_dist.mean[:, :, 1:]
    torch.testing.assert_close(made[:, :, 1:], others)


@pytest.mark.parametrize("latent_frames", [1, 4, 5, 7, 9])
@torch.no_grad()
def test_the_quick_form_of_hunyuans_decoder_makes_the_vaes_own_pieces(latent_frames):
    vae, quick = tiny_hunyuan_vae(), hyvideo.quicken(tiny_hunyuan_vae())
    latents = torch.randn(
        2, hyvideo.LATENT_CHANNELS, latent_frames, 4, 6, dtype=torch.double
    )
    wanted = vae.decode(latents).sample
    torch.testing.assert_close(hyvideo.decode(quick, latents), wanted)


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 2, 2)])
def test_a_convolution_over_repeated_borders_has_its_gradients(stride):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 4, 6, dtype=torch.double, requires_grad=True)
    weight = torch.randn(4, 3, 3, 3, 3, dtype=torch.double, requires_grad=True)
    bias = torch.randn(4, dtype=torch.double, requires_grad=True)

    def plain(x, weight, bias):
        padded = F.pad(x, (1, 1, 1, 1, 2, 0), mode="replicate")
        return F.conv3d(padded, weight, bias, stride)

    def gradients(made):
        return torch.autograd.grad(made.pow(2).sum(), (x, weight, bias))

    made, wanted = replicated_conv(x, weight, bias, stride), plain(x, weight, bias)
    torch.testing.assert_close(made, wanted)
    torch.testing.assert_close(gradients(made), gradients(wanted))


@torch.no_grad()
def test_turned_latents_of_hunyuan_decode_as_the_raw_ones_did():
    vae = tiny_hunyuan_vae()
    video = torch.rand(1, 3, 5, 32, 32, dtype=torch.double) * 2 - 1
    mean, _ = hyvideo.encode(vae, video)
    rebuilt = vae.decode(mean).sample
    torch.manual_seed(0)
    count = hyvideo.LATENT_CHANNELS
    turn = torch.randn(count, count, dtype=torch.double) + 3 * torch.eye(count)
    axes = Axes(torch.randn(count, dtype=torch.double), turn)
    hyvideo.turn_latents(vae, axes)
    turned, log_variance = hyvideo.encode(vae, video)
    centred = (mean - axes.mean.view(1, -1, 1, 1, 1)).transpose(1, -1)
    torch.testing.assert_close(turned.transpose(1, -1), centred @ turn.T)
    torch.testing.assert_close(vae.decode(turned).sample, rebuilt)
    assert log_variance.exp().sqrt().allclose(torch.tensor(LATENT_NOISE).double())
