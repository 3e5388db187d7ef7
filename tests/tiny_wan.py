"""A Wan model of real classes and random weights, in a folder of the real layout.

``write_tiny_wan`` takes well under a second and its videos mean nothing, but every
part of the way to them is the real one.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

WORDS = "a the red green blue ball cube moving left right on grass sand at day night"
CHANNELS = 48
"""As many as the demo model's VAE has, whose previews it then has."""


def write_tiny_wan(folder: Path, *, patched_vae: bool = True, seed: int = 0) -> Path:
    """Save a tiny model into ``folder`` and return it."""
    torch.manual_seed(seed)
    WanPipeline(
        tokenizer=make_tokenizer(),
        text_encoder=make_text_encoder(len(make_tokenizer())),
        transformer=make_transformer(),
        vae=make_vae(patched=patched_vae),
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    ).save_pretrained(folder)
    return folder


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per word, an end token after the last, as T5's tokenizers do."""
    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2}
    for word in WORDS.split():
        vocabulary.setdefault(word, len(vocabulary))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def make_text_encoder(words: int, *, d_model: int = 32) -> UMT5EncoderModel:
    config = UMT5Config(
        vocab_size=words,
        d_model=d_model,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        dropout_rate=0.0,
    )
    return UMT5EncoderModel(config).eval()


def make_transformer(
    kind: Any = WanTransformer3DModel, *, channels: int = CHANNELS, **more: Any
) -> Any:
    config = {
        "in_channels": channels,
        "out_channels": channels,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "num_layers": 2,
        "ffn_dim": 32,
        "text_dim": 32,
        "freq_dim": 16,
        "rope_max_seq_len": 32,
    }
    transformer = kind(**{**config, **more})
    # The projection starts at zero, which would make every step the same.
    torch.nn.init.normal_(transformer.proj_out.weight, std=0.3)
    return transformer.eval()


def make_vae(
    *, patched: bool, channels: int = CHANNELS, **more: Any
) -> AutoencoderKLWan:
    """The demo model's kind of VAE, which works on 2x2 patches, or Wan's own."""
    shape = (
        {
            "dim_mult": [1, 2, 4],
            "temperal_downsample": [True, True],
            "patch_size": 2,
            "in_channels": 12,
            "out_channels": 12,
        }
        if patched
        else {
            "dim_mult": [1, 1, 1, 1],
            "temperal_downsample": [False, True, True],
        }
    )
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=channels,
        num_res_blocks=1,
        attn_scales=[],
        latents_mean=[0.5] * channels,
        latents_std=[2.0] * channels,
        **{**shape, **more},
    )
    return vae.eval()
