"""An LTX model of real classes and random weights, in a folder of the real layout, as
``tests.tiny_wan`` is for Wan."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXConditionPipeline,
    LTXVideoTransformer3DModel,
)
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel
from transformers import T5Config, T5EncoderModel

from tests.tiny_wan import make_tokenizer

CHANNELS = 128


def write_tiny_ltx(folder: Path, *, seed: int = 0, **vae: Any) -> Path:
    """Save a tiny model into ``folder`` and return it; ``vae`` changes its config."""
    torch.manual_seed(seed)
    LTXConditionPipeline(
        tokenizer=make_tokenizer(),
        text_encoder=make_text_encoder(len(make_tokenizer())),
        transformer=make_transformer(),
        vae=make_vae(**vae),
        scheduler=FlowMatchEulerDiscreteScheduler(),
    ).save_pretrained(folder)
    upsampler = LTXLatentUpsamplerModel(
        in_channels=CHANNELS, mid_channels=64, num_blocks_per_stage=1
    )
    upsampler.save_pretrained(folder / "latent_upsampler")
    return folder


def make_text_encoder(words: int) -> T5EncoderModel:
    config = T5Config(
        vocab_size=words,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config).eval()


def make_transformer() -> LTXVideoTransformer3DModel:
    return LTXVideoTransformer3DModel(
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=2,
        caption_channels=32,
    ).eval()


def make_vae(**changed: Any) -> AutoencoderKLLTXVideo:
    """The kind that LTX has since 0.9.5."""
    config = {
        "latent_channels": CHANNELS,
        "block_out_channels": (8, 16, 16, 16, 16),
        "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
        "spatio_temporal_scaling": (True,) * 4,
        "layers_per_block": (1, 1, 1, 1, 1),
        "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        "decoder_block_out_channels": (8, 16, 32),
        "decoder_layers_per_block": (1, 1, 1, 1),
        "decoder_spatio_temporal_scaling": (True,) * 3,
        "decoder_inject_noise": (False,) * 4,
        "upsample_residual": (True,) * 3,
        "upsample_factor": (2, 2, 2),
        "decoder_causal": False,
        "spatial_compression_ratio": 32,
        "temporal_compression_ratio": 8,
        **changed,
    }
    vae = AutoencoderKLLTXVideo(**config).eval()
    vae.latents_mean.uniform_(-0.5, 0.5)
    vae.latents_std.uniform_(0.5, 1.5)
    return vae
