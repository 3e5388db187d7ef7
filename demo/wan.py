"""The Wan demo model: its sizes, in diffusers' own classes."""

from __future__ import annotations

from diffusers import AutoencoderKLWan, WanTransformer3DModel
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from demo.captions import vocabulary

LATENT_CHANNELS = 48
TEXT_WIDTH = 128
TEXT_LENGTH = 512
"""Padded prompt length: the default of diffusers' WanPipeline."""


def make_vae() -> AutoencoderKLWan:
    """As Wan 2.2's: residual, 48 channels, 16 × 16 × 4 compression; 4 × 4 patches."""
    return AutoencoderKLWan(
        base_dim=48,
        decoder_base_dim=72,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        attn_scales=[],
        temperal_downsample=[True, True],
        in_channels=48,
        out_channels=48,
        patch_size=4,
        is_residual=True,
        scale_factor_spatial=16,
        scale_factor_temporal=4,
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
    )


def make_transformer() -> WanTransformer3DModel:
    """A token for each 32 × 32 pixels of four frames."""
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=6,
        attention_head_dim=64,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_WIDTH,
        freq_dim=256,
        ffn_dim=1536,
        num_layers=7,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=1024,
    )


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, lower case; ids 0 and 1 are padding and end, as in T5."""
    special = ["<pad>", "</s>", "<unk>"]
    ids = {word: i for i, word in enumerate([*special, *vocabulary()])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(
        Regex(r"[\w'-]+|[^\w\s]"), behavior="removed", invert=True
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=TEXT_LENGTH,
    )


def make_text_encoder(words: int) -> UMT5EncoderModel:
    """Two layers, trained together with the transformer."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=words,
            d_model=TEXT_WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
        )
    )
