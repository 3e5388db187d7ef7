"""Text encoders that several families share."""

from __future__ import annotations

import re
from typing import Any

from engine.loading.layouts.layout import (
    Layout,
    Shapes,
    Sources,
    count_blocks,
    renamed,
    whole,
)

BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")

PARTS = {
    "attn.": "layer.0.SelfAttention.",
    "norm1.": "layer.0.layer_norm.",
    "pos_embedding.embedding.": "layer.0.SelfAttention.relative_attention_bias.",
    "norm2.": "layer.1.layer_norm.",
    "ffn.gate.0.": "layer.1.DenseReluDense.wi_0.",
    "ffn.fc1.": "layer.1.DenseReluDense.wi_1.",
    "ffn.fc2.": "layer.1.DenseReluDense.wo.",
}
"""Of a block: the names in Wan's repository → transformers'."""

OUTER = {
    "token_embedding.weight": "shared.weight",
    "norm.weight": "encoder.final_layer_norm.weight",
}

LEFT_OUT = ("decoder.", "lm_head.", "spiece_model", "logit_scale")
"""Of whole T5 models, and what ComfyUI adds."""


def _rename_umt5(shapes: Shapes) -> Sources:
    return renamed(shapes, _transformers_name)


def _transformers_name(name: str) -> str:
    found = BLOCK.fullmatch(name)
    if found is None:
        return OUTER.get(name, name)
    number, rest = found.groups()
    for old, new in PARTS.items():
        if rest.startswith(old):
            return f"encoder.block.{number}.{new}{rest.removeprefix(old)}"
    return name


def _t5_config(shapes: Shapes) -> dict[str, Any]:
    block = "encoder.block.0.layer."
    bias = f"{block}0.SelfAttention.relative_attention_bias.weight"
    buckets, heads = shapes[bias]
    embedding = "shared.weight"
    if embedding not in shapes:
        embedding = "encoder.embed_tokens.weight"
    vocab_size, d_model = shapes[embedding]
    is_gated = f"{block}1.DenseReluDense.wi_0.weight" in shapes
    wi = f"{block}1.DenseReluDense.{'wi_0' if is_gated else 'wi'}.weight"
    return {
        "vocab_size": vocab_size,
        "d_model": d_model,
        "d_kv": shapes[f"{block}0.SelfAttention.q.weight"][0] // heads,
        "d_ff": shapes[wi][0],
        "num_layers": count_blocks(shapes, "encoder.block."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu" if is_gated else "relu",
    }


LAYOUTS = {
    "UMT5EncoderModel": Layout(
        title="UMT5 text encoder",
        family="",
        component="text_encoder",
        mark="blocks.0.pos_embedding.",
        own_mark="block.1.layer.0.SelfAttention.relative_attention_bias.",
        prefixes=("text_encoders.umt5xxl.transformer.",),
        rename=_rename_umt5,
        config=_t5_config,
        left_out=LEFT_OUT,
    ),
    "T5EncoderModel": Layout(
        title="T5 text encoder",
        family="",
        component="text_encoder",
        mark="",
        own_mark="encoder.block.0.layer.0.SelfAttention.q.weight",
        prefixes=("text_encoders.t5xxl.transformer.",),
        rename=whole,
        config=_t5_config,
        left_out=LEFT_OUT,
    ),
}
