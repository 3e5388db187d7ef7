"""The published sizes, built without weights: each name in a file finds its place."""

import pytest
import torch
from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel
from transformers import T5Config, T5EncoderModel

from engine.loading.layouts import layout_of, own_names, recognise
from tests.engine.loading.test_checkpoint import (
    authors_transformer_names,
    authors_vae_names,
    config_of,
    prefixed,
)

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


def check(kind, network, tensors):
    """Every tensor of the network comes from one of the file, of the same shape."""
    layout = layout_of(kind)
    own = own_names(layout, list(tensors))
    shapes = {name: tuple(tensors[old].shape) for name, old in own.items()}
    renamed = layout.rename(shapes)
    assert {new: shapes[old] for new, old in renamed.items()} == shapes_of(
        network.state_dict()
    )
    assert layout.title in recognise(list(tensors))
    return layout.config({new: shapes[old] for new, old in renamed.items()})


@pytest.mark.parametrize(
    ("layers", "head", "width"), [(28, 64, 2048), (48, 128, 4096)], ids=["2B", "13B"]
)
def test_published_transformers_tell_their_size(layers, head, width):
    with torch.device("meta"):
        network = LTXVideoTransformer3DModel(
            num_layers=layers, attention_head_dim=head, cross_attention_dim=width
        )
    tensors = prefixed("model.diffusion_model.", authors_transformer_names(network))
    config = check("LTXVideoTransformer3DModel", network, tensors)
    assert config.items() <= config_of(network).items()


def test_the_published_vae_finds_its_names():
    with torch.device("meta"):
        network = AutoencoderKLLTXVideo(**PUBLISHED_VAE)
    tensors = prefixed("vae.", authors_vae_names(network, recent=True))
    check("AutoencoderKLLTXVideo", network, tensors)


def test_the_published_text_encoder_tells_its_size():
    published = {"vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240}
    published |= {"num_layers": 24, "num_heads": 64}
    with torch.device("meta"):
        network = T5EncoderModel(T5Config(**published, feed_forward_proj="gated-gelu"))
    tensors = dict(network.state_dict())
    del tensors["encoder.embed_tokens.weight"]
    assert published.items() <= check("T5EncoderModel", network, tensors).items()


def test_names_of_other_networks_in_the_same_file_are_left_out():
    layout = layout_of("AutoencoderKLLTXVideo")
    names = ["vae.decoder.a", "model.diffusion_model.b", "c"]
    assert own_names(layout, names) == {"decoder.a": "vae.decoder.a"}
    assert own_names(layout, names[1:]) == {"c": "c"}
