"""LoRAs as part of the weights, while a job lasts: a step then takes as long as without
any.

Weights that lie on the GPU are kept aside and come back as the same tensors, or as
copies from main memory where the GPU has no room for both. Weights that are streamed
stay as they are in main memory, and are changed each time they have come to the GPU.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from engine.loading.memory import free_memory
from engine.lora.canonical import Canonical, Kronecker, LowRank
from engine.lora.peft_engine import PeftEngine

SPARE_BYTES = 12 << 30
"""Of the GPU's memory, that a video's own numbers may need."""

Acting = list[tuple[float, LowRank | Kronecker]]
"""Changes of one layer, each with its multiplier."""


class MergedEngine:
    """The LoRAs on the linear layers of one network, which computes on ``device``; a
    ``streamer`` may hold some of its weights."""

    def __init__(self, network: Any, device: str, streamer: Any = None) -> None:
        self._network, self._device, self._streamer = network, device, streamer
        self._added: list[tuple[int, Canonical]] = []
        self._changes: dict[str, list[tuple[int, LowRank | Kronecker]]] = {}
        self._originals: dict[str, Tensor] = {}
        self._merged: dict[str, tuple[float, ...]] = {}
        """Name of a layer → the multipliers that its weight has in it."""
        self._room = 0
        """Bytes of the GPU that originals may take."""
        self._instead: PeftEngine | None = None

    def add(self, lora: int, changes: Canonical) -> None:
        """Take the changes of LoRA number ``lora`` in."""
        self._added.append((lora, changes))
        is_cuda = self._device.startswith("cuda")
        for name, change in changes.layers.items():
            ready = _pinned(change) if is_cuda and self._is_streamed(name) else change
            self._changes.setdefault(name, []).append((lora, ready))

    def put_on(self) -> None:
        """All have been added. Kinds that can't be merged are left to peft, with all
        others beside them."""
        if not all(self._can_merge(name) for name in self._changes):
            self._instead = PeftEngine(self._network, self._device)
            for lora, changes in self._added:
                self._instead.add(lora, changes)
        elif self._device.startswith("cuda"):
            self._room = free_memory(self._device) - SPARE_BYTES

    def set_strengths(self, strengths: dict[int, float]) -> None:
        """The multiplier of each LoRA from now on; 0 leaves it out."""
        if self._instead is not None:
            self._instead.set_strengths(strengths)
            return
        with torch.no_grad():
            for name, changes in self._changes.items():
                wanted = tuple(strengths.get(lora, 0.0) for lora, _ in changes)
                if wanted != self._merged.get(name, (0.0,) * len(wanted)):
                    self._merged[name] = wanted
                    acting = zip(wanted, (change for _, change in changes), strict=True)
                    self._merge(name, [each for each in acting if each[0]])

    def remove(self) -> None:
        """Put the network's own weights back."""
        if self._instead is not None:
            self._instead.remove()
        for name in self._merged:
            self._merge(name, [])
        for held in (self._originals, self._merged, self._changes, self._added):
            held.clear()

    def _can_merge(self, name: str) -> bool:
        weight = self._weight(name)
        is_plain = type(weight.data) is Tensor and weight.dtype.itemsize > 1
        return is_plain and not any(
            isinstance(change, LowRank) and change.magnitude is not None
            for _, change in self._changes[name]
        )

    def _merge(self, name: str, acting: Acting) -> None:
        """Give the layer its own weight, with what acts."""
        weight = self._weight(name)
        if self._is_streamed(name):
            change = partial(add_to, acting=acting) if acting else None
            self._streamer.set_change(weight, change)
            return
        if name not in self._originals:
            self._originals[name] = self._kept(weight.data)
        original = self._originals[name]
        if acting:
            weight.data = original.to(self._device, copy=True)
            add_to(weight.data, acting)
        else:
            weight.data = original.to(self._device)

    def _kept(self, weight: Tensor) -> Tensor:
        """The weight itself where there is room for another beside it, else a copy in
        main memory."""
        if not weight.is_cuda:
            return weight
        self._room -= weight.nbytes
        return weight if self._room >= 0 else weight.cpu()

    def _weight(self, name: str) -> Any:
        return self._network.get_submodule(name).weight

    def _is_streamed(self, name: str) -> bool:
        return self._streamer is not None and self._streamer.streams(self._weight(name))


def add_to(weight: Tensor, acting: Acting) -> None:
    """Add the changes to ``weight`` (out, in), in place, rounded once."""
    kroneckers = [(by, c) for by, c in acting if isinstance(c, Kronecker)]
    low = [(by, c) for by, c in acting if isinstance(c, LowRank)]
    total = weight.float() if kroneckers else weight
    for multiplier, change in kroneckers:
        first, second = (_beside(total, part) for part in (change.first, change.second))
        total.add_(torch.kron(first, second), alpha=multiplier)
    if low:
        up = torch.cat([_beside(total, c.up) * by for by, c in low], 1)
        down = torch.cat([_beside(total, c.down) for _, c in low])
        total.addmm_(up, down)
    if total is not weight:
        weight.copy_(total)


def _beside(total: Tensor, part: Tensor) -> Tensor:
    return part.to(total.device, total.dtype, non_blocking=True)


def _pinned(change: LowRank | Kronecker) -> LowRank | Kronecker:
    """In memory from which the GPU copies without making the program wait."""
    if isinstance(change, Kronecker):
        first, second = change.first.pin_memory(), change.second.pin_memory()
        return replace(change, first=first, second=second)
    return replace(change, up=change.up.pin_memory(), down=change.down.pin_memory())
