"""How files of LoRAs call the layers of HunyuanVideo's transformers, of all versions:
Tencent's names (https://github.com/Tencent-Hunyuan/HunyuanVideo and
https://github.com/Tencent-Hunyuan/HunyuanVideo-1.5), ComfyUI's and diffusers'. Needs no
torch."""

from __future__ import annotations

from engine.family import ModelVariant
from engine.lora.names import Row, row

BASES = {320: "demo", 2048: "1.5", 3072: "13B"}
"""How many inputs most layers of a model have → its size."""


def phases(variant: ModelVariant) -> tuple[str, ...]:  # noqa: ARG001 - as its twins
    """It has one."""
    return ("",)


BLOCK, OLD_BLOCK = "transformer_blocks.{}", "double_blocks.{}"
SINGLE, OLD_SINGLE = "single_transformer_blocks.{}", "single_blocks.{}"
REFINER = "context_embedder.token_refiner.refiner_blocks.{}"
OLD_REFINER = "txt_in.individual_token_refiner.blocks.{}"


def _stream(side: str, query: str, norm: str, out: str, rest: str) -> tuple[Row, ...]:
    """The image's or the text's half of a double block."""
    old, new = f"{OLD_BLOCK}.{side}", f"{BLOCK}.attn"
    qkv = tuple(f"{new}.{query.format(x)}" for x in "qkv")
    return (
        row(f"{old}_attn_qkv", *qkv),
        row(f"{old}_attn.qkv", *qkv),
        *(row(f"{old}_attn_{x}", target) for x, target in zip("qkv", qkv, strict=True)),
        row(f"{old}_attn_proj", f"{new}.{out}"),
        row(f"{old}_attn.proj", f"{new}.{out}"),
        *(row(f"{old}_attn_{x}_norm", f"{new}.{norm}_{x}") for x in "qk"),
        row(f"{old}_attn.norm.query_norm", f"{new}.{norm}_q"),
        row(f"{old}_attn.norm.key_norm", f"{new}.{norm}_k"),
        row(f"{old}_mod.linear", f"{BLOCK}.norm1{rest}.linear"),
        row(f"{old}_mod.lin", f"{BLOCK}.norm1{rest}.linear"),
        *_mlp(f"{old}_mlp", f"{BLOCK}.ff{rest}"),
    )


def _mlp(old: str, new: str) -> tuple[Row, ...]:
    first, last = f"{new}.net.0.proj", f"{new}.net.2"
    return (
        row(f"{old}.fc1", first),
        row(f"{old}.0", first),
        row(f"{old}.fc2", last),
        row(f"{old}.2", last),
    )


def _single_block() -> tuple[Row, ...]:
    qkv = tuple(f"{SINGLE}.attn.to_{x}" for x in "qkv")
    return (
        row(f"{OLD_SINGLE}.linear1", *qkv, f"{SINGLE}.proj_mlp"),
        row(f"{OLD_SINGLE}.linear1_qkv", *qkv),
        *(
            row(f"{OLD_SINGLE}.linear1_attn_{x}", target)
            for x, target in zip("qkv", qkv, strict=True)
        ),
        row(f"{OLD_SINGLE}.linear1_mlp", f"{SINGLE}.proj_mlp"),
        row(f"{OLD_SINGLE}.linear2", f"{SINGLE}.proj_out"),
        *(row(f"{OLD_SINGLE}.{x}_norm", f"{SINGLE}.attn.norm_{x}") for x in "qk"),
        row(f"{OLD_SINGLE}.norm.query_norm", f"{SINGLE}.attn.norm_q"),
        row(f"{OLD_SINGLE}.norm.key_norm", f"{SINGLE}.attn.norm_k"),
        row(f"{OLD_SINGLE}.modulation.linear", f"{SINGLE}.norm.linear"),
        row(f"{OLD_SINGLE}.modulation.lin", f"{SINGLE}.norm.linear"),
    )


