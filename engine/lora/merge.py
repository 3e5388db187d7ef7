"""Adding a LoRA to a network for good, while it is loaded.

For checkpoints that are published as a base and a LoRA that makes them another model,
such as a distilled one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.errors import UnreadableFile
from engine.loading.interrupt import check_load
from engine.lora.canonical import (
    Canonical,
    Kronecker,
    LowRank,
    Network,
    network_of,
    read_canonical,
)
from engine.lora.report import plan_for


def merge_lora(network: Any, file: Path, family: str) -> None:
    """Add the LoRA in ``file`` to the weights of ``network``, which is one of
    ``family``'s. Those in 8 bits stay so, with scales of their own anew.

    Raises ``UnreadableFile`` when not all of it fits; nothing is changed then.
    """
    own = network_of(network)
    described = Network(own.shapes, dict.fromkeys(own.linear, torch.float32))
    plan, report = plan_for(file, family, own.shapes, "only")
    if reason := report.refusal or report.warning():
        raise UnreadableFile(f"{reason}. Get {file} again")
    changes = read_canonical(file, plan, described, check_load)
    _refuse_dora(file, changes)
    for name, change in changes.layers.items():
        check_load()
        layer = network.get_submodule(name)
        _set(layer, "weight", _sum(layer.weight, _difference(change)))
    for name, added in changes.parameters.items():
        path, _, parameter = name.rpartition(".")
        module = network.get_submodule(path)
        _set(module, parameter, _sum(getattr(module, parameter), added))


def _refuse_dora(file: Path, changes: Canonical) -> None:
    for change in changes.layers.values():
        if isinstance(change, LowRank) and change.magnitude is not None:
            raise UnreadableFile(
                f"{file} is a DoRA, which can't become part of a model. Use a LoRA"
            )


def _difference(change: LowRank | Kronecker) -> Tensor:
    if isinstance(change, Kronecker):
        return torch.kron(change.first, change.second)
    return change.up @ change.down


def _sum(weight: Any, difference: Tensor) -> Tensor:
    if hasattr(weight, "dequantize") and hasattr(weight, "qtype"):
        whole = weight.dequantize().float() + difference
        return _quantised(whole.to(weight.dtype), weight.qtype)
    total: Tensor = (weight.float() + difference).to(weight.dtype)
    return total


def _quantised(weight: Tensor, qtype: Any) -> Tensor:
    from optimum.quanto import AbsmaxOptimizer, quantize_weight

    scale = AbsmaxOptimizer()(weight, qtype, 0)
    made: Tensor = quantize_weight(weight, qtype, 0, scale)
    return made


def _set(module: Any, parameter: str, value: Tensor) -> None:
    setattr(module, parameter, torch.nn.Parameter(value, requires_grad=False))
