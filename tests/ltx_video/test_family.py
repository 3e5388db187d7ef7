"""Loading, devices and precision."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from engine.errors import Cancelled, UnreadableFile
from engine.family import FAMILIES, LoadedModel, get_variant
from engine.loading.weights import components_in
from ltx_video import FAMILY
from ltx_video.upsample import upsample
from ltx_video.variants import config_of
from tests.tiny_ltx import CHANNELS


def test_the_engine_knows_the_family():
    assert FAMILIES["ltx_video"] == "ltx_video:FAMILY"
    assert get_variant("ltxv-13b-0.9.7-distilled") in FAMILY.variants()


def test_components_are_told_before_they_are_loaded(tiny_folder):
    named = []
    variant = get_variant("ltxv-demo-multiscale")
    FAMILY.load(variant, components_in(tiny_folder), "float32", named.append)
    assert named == [
        "text encoder",
        "transformer",
        "vae",
        "latent upsampler",
    ]


def test_one_pass_needs_no_upsampler(model, two_passes):
    assert model.pipeline.latent_upsampler is None
    assert "latent_upsampler" in two_passes.pipeline.components


def test_loading_can_be_cancelled(tiny_folder):
    def cancel(name):
        if name == "vae":
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        FAMILY.load(
            get_variant("ltxv-demo"), components_in(tiny_folder), "float32", cancel
        )


def test_a_folder_without_weights_is_named(tiny_folder, tmp_path):
    weights = dict(components_in(tiny_folder))
    weights["transformer"] = tmp_path
    with pytest.raises(UnreadableFile, match="has no weights"):
        FAMILY.load(get_variant("ltxv-demo"), weights, "float32", lambda name: None)


def test_it_runs_in_bfloat16_and_gives_bytes(tiny_folder, request_of):
    variant = get_variant("ltxv-demo-multiscale")
    pipeline = FAMILY.load(
        variant, components_in(tiny_folder), "bfloat16", lambda name: None
    )
    model = LoadedModel(variant, pipeline)
    request = request_of(model=variant.id, num_frames=9)
    conditioning = FAMILY.encode(model, request)
    previews = []
    latents = FAMILY.denoise(
        model,
        conditioning,
        request,
        lambda done, total, seen: previews.append(FAMILY.preview(model, seen)),
        lambda name: None,
    )
    frames = np.concatenate(list(FAMILY.decode(model, latents, request)))
    assert frames.shape == (9, 64, 96, 3)
    assert all(picture.dtype == np.uint8 for picture in previews)


def test_float32_latents_go_into_a_bfloat16_upsampler(tiny_folder):
    variant = get_variant("ltxv-demo-multiscale")
    pipeline = FAMILY.load(
        variant, components_in(tiny_folder), "bfloat16", lambda name: None
    )
    latents = torch.randn(1, CHANNELS, 2, 2, 3)
    with torch.no_grad():
        made = upsample(pipeline, latents, config_of(variant))
    assert made.shape == (1, CHANNELS, 2, 4, 6)
    assert made.dtype == torch.float32


def test_previews_are_small_pictures_of_the_first_to_the_last_frame(model):
    frames = FAMILY.preview(model, torch.randn(1, CHANNELS, 5, 2, 3))
    assert frames.shape == (4, 2, 3, 3)
    assert frames.dtype == np.uint8


def test_a_distilled_lora_is_merged_into_its_base(tiny_folder, tmp_path):
    variant = get_variant("ltxv-13b-0.9.7-distilled")
    weights = dict(components_in(tiny_folder))
    lora = tmp_path / "ltxv_0.9.7_13B_distilled_lora128_bf16.safetensors"
    down, up = torch.randn(2, 32), torch.randn(32, 2)
    name = "diffusion_model.transformer_blocks.0.attn1.to_q"
    save_file({f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}, lora)
    plain = FAMILY.load(variant, weights, "float32", lambda name: None)
    merged = FAMILY.load(
        variant, {**weights, "distilled_lora": lora}, "float32", lambda name: None
    )
    before, after = (
        pipeline.transformer.transformer_blocks[0].attn1.to_q.weight
        for pipeline in (plain, merged)
    )
    torch.testing.assert_close(after, before + up @ down)