def _refiner() -> tuple[Row, ...]:
    qkv = tuple(f"{REFINER}.attn.to_{x}" for x in "qkv")
    return (
        row(f"{OLD_REFINER}.self_attn_qkv", *qkv),
        row(f"{OLD_REFINER}.self_attn.qkv", *qkv),
        *(
            row(f"{OLD_REFINER}.self_attn_{x}", target)
            for x, target in zip("qkv", qkv, strict=True)
        ),
        row(f"{OLD_REFINER}.self_attn_proj", f"{REFINER}.attn.to_out.0"),
        row(f"{OLD_REFINER}.self_attn.proj", f"{REFINER}.attn.to_out.0"),
        row(f"{OLD_REFINER}.norm1", f"{REFINER}.norm1"),
        row(f"{OLD_REFINER}.norm2", f"{REFINER}.norm2"),
        row(f"{OLD_REFINER}.adaLN_modulation.1", f"{REFINER}.norm_out.linear"),
        *_mlp(f"{OLD_REFINER}.mlp", f"{REFINER}.ff"),
    )


def _embedder(old: str, new: str) -> tuple[Row, ...]:
    """Two linear layers, of which several names are common."""
    rows = []
    for number, olds in enumerate(
        (("mlp.0", "in_layer", "linear_1"), ("mlp.2", "out_layer", "linear_2")), 1
    ):
        rows += [row(f"{old}.{each}", f"{new}.linear_{number}") for each in olds]
    return tuple(rows)


TEXT = "context_embedder.time_text_embed"
TIME = "time_text_embed"

ROWS = (
    *_stream("img", "to_{}", "norm", "to_out.0", ""),
    *_stream("txt", "add_{}_proj", "norm_added", "to_add_out", "_context"),
    row(f"{BLOCK}.attn.to_out", f"{BLOCK}.attn.to_out.0"),
    row(f"{BLOCK}.attn.to_qkv", *(f"{BLOCK}.attn.to_{x}" for x in "qkv")),
    row(f"{BLOCK}.attn.to_added_qkv", *(f"{BLOCK}.attn.add_{x}_proj" for x in "qkv")),
    row(f"{SINGLE}.attn.to_qkv", *(f"{SINGLE}.attn.to_{x}" for x in "qkv")),
    *_single_block(),
    *_refiner(),
    row("img_in.proj", "x_embedder.proj"),
    row("txt_in.input_embedder", "context_embedder.proj_in"),
    *_embedder("txt_in.t_embedder", f"{TEXT}.timestep_embedder"),
    *_embedder("txt_in.c_embedder", f"{TEXT}.text_embedder"),
    *_embedder("time_in", f"{TIME}.timestep_embedder"),
    *_embedder("vector_in", f"{TIME}.text_embedder"),
    *_embedder("guidance_in", f"{TIME}.guidance_embedder"),
    row("final_layer.linear", "proj_out"),
    row("final_layer.adaLN_modulation.1", "norm_out.linear", is_swapped=True),
    # HunyuanVideo 1.5
    *_embedder("time_in", "time_embed.timestep_embedder"),
    *_embedder("time_r_in", "time_embed.timestep_embedder_r"),
    row("byt5_in.layernorm", "context_embedder_2.norm"),
    *(row(f"byt5_in.fc{n}", f"context_embedder_2.linear_{n}") for n in (1, 2, 3)),
    row("vision_in.proj.0", "image_embedder.norm_in"),
    row("vision_in.proj.1", "image_embedder.linear_1"),
    row("vision_in.proj.3", "image_embedder.linear_2"),
    row("vision_in.proj.4", "image_embedder.norm_out"),
    row("cond_type_embedding", "cond_type_embed"),
    # FramePack
    row("clean_x_embedder.proj"),
    row("clean_x_embedder.proj_2x"),
    row("clean_x_embedder.proj_4x"),
    row("image_projection.up"),
    row("image_projection.down"),
)
