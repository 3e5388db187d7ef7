"""Weights in 8 bits: what stands for a weight in a file, and how it becomes one again.

``int8``, as optimum-quanto and mmgp write it: ``X.weight._data`` and
``X.weight._scale`` instead of ``X.weight``, each row with its own scale.

``fp8``, as ComfyUI writes it: ``X.weight`` in eight-bit floats beside a scale of the
whole weight, ``X.scale_weight`` or ``X.weight_scale``. Without its scale it would be
read as another weight.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.loading.header import TensorInfo

if TYPE_CHECKING:
    import torch

DATA, SCALE = "._data", "._scale"

ACTIVATION_SCALES = (".input_scale", ".output_scale", ".scale_input")
"""Of the same modules; they say nothing where only weights are in 8 bits."""

FP8 = ("F8_E4M3", "F8_E5M2")
FP8_SCALES = (".scale_weight", ".weight_scale")
FP8_MARK = "scaled_fp8"
FP8_NOTE = ".comfy_quant"
"""Says in JSON that the weight is in 8 bits, which its precision says too."""


@dataclass(frozen=True)
class Weight:
    """What stands for one weight in a file."""

    info: TensorInfo
    """Its shape, and the precision that its values are stored in."""
    data: str
    """Name of the tensor that holds its values."""
    scale: str | None = None
    """Name of the tensor that they have to be multiplied by."""

    @property
    def is_int8(self) -> bool:
        return self.scale is not None and self.info.dtype == "I8"


def fold(tensors: Mapping[str, TensorInfo]) -> dict[str, Weight]:
    """The weights that ``tensors`` stand for, by their names. What belongs to none
    stays a weight of its own, under its own name."""
    weights = {}
    used: set[str] = {name for name in tensors if _is_mark(name)}
    for name, info in tensors.items():
        weight = _folded(name, info, tensors)
        if weight is None:
            continue
        weight_name, found = weight
        weights[weight_name] = found
        module = weight_name.removesuffix(".weight")
        beside = {module + end for end in (*ACTIVATION_SCALES, FP8_NOTE)}
        used |= {name, found.scale or name, *(beside & tensors.keys())}
    rest = {n: Weight(info, n) for n, info in tensors.items() if n not in used}
    return {**rest, **weights}


def _folded(
    name: str, info: TensorInfo, tensors: Mapping[str, TensorInfo]
) -> tuple[str, Weight] | None:
    if name.endswith(DATA) and info.dtype == "I8":
        plain = name.removesuffix(DATA)
        scale = plain + SCALE
        if _fits(tensors.get(scale), info, of_rows=True):
            return plain, Weight(info, name, scale)
    if name.endswith(".weight") and info.dtype in FP8:
        for end in FP8_SCALES:
            scale = name.removesuffix(".weight") + end
            if _fits(tensors.get(scale), info, of_rows=False):
                return name, Weight(info, name, scale)
    return None


def _fits(scale: TensorInfo | None, data: TensorInfo, *, of_rows: bool) -> bool:
    """One number per row, or, unless it has to be ``of_rows``, one for all."""
    if scale is None or not data.shape or not scale.dtype.startswith(("F", "BF")):
        return False
    count = math.prod(scale.shape)
    per_row = (data.shape[0], *(1 for _ in data.shape[1:]))
    return scale.shape == per_row or (count == 1 and not of_rows)


def _is_mark(name: str) -> bool:
    return name == FP8_MARK or name.endswith(f".{FP8_MARK}")


def has_scales(names: Iterable[str]) -> bool:
    """Whether eight-bit floats have scales, all of them, by the names of all tensors
    of a network."""
    return any(_is_mark(name) or name.endswith(FP8_SCALES) for name in names)


def dequantise(data: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The weight in float32; ``data`` (rows, ...), ``scale`` one number per row or one
    for all."""
    return data.float() * scale.float()


def quantise_modules(network: Any, names: list[str]) -> None:
    """Put quanto's linear layers, which compute from int8 weights, in the place of
    those whose weights have these names; ``network`` may be on the meta device."""
    import torch
    from optimum.quanto import qint8
    from optimum.quanto.nn import quantize_module

    for name in names:
        path, _, _ = name.rpartition(".weight")
        parent, _, child = path.rpartition(".")
        linear = network.get_submodule(path)
        layer = quantize_module(linear, weights=qint8)
        layer.name = path
        layer.input_scale = layer.output_scale = torch.ones(())
        setattr(network.get_submodule(parent), child, layer)
    # mmgp looks here for what is quantised already.
    network._quanto_map = {
        name.removesuffix(".weight"): {"weights": "qint8", "activations": "none"}
        for name in names
    }
