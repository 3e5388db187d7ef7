"""Names in a file, and the networks that they belong to; the published ones are in
``tests/contract/test_published_models.py``."""

import pytest

from engine.loading.layouts.layout import Rows
from engine.loading.layouts.table import described, layout_of, own_names


def test_rows_are_followed_through_cutting_and_joining():
    shapes = {
        "img_in.proj.weight": (8, 4, 1, 2, 2),
        "double_blocks.0.img_attn_qkv.weight": (24, 8),
        "single_blocks.0.linear1.weight": (56, 8),
        "final_layer.adaLN_modulation.1.bias": (16,),
    }
    sources = layout_of("HunyuanVideoTransformer3DModel").rename(shapes)
    double, single = "double_blocks.0.img_attn_qkv", "single_blocks.0.linear1"
    assert sources["transformer_blocks.0.attn.to_k.weight"] == (
        Rows(f"{double}.weight", 8, 16),
    )
    assert sources["single_transformer_blocks.0.attn.to_v.weight"] == (
        Rows(f"{single}.weight", 16, 24),
    )
    assert sources["single_transformer_blocks.0.proj_mlp.weight"] == (
        Rows(f"{single}.weight", 24, 56),
    )
    last = "final_layer.adaLN_modulation.1.bias"
    assert sources["norm_out.linear.bias"] == (Rows(last, 8, 16), Rows(last, 0, 8))


def test_names_of_other_networks_in_the_same_file_are_left_out():
    layout = layout_of("AutoencoderKLLTXVideo")
    names = ["vae.decoder.a", "model.diffusion_model.b"]
    assert own_names(layout, names) == {"decoder.a": "vae.decoder.a"}


def test_names_of_no_known_network_count_as_the_networks_own():
    layout = layout_of("AutoencoderKLLTXVideo")
    assert own_names(layout, ["vae.decoder.a", "c"]) == {
        "decoder.a": "vae.decoder.a",
        "c": "c",
    }


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["blocks.0.self_attn.norm_q.weight"], "Wan transformer"),
        (["vace_blocks.0.self_attn.norm_q.weight"], "Wan VACE transformer"),
        (
            ["double_blocks.3.img_attn_qkv.bias", "double_blocks.0.img_attn_qkv.bias"],
            "Hunyuan Video transformer",
        ),
        (["a.lora_A.weight", "blocks.0.self_attn.norm_q.weight"], "LoRA"),
        (["whatever"], "something unknown"),
    ],
)
def test_files_are_told_by_their_names(names, said):
    assert described(names) == said
