"""What the names of tensors in LoRA files say: which layer they change and how. Needs
no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

MATRICES = {
    "down": ("lora_A", "lora_down", "lora.down", "lora.A", "lora_linear_layer.down"),
    "up": ("lora_B", "lora_up", "lora.up", "lora.B", "lora_linear_layer.up"),
    "mid": ("lora_mid",),
    "magnitude": ("lora_magnitude_vector",),
}
"""Part → its names before ``.weight``, an adapter's name or nothing."""

ENDS = {
    ".alpha": "alpha",
    ".lora_alpha": "alpha",
    ".scalar": "scalar",
    ".dora_scale": "magnitude",
    ".lora_B.bias": "up_bias",
    ".lora_up.bias": "up_bias",
    ".diff": "weight",
    ".w_norm": "weight",
    ".diff_b": "bias",
    ".b_norm": "bias",
    ".diff_m": "modulation",
    **{f".hada_{x}": f"hada_{x}" for x in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{
        f".lokr_{x}": f"lokr_{x}"
        for x in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")
    },
    **{
        f".{name}{end}": part
        for part, names in MATRICES.items()
        for name in names
        for end in (".weight", ".default", "")
    },
}
"""End of a tensor's name → part."""

OF_ADAPTER = re.compile(
    r"(\.(?:lora_[AB]|lora_magnitude_vector))\.[^.]+(\.(?:weight|bias))$"
)
"""Names that have an adapter's own name before ``.weight``."""

LONGEST_FIRST = sorted(ENDS, key=len, reverse=True)

PREFIXES = (
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "pipe.dit2.",
    "pipe.dit.",
    "pipe.vace.",
    "module.",
    "transformer_2.",
    "transformer.",
    "unet.",
    "dit.",
    "model.",
)
FLAT_PREFIXES = (
    "lora_unet__",
    "lora_unet_",
    "lora_dit_",
    "lora_transformer_",
    "lycoris_",
    "Hunyuan_video_I2V_lora_",
)
OF_SECOND = ("transformer_2.", "pipe.dit2.")
"""Prefixes of the layers of a second transformer."""

ENCODERS = ("lora_te", "text_encoder", "text_model.", "te1.", "te2.", "conditioner.")
"""Before the names of text encoders' layers, which no LoRA changes here."""


@dataclass(frozen=True)
class Place:
    """Where a tensor belongs."""

    layer: str
    """As the file calls it, without prefixes; empty for a tensor that isn't a
    LoRA's."""
    part: str
    is_flat: bool = False
    """Whether the layer's name has underscores for dots."""
    in_second: bool = False
    """Whether it is for the second transformer alone."""
    in_encoder: bool = False
    style: str = ""
    """Whose way of naming it is."""


def place_of(name: str) -> Place:
    """Where the tensor called ``name`` belongs."""
    layer, part = _without_part(name)
    if name.startswith(ENCODERS):
        return Place(layer, part, in_encoder=True)
    for prefix in FLAT_PREFIXES:
        if layer.startswith(prefix):
            layer = layer.removeprefix(prefix)
            return Place(layer, part, is_flat=True, style="kohya")
    in_second, style = False, "bare names"
    while prefix := next((each for each in PREFIXES if layer.startswith(each)), ""):
        layer = layer.removeprefix(prefix)
        in_second |= prefix in OF_SECOND
        style = STYLES.get(prefix, style)
    return Place(layer, part, in_second=in_second, style=style)


STYLES = {
    "base_model.model.": "PEFT",
    "model.diffusion_model.": "ComfyUI",
    "diffusion_model.": "ComfyUI",
    "pipe.dit2.": "DiffSynth",
    "pipe.dit.": "DiffSynth",
    "pipe.vace.": "DiffSynth",
    "transformer_2.": "diffusers",
    "transformer.": "diffusers",
    "unet.": "diffusers",
}


def _without_part(name: str) -> tuple[str, str]:
    name = OF_ADAPTER.sub(r"\1\2", name)
    for end in LONGEST_FIRST:
        if name.endswith(end):
            return name.removesuffix(end), ENDS[end]
    return name, ""
