"""LoRAs as part of the weights, while a job lasts: a step then takes as long as without
any. For weights that lie on a GPU as a whole.

The weights that were there are kept aside and come back as the same tensors, or as
copies from main memory where the GPU has no room for both.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.loading.memory import free_memory
from engine.lora.canonical import Canonical, Kronecker, LowRank
from engine.lora.peft_engine import PeftEngine

SPARE_BYTES = 12 << 30
"""Of the GPU's memory, that a video's own numbers may need."""


class MergedEngine:
    """The LoRAs on the linear layers of one network."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self._added: list[tuple[int, Canonical]] = []
        self._changes: dict[str, list[tuple[int, LowRank | Kronecker]]] = {}
        self._originals: dict[str, Tensor] = {}
        self._merged: dict[str, tuple[float, ...]] = {}
        """Name of a layer → the multipliers that its weight has in it."""
        self._instead: PeftEngine | None = None

    def add(self, lora: int, changes: Canonical) -> None:
        """Take the changes of LoRA number ``lora`` in."""
        self._added.append((lora, changes))
        for name, change in changes.layers.items():
            self._changes.setdefault(name, []).append((lora, change))

    def put_on(self) -> None:
        """All have been added. Kinds that can't be merged are left to peft, with all
        others beside them."""
        if all(self._can_merge(name) for name in self._changes):
            return
        self._instead = PeftEngine(self._network)
        for lora, changes in self._added:
            self._instead.add(lora, changes)

    def set_strengths(self, strengths: dict[int, float]) -> None:
        """The multiplier of each LoRA from now on; 0 leaves it out."""
        if self._instead is not None:
            self._instead.set_strengths(strengths)
            return
        with torch.no_grad():
            for name, changes in self._changes.items():
                self._merge(name, changes, strengths)

    def remove(self) -> None:
        """Put the network's own weights back."""
        if self._instead is not None:
            self._instead.remove()
        for name, original in self._originals.items():
            weight = self._network.get_submodule(name).weight
            weight.data = original.to(weight.device)
        for held in (self._originals, self._merged, self._changes, self._added):
            held.clear()

    def _can_merge(self, name: str) -> bool:
        weight = self._network.get_submodule(name).weight
        is_plain = type(weight.data) is Tensor and weight.dtype.itemsize > 1
        return is_plain and not any(
            isinstance(change, LowRank) and change.magnitude is not None
            for _, change in self._changes[name]
        )

    def _merge(
        self,
        name: str,
        changes: list[tuple[int, LowRank | Kronecker]],
        strengths: dict[int, float],
    ) -> None:
        wanted = tuple(strengths.get(lora, 0.0) for lora, _ in changes)
        weight = self._network.get_submodule(name).weight
        none = (0.0,) * len(wanted)
        if wanted == self._merged.get(name, none):
            return
        original = self._originals.setdefault(name, _kept(weight.data))
        self._merged[name] = wanted
        if wanted == none:
            weight.data = original.to(weight.device)
            return
        total = original.to(weight.device, torch.float32, copy=True)
        for multiplier, (_, change) in zip(wanted, changes, strict=True):
            if multiplier:
                _add(total, change, multiplier)
        weight.data = total.to(weight.dtype)


def _kept(weight: Tensor) -> Tensor:
    """The weight itself where there is room for another beside it, else a copy in main
    memory."""
    if weight.is_cuda and free_memory(weight.device) - weight.nbytes < SPARE_BYTES:
        return weight.cpu()
    return weight


def _add(total: Tensor, change: LowRank | Kronecker, multiplier: float) -> None:
    if isinstance(change, Kronecker):
        product = torch.kron(change.first.float(), change.second.float())
        total.add_(product.to(total.device), alpha=multiplier)
        return
    up, down = (part.to(total.device).float() for part in (change.up, change.down))
    total.addmm_(up, down, alpha=multiplier)
