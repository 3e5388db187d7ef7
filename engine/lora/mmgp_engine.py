"""LoRAs by mmgp, for models under one of its memory profiles: they are streamed to the
GPU with the layers that they change."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from engine.loading.offload import LoraSlots
from engine.lora.canonical import Canonical, LowRank


class MmgpEngine:
    """The LoRAs on the linear layers of one network."""

    def __init__(self, slots: LoraSlots, network: Any) -> None:
        self._slots = slots
        self._network = network
        self._files: list[tuple[int, dict[str, Tensor]]] = []

    def add(self, lora: int, changes: Canonical) -> None:
        """Take the changes of LoRA number ``lora`` in."""
        self._files.append((lora, in_mmgps_names(changes)))

    def put_on(self) -> None:
        """Put on all that was added, without effect yet."""
        used = [(str(lora), tensors) for lora, tensors in self._files if tensors]
        self._slots.load(self._network, used)
        self._files.clear()

    def set_strengths(self, strengths: dict[int, float]) -> None:
        """The multiplier of each LoRA from now on; 0 leaves it out."""
        self._slots.set_strengths(
            self._network, {str(lora): value for lora, value in strengths.items()}
        )

    def remove(self) -> None:
        """Take all off."""
        self._slots.unload(self._network)


def in_mmgps_names(changes: Canonical) -> dict[str, Tensor]:
    """The changes of linear layers as a file that mmgp reads has them."""
    tensors = {}
    for name, change in changes.layers.items():
        if isinstance(change, LowRank):
            tensors[f"{name}.lora_A.weight"] = change.down
            tensors[f"{name}.lora_B.weight"] = change.up
            if change.magnitude is not None:
                tensors[f"{name}.dora_scale"] = change.magnitude[:, None]
        else:
            tensors[f"{name}.lokr_w1"] = change.first
            tensors[f"{name}.lokr_w2"] = change.second
    return tensors
