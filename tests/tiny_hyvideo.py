"""HunyuanVideo models of real classes and random weights, in folders of the real
layout, as ``tests.tiny_wan`` is for Wan."""

from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessorPil,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaModel,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from tests.tiny_wan import WORDS

CHANNELS, DEMO_CHANNELS = 16, 8
"""Of the latents: HunyuanVideo's, and the demo model's."""
WIDTH = 32
"""Of the text embeddings."""
PICTURE = 24
"""Pixels of what the language model sees: one token each, 576 as the real one has."""
STARTS_OF_TEXT, STARTS_OF_IMAGE = 2, 3
"""With so many, the words around a prompt are as many tokens as diffusers cuts off."""

Kind = Literal["latent_concat", "token_replace"]


def write_tiny_hyvideo(
    folder: Path, *, seed: int = 0, channels: int = CHANNELS
) -> Path:
    """Save a tiny model from text, whose transformer knows a start image too and has
    no embedded guidance, as the demo model has it; returns ``folder``."""
    torch.manual_seed(seed)
    transformer = make_transformer("token_replace", channels=channels)
    make_pipeline(transformer, starts=1).save_pretrained(folder)
    return folder


def write_tiny_t2v(folder: Path, *, seed: int = 0) -> Path:
    """Save a tiny model from text with embedded guidance, as HunyuanVideo is."""
    torch.manual_seed(seed)
    transformer = make_transformer(None, guidance_embeds=True)
    make_pipeline(transformer, starts=STARTS_OF_TEXT).save_pretrained(folder)
    return folder


def write_tiny_i2v(folder: Path, kind: Kind, *, seed: int = 0) -> Path:
    """Save a tiny model from a start image, whose language model sees pictures."""
    torch.manual_seed(seed)
    is_embedded = kind == "token_replace"
    transformer = make_transformer(kind, guidance_embeds=is_embedded)
    make_image_pipeline(transformer).save_pretrained(folder)
    return folder


def make_pipeline(
    transformer: HunyuanVideoTransformer3DModel, starts: int
) -> HunyuanVideoPipeline:
    return HunyuanVideoPipeline(
        text_encoder=LlamaModel(llama_config(len(make_tokenizer()))).eval(),
        transformer=transformer,
        **_other_parts(starts, transformer.config.out_channels),
    )


def make_image_pipeline(
    transformer: HunyuanVideoTransformer3DModel,
) -> HunyuanVideoImageToVideoPipeline:
    return HunyuanVideoImageToVideoPipeline(
        text_encoder=make_llava(),
        transformer=transformer,
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": PICTURE},
            crop_size={"height": PICTURE, "width": PICTURE},
        ),
        **_other_parts(STARTS_OF_IMAGE, transformer.config.out_channels),
    )


def _other_parts(starts: int, channels: int) -> dict[str, Any]:
    return {
        "tokenizer": make_tokenizer(starts),
        "tokenizer_2": make_clip_tokenizer(),
        "text_encoder_2": make_clip(),
        "vae": make_vae(channels),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=7.0),
    }


def make_tokenizer(starts: int = 1) -> PreTrainedTokenizerFast:
    """One token per word; the marks of a conversation are tokens of their own. So many
    ``starts`` come first."""
    marks = ["<pad>", "<s>", "<unk>", "<image>", "\n\n", "<|eot_id|>"]
    marks += ["<|start_header_id|>", "<|end_header_id|>"]
    words = [*marks, *dict.fromkeys(WORDS.split())]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.add_special_tokens([AddedToken(m, normalized=False) for m in marks])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(["<s>"] * starts + ["$A"]), special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        unk_token="<unk>",
        padding_side="right",
    )


def make_clip_tokenizer() -> CLIPTokenizer:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters)]
    words = [*pieces, "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)


def llama_config(words: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=words,
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1200,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
    )


def make_llava() -> LlavaForConditionalGeneration:
    tokenizer = make_tokenizer()
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=PICTURE,
        patch_size=1,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=llama_config(len(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=0,
    )
    return LlavaForConditionalGeneration(config).eval()


def make_clip() -> CLIPTextModel:
    tokenizer = make_clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config).eval()


def make_transformer(
    kind: Kind | None, *, guidance_embeds: bool = False, channels: int = CHANNELS
) -> HunyuanVideoTransformer3DModel:
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=2 * channels + 1 if kind == "latent_concat" else channels,
        out_channels=channels,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        num_single_layers=2,
        num_refiner_layers=1,
        guidance_embeds=guidance_embeds,
        text_embed_dim=WIDTH,
        pooled_projection_dim=16,
        rope_axes_dim=(4, 6, 6),
        image_condition_type=kind,
    )
    return transformer.eval()


def make_vae(channels: int = CHANNELS) -> AutoencoderKLHunyuanVideo:
    return AutoencoderKLHunyuanVideo(
        latent_channels=channels,
        block_out_channels=(4, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=2,
    ).eval()
