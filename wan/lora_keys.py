"""How files of LoRAs call the layers of Wan's transformers: Wan's own names
(https://github.com/Wan-Video/Wan2.1) beside diffusers'. Needs no torch."""

from __future__ import annotations

from engine.family import ModelVariant
from engine.lora.names import Row, row
from wan.variants import options_of

BASES = {384: "demo", 1536: "1.3B", 3072: "5B", 5120: "14B"}
"""How many inputs most layers of a model have → its size."""


def phases(variant: ModelVariant) -> tuple[str, ...]:
    """One for each transformer."""
    has_two = options_of(variant).boundary_ratio is not None
    return ("high noise", "low noise") if has_two else ("",)


def _attention(block: str, own: str, diffusers: str) -> tuple[Row, ...]:
    old, new = f"{block}.{own}", f"{block}.{diffusers}"
    qkv = tuple(f"{new}.to_{x}" for x in "qkv")
    return (
        *(row(f"{old}.{x}", f"{new}.to_{x}") for x in "qkv"),
        row(f"{old}.o", f"{new}.to_out.0"),
        row(f"{new}.to_out", f"{new}.to_out.0"),
        row(f"{old}.norm_q", f"{new}.norm_q"),
        row(f"{old}.norm_k", f"{new}.norm_k"),
        row(f"{old}.qkv", *qkv),
        row(f"{new}.to_qkv", *qkv),
        row(f"{old}.kv", *qkv[1:]),
        row(f"{new}.to_kv", *qkv[1:]),
    )


def _block(block: str) -> tuple[Row, ...]:
    image = f"{block}.attn2.add"
    return (
        *_attention(block, "self_attn", "attn1"),
        *_attention(block, "cross_attn", "attn2"),
        row(f"{block}.cross_attn.k_img", f"{image}_k_proj"),
        row(f"{block}.cross_attn.v_img", f"{image}_v_proj"),
        row(f"{block}.attn2.to_added_kv", f"{image}_k_proj", f"{image}_v_proj"),
        row(f"{block}.cross_attn.norm_k_img", f"{block}.attn2.norm_added_k"),
        row(f"{block}.norm3", f"{block}.norm2"),
        row(f"{block}.ffn.0", f"{block}.ffn.net.0.proj"),
        row(f"{block}.ffn.2", f"{block}.ffn.net.2"),
        row(f"{block}.modulation", f"{block}.scale_shift_table"),
    )


EMBEDDER = "condition_embedder"
IMAGE_EMBEDDER = f"{EMBEDDER}.image_embedder"

ROWS = (
    *_block("blocks.{}"),
    *_block("vace_blocks.{}"),
    row("vace_blocks.{}.before_proj", "vace_blocks.{}.proj_in"),
    row("vace_blocks.{}.after_proj", "vace_blocks.{}.proj_out"),
    row("vace_patch_embedding"),
    row("patch_embedding"),
    row("text_embedding.0", f"{EMBEDDER}.text_embedder.linear_1"),
    row("text_embedding.2", f"{EMBEDDER}.text_embedder.linear_2"),
    row("time_embedding.0", f"{EMBEDDER}.time_embedder.linear_1"),
    row("time_embedding.2", f"{EMBEDDER}.time_embedder.linear_2"),
    row("time_projection.1", f"{EMBEDDER}.time_proj"),
    row("img_emb.proj.0", f"{IMAGE_EMBEDDER}.norm1"),
    row("img_emb.proj.1", f"{IMAGE_EMBEDDER}.ff.net.0.proj"),
    row("img_emb.proj.3", f"{IMAGE_EMBEDDER}.ff.net.2"),
    row("img_emb.proj.4", f"{IMAGE_EMBEDDER}.norm2"),
    row("img_emb.emb_pos", f"{IMAGE_EMBEDDER}.pos_embed"),
    row("head.head", "proj_out"),
    row("head.modulation", "scale_shift_table"),
)
