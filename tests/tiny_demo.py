"""Networks of the Wan demo model's kind, smaller and not trained."""

from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

from demo import wan
from demo.text import make_tokenizer


def make_vae() -> AutoencoderKLWan:
    torch.manual_seed(0)
    smaller = {"base_dim": 8, "decoder_base_dim": 8}
    made = AutoencoderKLWan.from_config({**wan.make_vae().config, **smaller})
    assert isinstance(made, AutoencoderKLWan)
    return made.eval()


def write_tiny_demo(folder: Path) -> Path:
    """Save a pipeline that makes videos from text into ``folder`` and return it."""
    tokenizer = make_tokenizer(wan.TEXT_LENGTH)
    torch.manual_seed(0)
    few = {"num_attention_heads": 1, "num_layers": 5, "ffn_dim": 32}
    config = {**wan.make_transformer().config, **few}
    transformer = WanTransformer3DModel.from_config(config)
    networks = {"vae": make_vae(), "transformer": transformer}
    encoder = wan.make_text_encoder(len(tokenizer))
    wan.save_pipeline(folder, tokenizer, encoder, networks)
    return folder
