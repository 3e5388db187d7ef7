"""Hunyuan Video's networks. Tencent's names:
https://github.com/Tencent-Hunyuan/HunyuanVideo."""

from __future__ import annotations

from typing import Any

from engine.loading.layouts.layout import (
    Layout,
    Shapes,
    Sources,
    convert,
    count_blocks,
    nothing,
    number_rows,
    whole,
)

FAMILY = "hyvideo"

HEAD_WIDTH = 128
WIDTH = 3072
"""Of the published transformer, which diffusers' converter counts on."""


def _rename_transformer(shapes: Shapes) -> Sources:
    import torch

    rows = number_rows(shapes)
    width = shapes.get("img_in.proj.weight", (WIDTH,))[0]
    if width > WIDTH:
        raise ValueError(f"it is {width} wide; the published one is {WIDTH}")
    padding = torch.full((WIDTH - width,), -1)
    for name, numbers in rows.items():
        if "single_blocks." in name and ".linear1." in name:
            *qkv, rest = torch.split(numbers, [width] * 3 + [len(numbers) - 3 * width])
            rows[name] = torch.cat([*(torch.cat([x, padding]) for x in qkv), rest])
    return convert("convert_hunyuan_video_transformer_to_diffusers", rows, shapes)


def _transformer_config(shapes: Shapes) -> dict[str, Any]:
    width, in_channels, patch_size_t, patch_size, _ = shapes["x_embedder.proj.weight"]
    patch = patch_size_t * patch_size**2
    refiner = "context_embedder.token_refiner.refiner_blocks."
    embedder = "time_text_embed."
    feed_forward = shapes["transformer_blocks.0.ff.net.0.proj.weight"][0]
    return {
        "in_channels": in_channels,
        "out_channels": shapes["proj_out.weight"][0] // patch,
        "num_attention_heads": width // HEAD_WIDTH,
        "attention_head_dim": HEAD_WIDTH,
        "num_layers": count_blocks(shapes, "transformer_blocks."),
        "num_single_layers": count_blocks(shapes, "single_transformer_blocks."),
        "num_refiner_layers": count_blocks(shapes, refiner),
        "mlp_ratio": feed_forward / width,
        "patch_size": patch_size,
        "patch_size_t": patch_size_t,
        "guidance_embeds": f"{embedder}guidance_embedder.linear_1.weight" in shapes,
        "text_embed_dim": shapes["context_embedder.proj_in.weight"][1],
        "pooled_projection_dim": shapes[f"{embedder}text_embedder.linear_1.weight"][1],
    }


def _base_config(shapes: Shapes) -> dict[str, Any]:
    config = _transformer_config(shapes)
    beside = config["in_channels"] == 2 * config["out_channels"] + 1
    return {**config, "image_condition_type": "latent_concat"} if beside else config


def _framepack_config(shapes: Shapes) -> dict[str, Any]:
    image = shapes.get("image_projection.up.weight")
    return {
        **_transformer_config(shapes),
        "has_clean_x_embedder": "clean_x_embedder.proj.weight" in shapes,
        "has_image_proj": image is not None,
        "image_proj_dim": image[1] if image else 1152,
    }


PREFIXES = ("model.diffusion_model.", "diffusion_model.")

LAYOUTS = {
    "HunyuanVideoFramepackTransformer3DModel": Layout(
        title="FramePack transformer",
        family=FAMILY,
        component="transformer",
        mark="clean_x_embedder.proj_2x.",
        own_mark="clean_x_embedder.proj_2x.",
        prefixes=PREFIXES,
        rename=whole,
        config=_framepack_config,
    ),
    "HunyuanVideoTransformer3DModel": Layout(
        title="Hunyuan Video transformer",
        family=FAMILY,
        component="transformer",
        mark="double_blocks.0.img_attn_qkv.",
        own_mark="context_embedder.token_refiner.refiner_blocks.",
        prefixes=PREFIXES,
        rename=_rename_transformer,
        config=_base_config,
    ),
    "AutoencoderKLHunyuanVideo": Layout(
        title="Hunyuan Video VAE",
        family=FAMILY,
        component="vae",
        mark="",
        own_mark="decoder.mid_block.attentions.0.group_norm.",
        prefixes=("vae.",),
        rename=whole,
        config=nothing,
    ),
}
