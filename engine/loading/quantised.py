"""8-bit weights as optimum-quanto and mmgp write them: ``X.weight._data`` (int8) and
``X.weight._scale`` instead of ``X.weight``, each row with its own scale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.loading.header import TensorInfo

if TYPE_CHECKING:
    import torch

DATA, SCALE = "._data", "._scale"

ACTIVATION_SCALES = (".input_scale", ".output_scale")
"""Of the same modules; they stay at 1 where only weights are in 8 bits."""


def fold(tensors: Mapping[str, TensorInfo]) -> tuple[dict[str, TensorInfo], set[str]]:
    """``tensors`` as they would be without quantisation, and the names of those that
    are quantised."""
    quantised = {name.removesuffix(DATA) for name in tensors if name.endswith(DATA)}
    modules = tuple(name.removesuffix(".weight") for name in quantised)
    parts = {name + part for name in quantised for part in (DATA, SCALE)}
    parts |= {module + scale for module in modules for scale in ACTIVATION_SCALES}
    plain = {name: info for name, info in tensors.items() if name not in parts}
    for name in quantised:
        if name + SCALE in tensors:  # or it counts as missing
            scale = tensors[name + SCALE]
            plain[name] = TensorInfo(scale.dtype, tensors[name + DATA].shape)
    return plain, quantised


def dequantise(data: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The weight in float32; ``data`` int8 (rows, columns), ``scale`` (rows, 1)."""
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
