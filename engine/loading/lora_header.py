"""What a LoRA file changes: its layers by their names, without reading a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from engine.loading.header import TensorInfo
from engine.loading.layouts.layout import Layout
from engine.loading.layouts.table import LAYOUTS

DOWN = (
    "lora_A.weight",
    "lora_down.weight",
    "lora_A.default.weight",
    "lora.down.weight",
)
UP = ("lora_B.weight", "lora_up.weight", "lora_B.default.weight", "lora.up.weight")
OTHERS = ("alpha", "diff", "diff_b", "dora_scale")
PREFIXES = ("base_model.model.", "diffusion_model.", "transformer.", "model.")
KOHYA = "lora_unet_"
"""Before names in which dots are underscores, so that they can't be told apart."""

FAMILY_MARKS = {
    "wan": (".self_attn.", ".cross_attn.", "blocks_0_self_attn", "vace_blocks."),
    "hyvideo": ("double_blocks", "single_blocks", "single_transformer_blocks"),
    "ltx_video": ("transformer_blocks.", "patchify_proj"),
}
"""Parts of names, in the order in which they tell a family."""

WAN_OWN_MARKS = (".attn1.", ".ffn.net.")
"""In diffusers' names, where LTX Video has them below ``transformer_blocks``."""


@dataclass(frozen=True)
class LoraHeader:
    layers: Mapping[str, tuple[int, int]]
    """Name of each changed layer without its prefix → (outputs, inputs)."""
    ranks: tuple[int, ...]
    prefix: str
    incomplete: tuple[str, ...]
    """Layers of which the file has only half."""
    unknown: tuple[str, ...]
    """Tensors that belong to no LoRA."""

    @property
    def family(self) -> str | None:
        """Whose layers these are."""
        names = [f"{name}." for name in self.layers]
        for family, marks in FAMILY_MARKS.items():
            if any(mark in name for name in names for mark in marks):
                return family
        has_own = any(mark in name for name in names for mark in WAN_OWN_MARKS)
        return "wan" if has_own else None


def read_lora(tensors: Mapping[str, TensorInfo]) -> LoraHeader:
    """Sort the tensors of a LoRA by the layers that they change."""
    halves: dict[str, dict[str, tuple[int, ...]]] = {}
    unknown = []
    prefixes = (KOHYA, *PREFIXES)
    prefix = next((p for p in prefixes if any(n.startswith(p) for n in tensors)), "")
    for name, info in tensors.items():
        part = _part(name)
        if part is None:
            unknown.append(name)
        elif part not in OTHERS:
            layer = name.removesuffix(part).rstrip(".").removeprefix(prefix)
            side = "down" if part in DOWN else "up"
            halves.setdefault(layer, {})[side] = info.shape
    layers, ranks, incomplete = {}, set(), []
    for layer, found in halves.items():
        if "down" not in found or "up" not in found:
            incomplete.append(layer)
            continue
        down, up = found["down"], found["up"]
        if len(down) < 2 or len(up) < 2 or down[0] != up[1]:
            incomplete.append(layer)
            continue
        layers[layer] = (up[0], down[1])
        ranks.add(down[0])
    return LoraHeader(
        layers, tuple(sorted(ranks)), prefix, tuple(incomplete), tuple(unknown)
    )


def _part(name: str) -> str | None:
    ends = (*DOWN, *UP, *OTHERS)
    return next((end for end in ends if name.endswith(f".{end}")), None)


def unmatched_layers(
    lora: LoraHeader, kind: str, wanted: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """The layers of ``lora`` that the network of this class, whose weights have the
    shapes ``wanted``, doesn't have or has in another size."""
    layout = LAYOUTS.get(kind)
    unmatched = []
    for layer, shape in lora.layers.items():
        name = f"{layer}.weight"
        if wanted.get(name) == shape:
            continue
        found = _converted(layout, name, shape) if layout and layout.mark else {}
        if not found or any(wanted.get(new) != size for new, size in found.items()):
            unmatched.append(layer)
    return unmatched


def _converted(
    layout: Layout, name: str, shape: tuple[int, int]
) -> dict[str, tuple[int, int]]:
    """The weights of the network that this one of its authors' stands for."""
    try:
        sources = layout.rename({name: shape})
    except (KeyError, ValueError, RuntimeError):
        return {}
    return {
        new: (sum(piece.stop - piece.start for piece in pieces), shape[1])
        for new, pieces in sources.items()
    }
