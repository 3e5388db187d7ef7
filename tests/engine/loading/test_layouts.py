"""The published sizes, built without weights: each name in a file finds its place."""

import pytest
import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    HunyuanVideoTransformer3DModel,
    LTXVideoTransformer3DModel,
    WanTransformer3DModel,
    WanVACETransformer3DModel,
)
from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

from engine.loading.layouts.layout import Rows, rows_of
from engine.loading.layouts.table import (
    described,
    is_in_authors_names,
    layout_of,
    own_names,
)
from tests.authors_names import (
    hunyuan_transformer,
    ltx_transformer,
    ltx_vae,
    prefixed,
    umt5,
    wan_transformer,
    wan_vae,
)
from tests.engine.loading.test_checkpoint import config_of

PUBLISHED_VAE = {
    "block_out_channels": (128, 256, 512, 1024, 2048),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "decoder_block_out_channels": (256, 512, 1024),
    "layers_per_block": (4, 6, 6, 2, 2),
    "decoder_layers_per_block": (5, 5, 5, 5),
    "spatio_temporal_scaling": (True,) * 4,
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "decoder_inject_noise": (False,) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "upsample_residual": (True,) * 3,
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
    "decoder_causal": False,
}
"""Since 0.9.5."""


def shapes_of(tensors):
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def without_statistics(tensors):
    """Those that the converter drops."""
    dropped = (".channel", ".mean-of-stds")
    return {name: x for name, x in tensors.items() if not name.endswith(dropped)}


def check(network, tensors):
    """Every weight of the network has all its rows from the file, and nothing is left
    over; returns what the shapes tell of the configuration."""
    layout = layout_of(type(network).__name__)
    own = own_names(layout, tensors)
    shapes = {name: tuple(tensors[old].shape) for name, old in own.items()}
    assert is_in_authors_names(layout, own) == bool(layout.mark)
    sources = layout.rename(shapes)
    rows = dict.fromkeys(shapes, 0)
    for pieces in sources.values():
        for piece in pieces:
            rows[piece.name] += piece.stop - piece.start
    assert rows == {name: rows_of(shape) for name, shape in shapes.items()}
    found = {
        name: (sum(p.stop - p.start for p in pieces), *shapes[pieces[0].name][1:])
        for name, pieces in sources.items()
        if shapes[pieces[0].name]
    }
    wanted = {n: shape for n, shape in shapes_of(network.state_dict()).items() if shape}
    if "shared.weight" in wanted:
        del wanted["encoder.embed_tokens.weight"]
    assert found == wanted
    assert layout.title in described(tensors)
    return layout.config(found)


def has(config, network):
    real = config_of(network)
    for name, value in config.items():
        assert real[name] == value, name


@pytest.mark.parametrize(
    ("layers", "head", "width"), [(28, 64, 2048), (48, 128, 4096)], ids=["2B", "13B"]
)
def test_published_transformers_tell_their_size(layers, head, width):
    with torch.device("meta"):
        network = LTXVideoTransformer3DModel(
            num_layers=layers, attention_head_dim=head, cross_attention_dim=width
        )
    tensors = prefixed("model.diffusion_model.", ltx_transformer(network))
    has(check(network, tensors), network)


def test_the_published_vae_finds_its_names():
    with torch.device("meta"):
        network = AutoencoderKLLTXVideo(**PUBLISHED_VAE)
    tensors = prefixed("vae.", ltx_vae(network, recent=True))
    check(network, without_statistics(tensors))


def test_the_published_text_encoder_tells_its_size():
    published = {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240}
    published |= {"num_layers": 24, "num_heads": 64}
    with torch.device("meta"):
        network = T5EncoderModel(T5Config(**published, feed_forward_proj="gated-gelu"))
    tensors = dict(network.state_dict())
    del tensors["encoder.embed_tokens.weight"]
    assert published.items() <= check(network, tensors).items()


@pytest.mark.parametrize("names", [umt5, lambda network: dict(network.state_dict())])
def test_wans_text_encoder_tells_its_size_in_either_names(names):
    published = {"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240}
    published |= {"num_layers": 24, "num_heads": 64}
    config = UMT5Config(**published, feed_forward_proj="gated-gelu")
    with torch.device("meta"):
        network = UMT5EncoderModel(config)
    tensors = names(network)
    tensors.pop("encoder.embed_tokens.weight", None)
    if "shared.weight" in tensors:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        assert published.items() <= layout_of("UMT5EncoderModel").config(shapes).items()
    else:
        assert published.items() <= check(network, tensors).items()


IMAGE = {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120}
SMALL = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}
MIDDLE = {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30}


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        {},
        IMAGE,
        {**IMAGE, "pos_embed_seq_len": 514},
        {"in_channels": 36},
        {**MIDDLE, "in_channels": 48, "out_channels": 48},
    ],
    ids=["1.3B", "14B", "I2V", "FLF2V", "2.2 I2V", "2.2 5B"],
)
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."], ids=repr)
def test_published_wan_transformers_tell_their_size(config, prefix):
    with torch.device("meta"):
        network = WanTransformer3DModel(**config)
    has(check(network, prefixed(prefix, wan_transformer(network))), network)


@pytest.mark.parametrize(
    "config",
    [
        {**SMALL, "vace_layers": list(range(0, 30, 2))},
        {"vace_layers": list(range(0, 40, 5))},
    ],
    ids=["1.3B", "14B"],
)
def test_published_vace_transformers_tell_their_size(config):
    with torch.device("meta"):
        network = WanVACETransformer3DModel(**config)
    has(check(network, wan_transformer(network)), network)


WAN_22_VAE = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "latents_mean": [0.0] * 48,
    "latents_std": [1.0] * 48,
}


@pytest.mark.parametrize("config", [{}, WAN_22_VAE], ids=["2.1", "2.2"])
def test_published_wan_vaes_find_their_names(config):
    with torch.device("meta"):
        network = AutoencoderKLWan(**config)
    check(network, wan_vae(network))


@pytest.mark.parametrize(
    "config",
    [
        {"guidance_embeds": True},
        {
            "in_channels": 33,
            "out_channels": 16,
            "image_condition_type": "latent_concat",
        },
    ],
    ids=["T2V", "I2V 33 channels"],
)
def test_the_published_hunyuan_transformer_tells_its_size(config):
    with torch.device("meta"):
        network = HunyuanVideoTransformer3DModel(**{"guidance_embeds": False, **config})
    has(check(network, hunyuan_transformer(network)), network)


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
