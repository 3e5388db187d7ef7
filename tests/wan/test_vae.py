"""Wan's VAE as it runs on a GPU: half precision, channels last, norms of one kernel."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from demo.trials import decibels
from engine.errors import UserError
from engine.family import LoadedModel, get_variant
from engine.loading.weights import components_in
from engine.media.pixels import to_uint8
from engine.request import GenerationRequest
from engine.settings import PROJECT
from tests.tiny_wan import CHANNELS, make_vae, write_tiny_wan
from wan import FAMILY
from wan.decode import decode_chunks
from wan.vae import speed_up
from wan.variants import options_of

LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}
DEMO = PROJECT / "ckpts" / "demo" / "wan"


@pytest.fixture(params=[True, False], ids=["patched", "wans-own"])
def vae(request):
    torch.manual_seed(3)
    vae = make_vae(patched=request.param)
    with torch.no_grad():
        for name, weight in vae.named_parameters():
            if "gamma" in name:
                weight.normal_(1, 0.3)
    return vae


def latents_of(frames):
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(1, CHANNELS, frames, 4, 6, generator=generator)


@torch.no_grad()
def test_it_decodes_and_encodes_as_ever(vae):
    fast = copy.deepcopy(vae)
    speed_up(fast)
    latents = latents_of(3)
    before, after = (
        torch.cat(list(decode_chunks(each, latents)), dim=2) for each in (vae, fast)
    )
    assert before.std() > 0.1
    assert torch.allclose(after, before, atol=1e-5)
    before, after = (each.encode(before).latent_dist.mean for each in (vae, fast))
    assert torch.allclose(after, before, atol=1e-5)


def test_every_convolution_gets_channels_last_whatever_lay_before(vae):
    seen = []

    def look(_module, inputs):
        x = inputs[0]
        seen.append(x.is_contiguous(memory_format=LAYOUTS[x.ndim]))

    speed_up(vae)
    for module in vae.decoder.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            module.register_forward_pre_hook(look)
    list(decode_chunks(vae, latents_of(2)))
    assert len(seen) > 20
    assert all(seen)


@pytest.mark.parametrize(
    ("dtype", "options", "expected"),
    [
        ("float32", {}, torch.float32),
        ("bfloat16", {}, torch.float16),
        ("bfloat16", {"vae_dtype": "float32"}, torch.float32),
    ],
)
def test_precision_is_halved_on_a_gpu_unless_the_row_says_no(
    tmp_path, dtype, options, expected
):
    variant = get_variant("wan-demo")
    own = replace(options_of(variant), **options)
    variant = replace(variant, options=own)
    weights = components_in(write_tiny_wan(tmp_path))
    vae = FAMILY.load(variant, weights, dtype, lambda name: None).vae
    assert {weight.dtype for weight in vae.parameters()} == {expected}


@pytest.mark.demo
@torch.no_grad()
def test_half_precision_is_not_seen_in_a_video():
    variant = get_variant("wan-demo")
    weights = components_in(DEMO)
    exact, half = (
        FAMILY.load(variant, weights, dtype, lambda name: None).vae
        for dtype in ("float32", "bfloat16")
    )
    steps = torch.linspace(-1, 1, 64)
    ramp = torch.stack([steps.expand(64, 64), steps[:, None].expand(64, 64)])
    picture = torch.cat([ramp, -ramp[:1]])[None, :, None].expand(-1, -1, 5, -1, -1)
    latents = exact.encode(picture).latent_dist.mean
    shown = [
        torch.cat(
            [
                torch.from_numpy(to_uint8(chunk))
                for chunk in decode_chunks(vae, latents.to(vae.dtype))
            ]
        )
        for vae in (exact, half)
    ]
    assert decibels(shown[0], torch.from_numpy(to_uint8(picture))) > 20
    assert decibels(*shown) > 50


def test_numbers_that_outgrow_it_are_told_and_never_shown(tmp_path):
    variant = get_variant("wan-demo")
    weights = components_in(write_tiny_wan(tmp_path))
    pipeline = FAMILY.load(variant, weights, "bfloat16", lambda name: None)
    pipeline.vae.post_quant_conv.bias.data.fill_(6e4)
    pipeline.vae.decoder.conv_in.weight.data.fill_(1.0)
    request = GenerationRequest(model="wan-demo", prompt="x")
    channels = pipeline.vae.config.z_dim
    latents = torch.zeros(1, channels, 1, 4, 4)
    with pytest.raises(UserError, match="vae_dtype: float32"):
        list(FAMILY.decode(LoadedModel(variant, pipeline), latents, request))
