"""A HunyuanVideo 1.5 model of real classes and random weights, in a folder of the
real layout, as ``tests.tiny_wan`` is for Wan."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo15,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15ImageToVideoPipeline,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
)
from transformers import (
    ByT5Tokenizer,
    PreTrainedTokenizerFast,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
)

from hyvideo.hunyuan15 import make_guider
from tests.tiny_wan import make_tokenizer

WIDTH = 32
"""Of all text and image embeddings."""
LATENTS = 4
TEMPLATE_TOKENS = 108
"""So many tokens of the conversation come before the prompt, and are cut off."""


def write_tiny_hunyuan15(folder: Path, *, from_image: bool, seed: int = 0) -> Path:
    """Save a tiny model into ``folder`` and return it."""
    torch.manual_seed(seed)
    parts = {
        "tokenizer": make_chat_tokenizer(),
        "tokenizer_2": ByT5Tokenizer(),
        "text_encoder": make_text_encoder(len(make_tokenizer())),
        "text_encoder_2": make_glyph_encoder(len(ByT5Tokenizer())),
        "transformer": make_transformer(step_distilled=False),
        "vae": make_vae(),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=5.0),
        "guider": make_guider(6.0),
    }
    if from_image:
        pipeline = HunyuanVideo15ImageToVideoPipeline(
            **parts,
            image_encoder=make_image_encoder(),
            feature_extractor=make_feature_extractor(),
        )
    else:
        pipeline = HunyuanVideo15Pipeline(**parts)
    pipeline.save_pretrained(folder)
    return folder


def make_chat_tokenizer() -> PreTrainedTokenizerFast:
    """Instead of the system's message it puts as many tokens as that has, and one
    for the end of the user's."""
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{{ 'the ' * " + str(TEMPLATE_TOKENS) + " }}{{ messages[1]['content'] }} </s>"
    )
    return tokenizer


def make_text_encoder(words: int) -> Qwen2_5_VLTextModel:
    config = Qwen2_5_VLTextConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        rope_scaling={"type": "default", "mrope_section": [1, 1, 2]},
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    return Qwen2_5_VLTextModel(config).eval()


def make_glyph_encoder(letters: int) -> T5EncoderModel:
    config = T5Config(
        vocab_size=letters,
        d_model=WIDTH,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config).eval()


def make_image_encoder() -> SiglipVisionModel:
    config = SiglipVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
    )
    return SiglipVisionModel(config).eval()


def make_feature_extractor() -> SiglipImageProcessorPil:
    return SiglipImageProcessorPil(
        size={"height": 32, "width": 32},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )


def make_transformer(*, step_distilled: bool) -> HunyuanVideo15Transformer3DModel:
    return HunyuanVideo15Transformer3DModel(
        in_channels=2 * LATENTS + 1,
        out_channels=LATENTS,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        num_refiner_layers=1,
        text_embed_dim=WIDTH,
        text_embed_2_dim=WIDTH,
        image_embed_dim=WIDTH,
        rope_axes_dim=(4, 6, 6),
        target_size=64,
        use_meanflow=step_distilled,
    ).eval()


def make_vae() -> AutoencoderKLHunyuanVideo15:
    return AutoencoderKLHunyuanVideo15(
        latent_channels=LATENTS,
        block_out_channels=(8, 8, 8, 16, 16),
        layers_per_block=1,
    ).eval()
