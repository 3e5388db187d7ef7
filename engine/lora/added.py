"""Adding to parameters while they are used: biases, norms, convolutions and tables,
which neither peft nor mmgp changes. The parameters themselves stay as they are,
wherever a memory profile moves them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Strength = Callable[[int], float]
"""Number of a LoRA → its multiplier now."""


class Added:
    """What is added to parameters of one network, which has no other layers yet;
    ``remove`` takes it off."""

    def __init__(self, network: Any, strength: Strength) -> None:
        self._modules = dict(network.named_modules())
        self._strength = strength
        self._changes: dict[Any, dict[str, list[tuple[int, Tensor]]]] = {}
        self._classes: dict[Any, type] = {}

    def add(self, lora: int, parameters: dict[str, Tensor]) -> None:
        """What LoRA number ``lora`` adds to parameters, by their names."""
        for name, change in parameters.items():
            path, _, own = name.rpartition(".")
            module = self._modules[path]
            changes = self._changes.setdefault(module, {})
            changes.setdefault(own, []).append((lora, change))

    def put_on(self) -> None:
        """Let the modules see their parameters with what is added."""
        for module, changes in self._changes.items():
            kind = type(module)
            seen = {own: self._property(own, added) for own, added in changes.items()}
            self._classes[module] = kind
            module.__class__ = type(kind.__name__, (kind,), seen)

    def remove(self) -> None:
        """Let the modules be as they were."""
        for module, kind in self._classes.items():
            module.__class__ = kind
        self._classes.clear()
        self._changes.clear()

    def _property(self, own: str, added: list[tuple[int, Tensor]]) -> property:
        def changed(module: Any) -> Tensor:
            parameter: Tensor = module._parameters[own]
            total = parameter
            for index, (lora, change) in enumerate(added):
                strength = self._strength(lora)
                if not strength:
                    continue
                here = change.to(parameter.device)
                added[index] = (lora, here)
                total = total.float() + strength * here
            return total if total is parameter else total.to(parameter.dtype)

        return property(changed)
