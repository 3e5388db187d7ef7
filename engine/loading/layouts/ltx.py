"""LTX Video's networks. Lightricks' names: https://github.com/Lightricks/LTX-Video."""

from __future__ import annotations

from typing import Any

from engine.loading.layouts.layout import (
    Layout,
    Shapes,
    Sources,
    convert,
    count_blocks,
    number_rows,
    whole,
)

FAMILY = "ltx_video"

HEADS = 32
"""Of the transformer, in every published size."""

RECENT_WIDTH, OLD_WIDTH = 2048, 512
"""Of the published VAEs' last encoder block, since 0.9.5 and before."""

RECENT_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 1024, 2048),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "decoder_block_out_channels": (256, 512, 1024),
    "layers_per_block": (4, 6, 6, 2, 2),
    "decoder_layers_per_block": (5, 5, 5, 5),
    "spatio_temporal_scaling": (True,) * 4,
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "decoder_inject_noise": (False,) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "upsample_residual": (True,) * 3,
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
    "decoder_causal": False,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
"""Published since 0.9.5. diffusers' defaults are those of 0.9.0."""


def _rename_transformer(shapes: Shapes) -> Sources:
    rows = number_rows(shapes)
    return convert("convert_ltx_transformer_checkpoint_to_diffusers", rows, shapes)


def _rename_vae(shapes: Shapes) -> Sources:
    rows = {f"vae.{name}": numbers for name, numbers in number_rows(shapes).items()}
    # The converter tells 0.9.5 and later from the versions before by the width of the
    # published models; the number of the encoder's blocks tells it at any width.
    is_recent = not any(n.startswith("encoder.down_blocks.9.") for n in shapes)
    name = "vae.encoder.conv_out.conv.weight"
    rows[name] = rows[name][:, None].expand(
        -1, RECENT_WIDTH if is_recent else OLD_WIDTH
    )
    return convert("convert_ltx_vae_checkpoint_to_diffusers", rows, shapes)


def _transformer_config(shapes: Shapes) -> dict[str, Any]:
    width, in_channels = shapes["proj_in.weight"]
    return {
        "in_channels": in_channels,
        "out_channels": shapes["proj_out.weight"][0],
        "num_attention_heads": HEADS,
        "attention_head_dim": width // HEADS,
        "cross_attention_dim": shapes["transformer_blocks.0.attn2.to_k.weight"][1],
        "caption_channels": shapes["caption_projection.linear_1.weight"][1],
        "num_layers": count_blocks(shapes, "transformer_blocks."),
    }


def _vae_config(shapes: Shapes) -> dict[str, Any]:
    """Shapes tell which of the published ones it is, and no other's configuration."""
    _, width, *_ = shapes["encoder.conv_out.conv.weight"]
    return RECENT_VAE if width == RECENT_WIDTH else {}


def _upsampler_config(shapes: Shapes) -> dict[str, Any]:
    mid_channels, in_channels, *kernel = shapes["initial_conv.weight"]
    grown, _, *upsampler = shapes["upsampler.0.weight"]
    return {
        "in_channels": in_channels,
        "mid_channels": mid_channels,
        "num_blocks_per_stage": count_blocks(shapes, "res_blocks."),
        "dims": len(kernel),
        "spatial_upsample": grown != 2 * mid_channels,
        "temporal_upsample": len(upsampler) == 3,
    }


LAYOUTS = {
    "LTXVideoTransformer3DModel": Layout(
        title="LTX transformer",
        family=FAMILY,
        component="transformer",
        mark=".attn2.q_norm.weight",
        own_mark=".attn2.norm_q.weight",
        prefixes=("model.diffusion_model.", "diffusion_model."),
        rename=_rename_transformer,
        config=_transformer_config,
    ),
    "AutoencoderKLLTXVideo": Layout(
        title="LTX VAE",
        family=FAMILY,
        component="vae",
        mark="per_channel_statistics.mean-of-means",
        own_mark="latents_mean",
        prefixes=("vae.",),
        rename=_rename_vae,
        config=_vae_config,
    ),
    "LTXLatentUpsamplerModel": Layout(
        title="LTX latent upsampler",
        family=FAMILY,
        component="latent_upsampler",
        mark="",
        own_mark="post_upsample_res_blocks.0.conv1.weight",
        rename=whole,
        config=_upsampler_config,
    ),
}
