"""LoRAs by peft: its layers take the place of the network's linear layers, around
them, and go again. For models that no memory profile moves."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoKrConfig, LoraConfig
from peft.tuners.lokr.layer import Linear as LoKrLinear
from peft.tuners.lora.layer import Linear as LoraLinear

from engine.lora.canonical import Canonical, Kronecker, LowRank


class PeftEngine:
    """The LoRAs on the linear layers of one network, which computes on ``device``."""

    def __init__(self, network: Any, device: str) -> None:
        self._network, self._device = network, device
        self._originals: dict[str, Any] = {}
        self._wrappers: list[Any] = []

    def add(self, lora: int, changes: Canonical) -> None:
        """Put the changes of LoRA number ``lora`` on, without effect yet."""
        # New layers draw numbers, which may not change those of others.
        with torch.random.fork_rng(devices=[]):
            for name, change in changes.layers.items():
                self._wrap(name, str(lora), change)

    def put_on(self) -> None:
        """All have been added."""

    def set_strengths(self, strengths: dict[int, float]) -> None:
        """The multiplier of each LoRA from now on; 0 leaves it out."""
        acting = {str(lora): value for lora, value in strengths.items() if value}
        for wrapper in self._wrappers:
            here = [name for name in acting if name in wrapper.scaling]
            for name in here:
                wrapper.set_scale(name, acting[name])
            wrapper.set_adapter(here, inference_mode=True)

    def remove(self) -> None:
        """Put the network's own layers back."""
        for name, original in self._originals.items():
            self._put(name, original)
        self._originals.clear()
        self._wrappers.clear()

    def _wrap(self, name: str, adapter: str, change: LowRank | Kronecker) -> None:
        layer = self._network.get_submodule(name)
        kind = LoraLinear if isinstance(change, LowRank) else LoKrLinear
        wrapper = _of_kind(layer, kind)
        self._originals.setdefault(name, layer)
        if isinstance(change, LowRank):
            made = _low_rank(wrapper, layer, adapter, change, self._device)
        else:
            made = _kronecker(wrapper, layer, adapter, change, self._device)
        if wrapper is None:
            made.eval()
            self._put(name, made)
            self._wrappers.append(made)

    def _put(self, name: str, layer: Any) -> None:
        parent, _, own = name.rpartition(".")
        setattr(self._network.get_submodule(parent), own, layer)


def _of_kind(layer: Any, kind: type) -> Any:
    """The wrapper of this kind that the layer has already, if any."""
    while not isinstance(layer, kind):
        layer = getattr(layer, "base_layer", None)
        if layer is None:
            return None
    return layer


def _low_rank(
    wrapper: Any, layer: Any, adapter: str, change: LowRank, device: str
) -> Any:
    rank = len(change.down)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        init_lora_weights=False,
        inference_mode=True,
        use_dora=change.magnitude is not None,
    )
    if wrapper is None:
        wrapper = LoraLinear(layer, adapter, config, r=rank, lora_alpha=rank)
    else:
        wrapper.update_layer(adapter, rank, lora_alpha=rank, config=config)
    _set(wrapper.lora_A[adapter], change.down, device)
    _set(wrapper.lora_B[adapter], change.up, device)
    if change.magnitude is not None:
        _set(wrapper.lora_magnitude_vector[adapter], change.magnitude, device)
    return wrapper


def _kronecker(
    wrapper: Any, layer: Any, adapter: str, change: Kronecker, device: str
) -> Any:
    config = LoKrConfig(r=1, alpha=1, init_weights=False, inference_mode=True)
    if wrapper is None:
        wrapper = LoKrLinear(layer, adapter, config, r=1, alpha=1)
    else:
        wrapper.update_layer(adapter, 1, 1, config=config)
    # peft makes factors of its own sizes, maybe in two; here are whole ones.
    halves = (wrapper.lokr_w1_a, wrapper.lokr_w1_b, wrapper.lokr_w2_a)
    for parts in (*halves, wrapper.lokr_w2_b):
        if adapter in parts:
            del parts[adapter]
    for parts, tensor in (
        (wrapper.lokr_w1, change.first),
        (wrapper.lokr_w2, change.second),
    ):
        parts[adapter] = torch.nn.Parameter(tensor.to(device), requires_grad=False)
    return wrapper


def _set(module: Any, weight: torch.Tensor, device: str) -> None:
    placed = weight.to(device, module.weight.dtype)
    module.weight = torch.nn.Parameter(placed, requires_grad=False)
