"""A FramePack model of real classes and random weights, in a folder of the real
layout, as ``tests.tiny_wan`` is for Wan."""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoFramepackPipeline,
    HunyuanVideoFramepackTransformer3DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

from tests.tiny_hunyuan15 import make_feature_extractor, make_image_encoder
from tests.tiny_wan import make_tokenizer

WIDTH = 32
LATENTS = 4


def write_tiny_framepack(folder: Path, *, seed: int = 0) -> Path:
    """Save a tiny model into ``folder`` and return it."""
    torch.manual_seed(seed)
    words = len(make_tokenizer())
    HunyuanVideoFramepackPipeline(
        tokenizer=make_tokenizer(),
        tokenizer_2=make_tokenizer(),
        text_encoder=make_language_model(words),
        text_encoder_2=make_clip(words),
        image_encoder=make_image_encoder(),
        feature_extractor=make_feature_extractor(),
        transformer=make_transformer(),
        vae=make_vae(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
    ).save_pretrained(folder)
    return folder


def make_language_model(words: int) -> LlamaModel:
    config = LlamaConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    return LlamaModel(config).eval()


def make_clip(words: int) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=WIDTH,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    return CLIPTextModel(config).eval()


def make_transformer() -> HunyuanVideoFramepackTransformer3DModel:
    return HunyuanVideoFramepackTransformer3DModel(
        in_channels=LATENTS,
        out_channels=LATENTS,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        rope_axes_dim=(4, 6, 6),
        has_image_proj=True,
        image_proj_dim=WIDTH,
        has_clean_x_embedder=True,
    ).eval()


def make_vae(**changed: Any) -> AutoencoderKLHunyuanVideo:
    config: dict[str, Any] = {
        "latent_channels": LATENTS,
        "block_out_channels": (8, 8, 8, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        **changed,
    }
    return AutoencoderKLHunyuanVideo(**config).eval()
