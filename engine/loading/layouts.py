"""How each network's weights are named in single files: whose names they are, which of
diffusers' converters renames them, and what their shapes say of the network's size.

Converters only see names and shapes here. What they return tells for each tensor of
the network the one in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Shapes = Mapping[str, tuple[int, ...]]
"""Name in the file → shape."""

Names = dict[str, str]
"""Name in the network → name in the file."""


@dataclass(frozen=True)
class Layout:
    """What is known of the single files of one class."""

    title: str
    mark: str
    """A name, or a part of one, that every such file has."""
    prefixes: tuple[str, ...]
    """Before all of its names, when the file holds other networks too."""
    rename: Callable[[Shapes], Names]
    config: Callable[[Shapes], dict[str, Any]]
    """From shapes by the network's own names."""


def layout_of(kind: str) -> Layout | None:
    """The layout of the class called ``kind``."""
    return LAYOUTS.get(kind)


def own_names(layout: Layout, names: list[str]) -> Names:
    """Those of ``names`` that are of this network, without their prefix → as they are
    in the file. A file without prefixes holds one network."""
    for prefix in layout.prefixes:
        own = {n.removeprefix(prefix): n for n in names if n.startswith(prefix)}
        if own:
            return own
    foreign = tuple(prefix for each in LAYOUTS.values() for prefix in each.prefixes)
    return {name: name for name in names if not name.startswith(foreign)}


def recognise(names: list[str]) -> list[str]:
    """Titles of the networks that a file with these names holds."""
    titles = [title for title, mark in OTHERS.items() if _has(names, mark)]
    known = [each.title for each in LAYOUTS.values() if _has(names, each.mark)]
    return known + titles


def _has(names: list[str], mark: str) -> bool:
    return any(mark in name for name in names)


def _keep(shapes: Shapes) -> Names:
    return {name: name for name in shapes}


def _convert(converter: str, shapes: Shapes) -> Names:
    """Run one of diffusers' converters on tensors without content."""
    import torch
    from diffusers.loaders import single_file_utils

    tensors = {
        name: torch.empty(shape, device="meta") for name, shape in shapes.items()
    }
    names = {id(tensor): name for name, tensor in tensors.items()}
    kept = list(tensors.values())  # the converter empties the dictionary
    converted = getattr(single_file_utils, converter)(tensors)
    del kept
    return {new: names[id(tensor)] for new, tensor in converted.items()}


def _rename_ltx_transformer(shapes: Shapes) -> Names:
    return _convert("convert_ltx_transformer_checkpoint_to_diffusers", shapes)


def _rename_ltx_vae(shapes: Shapes) -> Names:
    if "decoder.up_blocks.0.res_blocks.0.conv1.conv.weight" not in shapes:
        return _keep(shapes)  # diffusers' own names
    shapes = dict(shapes)
    # The converter tells 0.9.5 and later from the versions before by the width of the
    # published models; the number of the encoder's blocks tells it at any width.
    is_recent = not any(n.startswith("encoder.down_blocks.9.") for n in shapes)
    width = shapes["encoder.conv_out.conv.weight"]
    width = (width[0], 2048 if is_recent else 512, *width[2:])
    shapes["encoder.conv_out.conv.weight"] = width
    prefixed = {f"vae.{name}": shape for name, shape in shapes.items()}
    names = _convert("convert_ltx_vae_checkpoint_to_diffusers", prefixed)
    return {new: name.removeprefix("vae.") for new, name in names.items()}


def _rename_t5(shapes: Shapes) -> Names:
    """One embedding has two names; files have one of them or both."""
    names = _keep({n: s for n, s in shapes.items() if not n.startswith("decoder.")})
    both = ("shared.weight", "encoder.embed_tokens.weight")
    found = next((name for name in both if name in names), None)
    if found is not None:
        names.update(dict.fromkeys(both, found))
    return names


