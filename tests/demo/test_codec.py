"""The training forms of the VAEs give the numbers of diffusers' own."""

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo, AutoencoderKLWan

from demo import ltx_video, wan
from demo.codec import to_model, to_uint8


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
