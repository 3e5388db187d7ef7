"""The one form that every LoRA is brought into: changes of diffusers' layers, scales
folded in.

Methods: LoRA https://arxiv.org/abs/2106.09685, DoRA https://arxiv.org/abs/2402.09353,
LoHa https://arxiv.org/abs/2108.06098, LoKr https://arxiv.org/abs/2212.10650.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import UnreadableFile
from engine.lora.plan import Layer, Plan, weight_of


@dataclass(frozen=True)
class LowRank:
    """A linear layer's weight + ``up @ down``; with ``magnitude`` each row of the sum
    then gets that length."""

    down: Tensor  # (rank, in)
    up: Tensor  # (out, rank)
    magnitude: Tensor | None = None  # (out,)


@dataclass(frozen=True)
class Kronecker:
    """A linear layer's weight + the Kronecker product of two small matrices."""

    first: Tensor  # (a, b)
    second: Tensor  # (out / a, in / b)


@dataclass
class Canonical:
    """What one file changes in one network."""

    layers: dict[str, LowRank | Kronecker] = field(default_factory=dict)
    """By the names of linear layers."""
    parameters: dict[str, Tensor] = field(default_factory=dict)
    """What is added to biases, norms, convolutions and tables, by their names; of the
    parameter's shape."""


@dataclass(frozen=True)
class Network:
    """What has to be known of a network."""

    shapes: Mapping[str, tuple[int, ...]]
    """Of its parameters, by name."""
    linear: Mapping[str, torch.dtype]
    """Its linear layers, with the precision that they compute in."""


def network_of(module: Any) -> Network:
    """Of a diffusers network, without adapters."""
    shapes = {name: tuple(p.shape) for name, p in module.named_parameters()}
    linear = {
        name: layer.weight.dtype
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear)
    }
    return Network(shapes, linear)


def read_canonical(
    file: Path,
    plan: Plan,
    network: Network,
    check: Callable[[], None],
    device: str = "cpu",
) -> Canonical:
    """The changes that ``plan`` found in ``file``, in main memory. ``check`` is called
    between layers; ``device`` computes, much faster than a CPU where it is a GPU.

    Raises ``UnreadableFile`` for values that are no numbers.
    """
    from safetensors import SafetensorError, safe_open

    canonical = Canonical()
    try:
        with safe_open(file, framework="pt") as opened:
            for layer in plan.layers:
                check()
                parts = {
                    part: _read(opened, name, file, device)
                    for part, name in layer.parts.items()
                }
                _add(canonical, layer, parts, network)
    except (OSError, SafetensorError) as error:
        raise UnreadableFile(f"can't read {file}: {error}. Get it again") from error
    return canonical


def _read(opened: Any, name: str, file: Path, device: str) -> Tensor:
    tensor: Tensor = opened.get_tensor(name).to(device).float()
    # The extremes tell it in one pass: where there is one NaN, both are.
    if tensor.numel() and not all(map(math.isfinite, tensor.aminmax())):
        raise UnreadableFile(
            f"{file} is damaged: tensor {name} has values that are no numbers. Get the "
            "file again, or leave the LoRA out"
        )
    return tensor


def _add(
    canonical: Canonical, layer: Layer, parts: dict[str, Tensor], network: Network
) -> None:
    targets = layer.target.targets
    weights = [str(weight_of(each, network.shapes)) for each in targets]
    cut = _Cut([network.shapes[each][0] for each in weights], layer.target.is_swapped)
    bias = _bias(layer, parts)
    if bias is not None:
        for target, rows in zip(targets, cut(bias), strict=True):
            canonical.parameters[f"{target}.bias"] = rows.cpu()
    if all(target in network.linear for target in targets):
        for target, change in zip(targets, _linear(layer, parts, cut), strict=True):
            if change is not None:
                canonical.layers[target] = _to(network.linear[target], change)
        return
    whole = _whole(layer, parts)
    if whole is not None:
        for weight, rows in zip(weights, cut(whole), strict=True):
            shape = network.shapes[weight]
            canonical.parameters[weight] = rows.reshape(shape).cpu()


@dataclass(frozen=True)
class _Cut:
    """Divides the rows of what a file has as one among the network's layers."""

    sizes: list[int]
    is_swapped: bool

    @property
    def is_none(self) -> bool:
        return len(self.sizes) == 1 and not self.is_swapped

    def __call__(self, rows: Tensor) -> list[Tensor]:
        if self.is_none:
            return [rows]
        if self.is_swapped:
            half = len(rows) // 2
            rows = torch.cat([rows[half:], rows[:half]])
        return [piece.clone() for piece in torch.split(rows, self.sizes)]


def _bias(layer: Layer, parts: Mapping[str, Tensor]) -> Tensor | None:
    found = [parts["bias"].flatten()] if "bias" in parts else []
    if "up_bias" in parts:
        found.append(parts["up_bias"] * _scale(layer, parts, parts["down"].shape[0]))
    return sum(found[1:], found[0]) if found else None


