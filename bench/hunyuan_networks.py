"""HunyuanVideo's and HunyuanVideo 1.5's networks in their real sizes with random
weights, and tokenizers that know no word: nothing has to be downloaded."""

from __future__ import annotations

from typing import Any

WIDTH = 32
"""Of the embeddings of tiny networks."""


def make_networks(model: str, *, tiny: bool) -> dict[str, Any]:
    """Normal weights of deviation 0.02, bfloat16 and the VAE float16 on the GPU;
    without one float32."""
    import torch

    has_gpu = torch.cuda.is_available()
    torch.manual_seed(0)
    make = {"hunyuan": _hunyuan, "1.5": _hunyuan15}[model]
    torch.set_default_dtype(torch.bfloat16 if has_gpu else torch.float32)
    try:
        with torch.device("cuda" if has_gpu else "cpu"):
            networks = make(tiny)
    finally:
        torch.set_default_dtype(torch.float32)
    for network in networks.values():
        network.eval().requires_grad_(False)
        for parameter in network.parameters():
            parameter.data.normal_(std=0.02)
    if has_gpu:
        networks["vae"].to(torch.float16)
    return networks


def _hunyuan(tiny: bool) -> dict[str, Any]:
    from diffusers import AutoencoderKLHunyuanVideo, HunyuanVideoTransformer3DModel
    from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

    llama: dict[str, Any] = {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    }
    clip: dict[str, Any] = {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    }
    transformer: dict[str, Any] = {"guidance_embeds": True}
    vae: dict[str, Any] = {}
    if tiny:
        llama |= _tiny_text(layers=4, key_value_heads=2)
        clip |= _tiny_text(layers=2)
        transformer |= {
            **_tiny_transformer(),
            "in_channels": 4,
            "out_channels": 4,
            "num_single_layers": 1,
            "pooled_projection_dim": WIDTH,
        }
        vae = {
            "latent_channels": 4,
            "block_out_channels": (8, 8, 8, 8),
            "norm_num_groups": 4,
        }
    return {
        "text_encoder": LlamaModel(LlamaConfig(vocab_size=128320, **llama)),
        "text_encoder_2": CLIPTextModel(CLIPTextConfig(**clip)),
        "transformer": HunyuanVideoTransformer3DModel(**transformer),
        "vae": AutoencoderKLHunyuanVideo(**vae),
    }


def _hunyuan15(tiny: bool) -> dict[str, Any]:
    from diffusers import (
        AutoencoderKLHunyuanVideo15,
        HunyuanVideo15Transformer3DModel,
    )
    from transformers import (
        Qwen2_5_VLTextConfig,
        Qwen2_5_VLTextModel,
        T5Config,
        T5EncoderModel,
    )

    qwen: dict[str, Any] = {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "rope_scaling": {"type": "default", "mrope_section": [16, 24, 24]},
    }
    byt5: dict[str, Any] = {
        "d_model": 1472,
        "d_kv": 64,
        "d_ff": 3584,
        "num_layers": 12,
        "num_heads": 6,
    }
    transformer: dict[str, Any] = {}
    vae: dict[str, Any] = {}
    if tiny:
        qwen |= _tiny_text(layers=4, key_value_heads=2)
        qwen["rope_scaling"] = {"type": "default", "mrope_section": [1, 1, 2]}
        byt5 |= {"d_model": WIDTH, "d_ff": 64, "num_layers": 2}
        transformer = {
            **_tiny_transformer(),
            "in_channels": 9,
            "out_channels": 4,
            "text_embed_2_dim": WIDTH,
            "image_embed_dim": WIDTH,
        }
        vae = {"latent_channels": 4, "block_out_channels": (8, 8, 8, 16, 16)}
    return {
        "text_encoder": Qwen2_5_VLTextModel(
            Qwen2_5_VLTextConfig(vocab_size=152064, **qwen)
        ),
        "text_encoder_2": T5EncoderModel(
            T5Config(vocab_size=1510, feed_forward_proj="gated-gelu", **byt5)
        ),
        "transformer": HunyuanVideo15Transformer3DModel(**transformer),
        "vae": AutoencoderKLHunyuanVideo15(**vae),
    }


def _tiny_text(*, layers: int, key_value_heads: int | None = None) -> dict[str, Any]:
    shape = {
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
    }
    grouped = {"num_key_value_heads": key_value_heads} if key_value_heads else {}
    return {**shape, **grouped}


def _tiny_transformer() -> dict[str, Any]:
    return {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 1,
        "num_refiner_layers": 1,
        "text_embed_dim": WIDTH,
        "rope_axes_dim": (4, 6, 6),
    }


def make_tokenizers(model: str) -> dict[str, Any]:
    """One token a word, all the same: a prompt has its usual length."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

    ids = {"<pad>": 0, "<unk>": 1}
    words = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()

    def tokenizer(longest: int) -> Any:
        return PreTrainedTokenizerFast(
            tokenizer_object=words,
            pad_token="<pad>",
            unk_token="<unk>",
            model_max_length=longest,
        )

    if model == "hunyuan":
        return {"tokenizer": tokenizer(512), "tokenizer_2": tokenizer(77)}
    chat = tokenizer(2048)
    # As many tokens as the pipeline cuts off before the prompt, and one after it.
    chat.chat_template = "{{ 'word ' * 108 }}{{ messages[1]['content'] }} end"
    return {"tokenizer": chat, "tokenizer_2": ByT5Tokenizer()}
