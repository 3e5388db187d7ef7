"""Wan's networks and those made from them. Their authors' names:
https://github.com/Wan-Video/Wan2.1 and https://github.com/Wan-Video/Wan2.2."""

from __future__ import annotations

import math
import re
from typing import Any

from engine.loading.layouts.layout import (
    Layout,
    Rows,
    Shapes,
    Sources,
    convert,
    count_blocks,
    number_rows,
)

FAMILY = "wan"

HEAD_WIDTH = 128
"""In every published size."""

INNER_BLOCK = re.compile(r"\.(?:down|up)samples\.(\d+)\.(?:down|up)samples\.(\d+)\.")
"""In the VAE of 2.2, whose blocks have several layers each."""

UNCONVERTED = {
    "img_emb.emb_pos": "condition_embedder.image_embedder.pos_embed",
    "fps_projection.0.weight": "fps_projection.net.0.proj.weight",
    "fps_projection.0.bias": "fps_projection.net.0.proj.bias",
    "fps_projection.2.weight": "fps_projection.net.2.weight",
    "fps_projection.2.bias": "fps_projection.net.2.bias",
}
"""What diffusers' converter leaves as it is: of first and last frame to video, and of
SkyReels V2."""

LAYERS = {
    "residual.0.": "norm1.",
    "residual.2.": "conv1.",
    "residual.3.": "norm2.",
    "residual.6.": "conv2.",
    "shortcut.": "conv_shortcut.",
}
"""Of a residual block: Wan's names → diffusers'."""

# fmt: off
MEAN_OF_2_2 = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382,
    0.0542, 0.2813, 0.0891, 0.157, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698,
    0.5109, 0.2665, -0.2108, -0.2158, 0.2502, -0.2055, -0.0322, 0.1109, 0.1567, -0.0729,
    0.0899, -0.2799, -0.123, -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.052,
    0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)
STD_OF_2_2 = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.499, 0.4818, 0.5013, 0.8158, 1.0344,
    0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804,
    0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999,
    0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887,
    0.3971, 1.06, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)
# fmt: on
"""Of each channel of the VAE's latents."""

VAE_OF_2_2: dict[str, Any] = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "latents_mean": MEAN_OF_2_2,
    "latents_std": STD_OF_2_2,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
}
"""As published. diffusers' defaults are those of 2.1."""


def _rename_transformer(shapes: Shapes) -> Sources:
    sources = convert(
        "convert_wan_transformer_to_diffusers", number_rows(shapes), shapes
    )
    return {UNCONVERTED.get(name, name): rows for name, rows in sources.items()}


def _rename_vae(shapes: Shapes) -> Sources:
    """The converter knows the VAE of 2.1; of 2.2 only what both have."""
    sources = convert("convert_wan_vae_to_diffusers", number_rows(shapes), shapes)
    inner = {name for name in shapes if INNER_BLOCK.search(name)}
    if not inner:
        return sources
    kept = {new: rows for new, rows in sources.items() if rows[0].name not in inner}
    for name in inner:
        kept[_inner_name(name)] = (Rows(name, 0, shapes[name][0]),)
    return kept


def _inner_name(name: str) -> str:
    found = INNER_BLOCK.search(name)
    assert found is not None
    block, layer = found.groups()
    side, rest = name[: found.start()], name[found.end() :]
    way = "down" if side == "encoder" else "up"
    if rest.startswith(("resample.", "time_conv.")):
        return f"{side}.{way}_blocks.{block}.{way}sampler.{rest}"
    for old, new in LAYERS.items():
        if rest.startswith(old):
            rest = new + rest.removeprefix(old)
    return f"{side}.{way}_blocks.{block}.resnets.{layer}.{rest}"


def _transformer_config(shapes: Shapes) -> dict[str, Any]:
    width, in_channels, *patch = shapes["patch_embedding.weight"]
    embedder = "condition_embedder"
    image = shapes.get(f"{embedder}.image_embedder.norm1.weight")
    positions = shapes.get(f"{embedder}.image_embedder.pos_embed")
    key = shapes.get("blocks.0.attn2.add_k_proj.weight")
    return {
        "patch_size": tuple(patch),
        "num_attention_heads": width // HEAD_WIDTH,
        "attention_head_dim": HEAD_WIDTH,
        "in_channels": in_channels,
        "out_channels": shapes["proj_out.weight"][0] // math.prod(patch),
        "text_dim": shapes[f"{embedder}.text_embedder.linear_1.weight"][1],
        "freq_dim": shapes[f"{embedder}.time_embedder.linear_1.weight"][1],
        "ffn_dim": shapes["blocks.0.ffn.net.0.proj.weight"][0],
        "num_layers": count_blocks(shapes, "blocks."),
        "cross_attn_norm": "blocks.0.norm2.weight" in shapes,
        "image_dim": image[0] if image else None,
        "added_kv_proj_dim": key[1] if key else None,
        "pos_embed_seq_len": positions[1] if positions else None,
    }


def _vace_config(shapes: Shapes) -> dict[str, Any]:
    config = _transformer_config(shapes)
    layers, controlled = config["num_layers"], count_blocks(shapes, "vace_blocks.")
    return {
        **config,
        "vace_layers": list(range(0, layers, max(layers // controlled, 1))),
        "vace_in_channels": shapes["vace_patch_embedding.weight"][1],
    }


def _skyreels_config(shapes: Shapes) -> dict[str, Any]:
    has_fps = "fps_embedding.weight" in shapes
    return {**_transformer_config(shapes), "inject_sample_info": has_fps}


def _vae_config(shapes: Shapes) -> dict[str, Any]:
    """Shapes tell which of the published ones it is, and no other's configuration."""
    width, latents = shapes["encoder.conv_in.weight"][0], shapes["post_quant_conv.bias"]
    is_2_2 = (width, *latents) == (VAE_OF_2_2["base_dim"], VAE_OF_2_2["z_dim"])
    return VAE_OF_2_2 if is_2_2 else {}


PREFIXES = ("model.diffusion_model.", "diffusion_model.")

LAYOUTS = {
    "WanVACETransformer3DModel": Layout(
        title="Wan VACE transformer",
        family=FAMILY,
        component="transformer",
        mark="vace_blocks.0.self_attn.norm_q.weight",
        own_mark="vace_blocks.0.attn1.norm_q.weight",
        prefixes=PREFIXES,
        rename=_rename_transformer,
        config=_vace_config,
    ),
    "WanTransformer3DModel": Layout(
        title="Wan transformer",
        family=FAMILY,
        component="transformer",
        mark=".self_attn.norm_q.weight",
        own_mark="condition_embedder.text_embedder.",
        prefixes=PREFIXES,
        rename=_rename_transformer,
        config=_transformer_config,
    ),
    "SkyReelsV2Transformer3DModel": Layout(
        title="Wan transformer",
        family=FAMILY,
        component="transformer",
        mark=".self_attn.norm_q.weight",
        own_mark="condition_embedder.text_embedder.",
        prefixes=PREFIXES,
        rename=_rename_transformer,
        config=_skyreels_config,
    ),
    "AutoencoderKLWan": Layout(
        title="Wan VAE",
        family=FAMILY,
        component="vae",
        mark="decoder.middle.0.residual.",
        own_mark="decoder.mid_block.resnets.0.norm1.gamma",
        prefixes=("vae.",),
        rename=_rename_vae,
        config=_vae_config,
    ),
}