def _scale(layer: Layer, parts: Mapping[str, Tensor], rank: int) -> float:
    scale = _scalar(parts)
    if "alpha" in parts:
        return scale * float(parts["alpha"].flatten()[0]) / rank
    return scale * layer.scale


def _scalar(parts: Mapping[str, Tensor]) -> float:
    """The number by which LyCORIS multiplies a change while it is trained, where a file
    has it apart from the change."""
    return float(parts["scalar"].flatten()[0]) if "scalar" in parts else 1.0


def _linear(
    layer: Layer, parts: Mapping[str, Tensor], cut: _Cut
) -> list[LowRank | Kronecker | None]:
    """The change of each of the network's linear layers."""
    change: LowRank | None = None
    for each in _low_ranks(layer, parts):
        change = each if change is None else _together(change, each)
    factors = _factors(layer, parts)
    if factors is not None:
        if change is None and cut.is_none:
            return [factors]
        made = _of_full(torch.kron(factors.first, factors.second))
        change = made if change is None else _together(change, made)
    if change is None:
        return [None] * len(cut.sizes)
    ups, magnitudes = cut(change.up), [None] * len(cut.sizes)
    if change.magnitude is not None:
        magnitudes = cut(change.magnitude)  # type: ignore[assignment]
    return [
        LowRank(change.down, up, magnitude)
        for up, magnitude in zip(ups, magnitudes, strict=True)
    ]


def _whole(layer: Layer, parts: Mapping[str, Tensor]) -> Tensor | None:
    """The change of a weight that isn't a linear layer's, its rows first."""
    found = [each.up @ each.down for each in _pairs(layer, parts)]
    factors = _factors(layer, parts)
    if factors is not None:
        found.append(torch.kron(factors.first, factors.second))
    if "weight" in parts:
        weight = parts["weight"]
        found = [each.reshape(weight.shape) for each in found] + [weight]
    return sum(found[1:], found[0]) if found else None


def _low_ranks(layer: Layer, parts: Mapping[str, Tensor]) -> Iterator[LowRank]:
    yield from _pairs(layer, parts)
    if "weight" in parts:
        yield _of_full(parts["weight"].flatten(1))


def _pairs(layer: Layer, parts: Mapping[str, Tensor]) -> Iterator[LowRank]:
    if "down" in parts:
        down, up = parts["down"].flatten(1), parts["up"].flatten(1)
        up = up * _scale(layer, parts, len(down))
        magnitude = parts.get("magnitude")
        yield LowRank(down, up, None if magnitude is None else magnitude.flatten())
    if "hada_w1_a" in parts:
        yield _of_hadamard(layer, parts)


def _of_hadamard(layer: Layer, parts: Mapping[str, Tensor]) -> LowRank:
    """The elementwise product of two products is one: each column of one left side
    times each of the other, and the rows of the right sides likewise."""
    a1, a2 = parts["hada_w1_a"], parts["hada_w2_a"]
    b1, b2 = parts["hada_w1_b"].flatten(1), parts["hada_w2_b"].flatten(1)
    scale = _scale(layer, parts, len(b1))
    rank = len(b1) * len(b2)
    if rank >= min(len(a1), b1.shape[1]):
        return _of_full((a1 @ b1) * (a2 @ b2) * scale)
    up = (a1[:, :, None] * a2[:, None, :]).reshape(len(a1), rank)
    down = (b1[:, None, :] * b2[None, :, :]).reshape(rank, b1.shape[1])
    return LowRank(down, up * scale)


def _factors(layer: Layer, parts: Mapping[str, Tensor]) -> Kronecker | None:
    if not any(part.startswith("lokr_") for part in parts):
        return None
    sides, ranks = [], []
    for side in ("lokr_w1", "lokr_w2"):
        if side in parts:
            sides.append(parts[side].flatten(1))
        else:
            right = parts[f"{side}_b"].flatten(1)
            sides.append(parts[f"{side}_a"] @ right)
            ranks.append(len(right))
    # With both sides whole there is no rank to be scaled by.
    plain = _scalar(parts) * layer.scale
    scale = _scale(layer, parts, ranks[-1]) if ranks else plain
    return Kronecker(sides[0] * scale, sides[1])


def _of_full(weight: Tensor) -> LowRank:
    rows, columns = weight.shape
    if rows <= columns:
        return LowRank(weight, torch.eye(rows, device=weight.device))
    return LowRank(torch.eye(columns, device=weight.device), weight)


def _together(one: LowRank, other: LowRank) -> LowRank:
    down, up = torch.cat([one.down, other.down]), torch.cat([one.up, other.up], 1)
    return LowRank(down, up, one.magnitude)


def _to(dtype: torch.dtype, change: LowRank | Kronecker) -> LowRank | Kronecker:
    def kept(tensor: Tensor) -> Tensor:
        return tensor.to(dtype).contiguous().cpu()

    if isinstance(change, Kronecker):
        return Kronecker(kept(change.first), kept(change.second))
    magnitude = change.magnitude
    return LowRank(
        kept(change.down),
        kept(change.up),
        None if magnitude is None else kept(magnitude),
    )