def _ltx_transformer_config(shapes: Shapes) -> dict[str, Any]:
    width, in_channels = shapes["proj_in.weight"]
    heads = 32  # in every published size
    return {
        "in_channels": in_channels,
        "out_channels": shapes["proj_out.weight"][0],
        "num_attention_heads": heads,
        "attention_head_dim": width // heads,
        "cross_attention_dim": shapes["transformer_blocks.0.attn2.to_k.weight"][1],
        "caption_channels": shapes["caption_projection.linear_1.weight"][1],
        "num_layers": _count(shapes, "transformer_blocks."),
    }


def _ltx_upsampler_config(shapes: Shapes) -> dict[str, Any]:
    mid_channels, in_channels, *kernel = shapes["initial_conv.weight"]
    grown, _, *upsampler = shapes["upsampler.0.weight"]
    return {
        "in_channels": in_channels,
        "mid_channels": mid_channels,
        "num_blocks_per_stage": _count(shapes, "res_blocks."),
        "dims": len(kernel),
        "spatial_upsample": grown != 2 * mid_channels,
        "temporal_upsample": len(upsampler) == 3,
    }


def _t5_config(shapes: Shapes) -> dict[str, Any]:
    block = "encoder.block.0.layer."
    bias = f"{block}0.SelfAttention.relative_attention_bias.weight"
    buckets, heads = shapes[bias]
    vocab_size, d_model = shapes["shared.weight"]
    is_gated = f"{block}1.DenseReluDense.wi_0.weight" in shapes
    wi = f"{block}1.DenseReluDense.{'wi_0' if is_gated else 'wi'}.weight"
    return {
        "vocab_size": vocab_size,
        "d_model": d_model,
        "d_kv": shapes[f"{block}0.SelfAttention.q.weight"][0] // heads,
        "d_ff": shapes[wi][0],
        "num_layers": _count(shapes, "encoder.block."),
        "num_heads": heads,
        "relative_attention_num_buckets": buckets,
        "feed_forward_proj": "gated-gelu" if is_gated else "relu",
    }


def _nothing(_shapes: Shapes) -> dict[str, Any]:
    """Its shapes don't tell all; the model's row has its configuration."""
    return {}


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbered blocks there are below ``prefix``."""
    numbers = {
        name.removeprefix(prefix).split(".")[0]
        for name in shapes
        if name.startswith(prefix)
    }
    return len(numbers)


LAYOUTS = {
    "LTXVideoTransformer3DModel": Layout(
        title="LTX transformer",
        mark="transformer_blocks.0.attn2.q_norm.weight",
        prefixes=("model.diffusion_model.", "diffusion_model."),
        rename=_rename_ltx_transformer,
        config=_ltx_transformer_config,
    ),
    "AutoencoderKLLTXVideo": Layout(
        title="LTX VAE",
        mark="per_channel_statistics.mean-of-means",
        prefixes=("vae.",),
        rename=_rename_ltx_vae,
        config=_nothing,
    ),
    "LTXLatentUpsamplerModel": Layout(
        title="LTX latent upsampler",
        mark="post_upsample_res_blocks.0.conv1.weight",
        prefixes=(),
        rename=_keep,
        config=_ltx_upsampler_config,
    ),
    "T5EncoderModel": Layout(
        title="T5 text encoder",
        mark="encoder.block.0.layer.0.SelfAttention.q.weight",
        prefixes=("text_encoders.t5xxl.transformer.",),
        rename=_rename_t5,
        config=_t5_config,
    ),
}
"""By the name of the class."""

OTHERS = {
    "Wan transformer": "blocks.0.self_attn.norm_q.weight",
    "Wan transformer in diffusers layout": "condition_embedder.text_embedder.",
    "Wan VAE": "decoder.middle.0.residual.",
    "Wan VAE in diffusers layout": "decoder.mid_block.resnets.0.norm1.gamma",
    "Hunyuan Video transformer": "double_blocks.0.img_attn_qkv.",
    "LTX transformer in diffusers layout": "transformer_blocks.0.attn2.norm_q.weight",
    "UMT5 text encoder in its authors' names": "blocks.0.pos_embedding.",
    "LoRA": "lora_",
}
"""Networks that are told by a name of theirs, so that a wrong file can be named."""
