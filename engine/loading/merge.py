"""Adding a LoRA to a network for good, while it is loaded.

For checkpoints that are published as a base and a LoRA that makes them another model,
such as a distilled one. W + B·A, each scaled as the file says
(https://arxiv.org/abs/2106.09685).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UnreadableFile
from engine.loading.interrupt import check_load

if TYPE_CHECKING:
    import torch

DOWN = (".lora_A.weight", ".lora_down.weight")
UP = (".lora_B.weight", ".lora_up.weight")
ALPHA = ".alpha"
PREFIXES = ("diffusion_model.", "transformer.", "model.")


@dataclass
class Change:
    """Of one layer: ``up @ down * scale``."""

    down: torch.Tensor
    up: torch.Tensor
    scale: float


def merge_lora(network: Any, file: Path, renames: Mapping[str, str]) -> None:
    """Add the LoRA in ``file`` to the linear layers of ``network``. Those in 8 bits
    stay so, with scales of their own anew.

    ``renames`` replaces parts of the file's names by the network's. Raises
    ``UnreadableFile`` when a tensor has no layer or doesn't fit it; nothing is changed
    then.
    """
    changes = _read_changes(file, renames)
    layers = dict(network.named_modules())
    for name, change in changes.items():
        layer = layers.get(name)
        if layer is None or not hasattr(layer, "in_features"):
            raise UnreadableFile(f"{file} has {name}, which the model doesn't know")
        shape = (change.up.shape[0], change.down.shape[1])
        if shape != (layer.out_features, layer.in_features):
            raise UnreadableFile(
                f"{file} has {name} of shape {shape} instead of "
                f"{(layer.out_features, layer.in_features)}"
            )
    for name, change in changes.items():
        check_load()
        _add(layers[name], change)


def _read_changes(file: Path, renames: Mapping[str, str]) -> dict[str, Change]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise UnreadableFile(f"can't load {file}: {error}. Get it again") from error
    layers: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        part = next((end for end in (*DOWN, *UP, ALPHA) if name.endswith(end)), None)
        if part is None:
            raise UnreadableFile(f"{file} isn't a LoRA: it has {name}")
        kind = "down" if part in DOWN else "up" if part in UP else "alpha"
        layers.setdefault(_own_name(name.removesuffix(part), renames), {})[kind] = (
            tensor
        )
    changes = {}
    for name, parts in layers.items():
        if "down" not in parts or "up" not in parts:
            raise UnreadableFile(f"{file} has only half of {name}")
        rank = parts["down"].shape[0]
        alpha = float(parts["alpha"]) if "alpha" in parts else rank
        changes[name] = Change(parts["down"], parts["up"], alpha / rank)
    if not changes:
        raise UnreadableFile(f"{file} is empty")
    return changes


def _own_name(name: str, renames: Mapping[str, str]) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    for old, new in renames.items():
        name = name.replace(old, new)
    return name


def _add(layer: Any, change: Change) -> None:
    import torch

    difference = change.up.float() @ change.down.float() * change.scale
    weight = layer.weight
    if hasattr(weight, "dequantize") and hasattr(weight, "qtype"):
        whole = weight.dequantize().float() + difference
        changed = _quantised(whole.to(weight.dtype), weight.qtype)
    else:
        changed = (weight.float() + difference).to(weight.dtype)
    layer.weight = torch.nn.Parameter(changed, requires_grad=False)


def _quantised(weight: torch.Tensor, qtype: Any) -> torch.Tensor:
    from optimum.quanto import AbsmaxOptimizer, quantize_weight

    scale = AbsmaxOptimizer()(weight, qtype, 0)
    made: torch.Tensor = quantize_weight(weight, qtype, 0, scale)
    return made
