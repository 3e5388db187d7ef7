import pytest

from engine.loading.header import TensorInfo
from engine.loading.lora_header import read_lora, unmatched_layers


def half(*shape):
    return TensorInfo("BF16", shape)


def test_layers_are_found_under_any_prefix_and_ending():
    for prefix in ("diffusion_model.", "transformer.", ""):
        for down, up in (("lora_A", "lora_B"), ("lora_down", "lora_up")):
            found = read_lora(
                {
                    f"{prefix}blocks.0.ffn.0.{down}.weight": half(8, 64),
                    f"{prefix}blocks.0.ffn.0.{up}.weight": half(128, 8),
                    f"{prefix}blocks.0.ffn.0.alpha": half(),
                }
            )
            assert found.layers == {"blocks.0.ffn.0": (128, 64)}
            assert found.ranks == (8,)
            assert found.prefix == prefix
            assert not found.incomplete
            assert not found.unknown


def test_halves_and_strangers_are_named():
    found = read_lora(
        {
            "a.lora_A.weight": half(8, 64),
            "b.lora_A.weight": half(8, 64),
            "b.lora_B.weight": half(64, 4),
            "c.weight": half(4, 4),
        }
    )
    assert found.incomplete == ("a", "b")
    assert found.unknown == ("c.weight",)
    assert not found.layers


@pytest.mark.parametrize(
    ("layer", "family"),
    [
        ("blocks.0.self_attn.q", "wan"),
        ("blocks.0.attn1.to_q", "wan"),
        ("vace_blocks.0.cross_attn.q", "wan"),
        ("transformer_blocks.0.attn1.to_q", "ltx_video"),
        ("double_blocks.0.img_attn_qkv", "hyvideo"),
        ("single_transformer_blocks.0.attn.to_q", "hyvideo"),
        ("unet.mid_block.conv", None),
    ],
)
def test_layers_tell_the_family(layer, family):
    tensors = {
        f"{layer}.lora_A.weight": half(4, 8),
        f"{layer}.lora_B.weight": half(8, 4),
    }
    assert read_lora(tensors).family == family


def lora(layers):
    tensors = {}
    for name, (outputs, inputs) in layers.items():
        tensors[f"{name}.lora_A.weight"] = half(4, inputs)
        tensors[f"{name}.lora_B.weight"] = half(outputs, 4)
    return read_lora(tensors)


def test_a_layer_that_is_three_in_the_network_matches_them():
    attention = "transformer_blocks.0.attn"
    wanted = {f"{attention}.to_{part}.weight": (32, 32) for part in "qkv"}
    kind = "HunyuanVideoTransformer3DModel"
    fused = "double_blocks.0.img_attn_qkv"
    assert unmatched_layers(lora({fused: (96, 32)}), kind, wanted) == []
    assert unmatched_layers(lora({fused: (96, 16)}), kind, wanted) == [fused]
    assert unmatched_layers(lora({fused: (48, 32)}), kind, wanted) == [fused]


def test_diffusers_names_match_too():
    wanted = {"blocks.0.attn1.to_q.weight": (24, 24)}
    kind = "WanTransformer3DModel"
    assert unmatched_layers(lora({"blocks.0.attn1.to_q": (24, 24)}), kind, wanted) == []
    assert (
        unmatched_layers(lora({"blocks.0.self_attn.q": (24, 24)}), kind, wanted) == []
    )
    other = lora({"blocks.0.attn1.to_k": (24, 24)})
    assert unmatched_layers(other, kind, wanted) == ["blocks.0.attn1.to_k"]
