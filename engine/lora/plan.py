"""Which of a file's tensors change which layers of a network, by the file's header
alone. Needs no torch."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.errors import UnreadableFile
from engine.loading.header import Header, TensorInfo
from engine.loading.stored import UNREADABLE
from engine.lora.names import Names, Row
from engine.lora.parts import Place, place_of

Which = Literal["any", "only", "first", "second"]
"""A model's network: one of unknown place, its only one, or one of two."""

_OTHER = {"first": False, "second": True}

Shapes = Mapping[str, tuple[int, ...]]
"""Of a network's parameters, by their names."""


@dataclass(frozen=True)
class Layer:
    """One layer of a file: its parts, and what they change in the network."""

    name: str
    parts: Mapping[str, str]
    """Part → name of its tensor."""
    target: Row
    scale: float = 1.0
    """What ``up`` is multiplied by where the file has no alpha for the layer."""


@dataclass
class Plan:
    """What a file has for one network."""

    layers: list[Layer] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    """Tensors of layers that the network doesn't have."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Tensors that can't be used → why."""
    for_other: list[str] = field(default_factory=list)
    """Tensors that are for the model's other transformer."""
    styles: set[str] = field(default_factory=set)
    taken: set[tuple[str, bool]] = field(default_factory=set)
    """Layers of the network that are changed, and whether of the second one."""

    @property
    def matched(self) -> list[str]:
        return [name for layer in self.layers for name in layer.parts.values()]


KINDS = {
    "LoRA": ("down", "up"),
    "LoHa": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
}
"""Kind of change → the parts that it can't do without."""

NUMBERS = ("alpha", "scalar")
"""Parts that scale all others."""

FACTORS = (
    ("down", "up"),
    *((f"{half}_b", f"{half}_a") for half in ("hada_w1", "hada_w2")),
    *((f"{side}_b", f"{side}_a") for side in ("lokr_w1", "lokr_w2")),
)
"""Parts that are multiplied: as many rows as the other has columns."""


def make_plan(
    header: Header,
    names: Names,
    shapes: Shapes | None = None,
    *,
    which: Which = "any",
    alphas: Alphas | None = None,
) -> Plan:
    """Match the tensors in ``header`` to the layers that ``names`` knows, and to the
    parameters of the network if their ``shapes`` are given.

    Names may say for which of two transformers a tensor is; ``which`` is the one.
    """
    plan = Plan()
    grouped: dict[Place, dict[str, str]] = defaultdict(dict)
    for name in header.tensors:
        place = place_of(name)
        if place.in_encoder:
            plan.dropped[name] = "it is for a text encoder"
            continue
        if not place.part:
            _sort_out(plan, name, place)
            continue
        layer = Place(place.layer, "", place.is_flat, place.in_second)
        taken = grouped[layer].setdefault(place.part, name)
        if taken != name:
            plan.dropped[name] = f"{taken} already says this of the same layer"
        plan.styles.add(place.style)
    has_second = any(place.in_second for place in grouped)
    for place, parts in grouped.items():
        if place.in_second and which == "only":
            reason = "it is for a second transformer, which the model doesn't have"
            plan.dropped |= dict.fromkeys(parts.values(), reason)
        elif has_second and which in _OTHER and place.in_second != _OTHER[which]:
            plan.for_other += parts.values()
        else:
            whole = header.tensors
            _match(plan, place, parts, whole, names, shapes, alphas or Alphas())
    return plan


def _sort_out(plan: Plan, name: str, place: Place) -> None:
    if name.endswith((".weight", ".bias", ".set_weight", ".reshape_weight")):
        plan.dropped[name] = "it is a whole weight, not a change of one"
    elif place.layer:
        plan.unmatched.append(name)


def _match(
    plan: Plan,
    place: Place,
    parts: dict[str, str],
    tensors: Mapping[str, TensorInfo],
    names: Names,
    shapes: Shapes | None,
    alphas: Alphas,
) -> None:
    layer = place.layer
    if "modulation" in parts:
        parts = {**parts, "weight": parts["modulation"]}
        del parts["modulation"]
        layer = f"{layer}_modulation" if place.is_flat else f"{layer}.modulation"
    target = _target(layer, names, shapes, is_flat=place.is_flat)
    if target is None:
        plan.unmatched += parts.values()
        return
    infos = {part: tensors[name] for part, name in parts.items()}
    problem = incomplete(infos) or misfit(infos, target, shapes)
    changed = {(each, place.in_second) for each in target.targets}
    if plan.taken & changed:
        problem = "another tensor in the file changes the same layer"
    if problem:
        plan.dropped |= dict.fromkeys(parts.values(), problem)
        return
    scale = alphas.scale(target.targets[0], place.layer, infos)
    plan.taken |= changed
    plan.layers.append(Layer(place.layer, parts, target, scale))


def _target(
    layer: str, names: Names, shapes: Shapes | None, *, is_flat: bool
) -> Row | None:
    """What the file's ``layer`` is in the network."""
    found = names.find(layer, is_flat=is_flat)
    if shapes is None:
        return found[0] if found else None
    for row in found:
        if all(weight_of(target, shapes) for target in row.targets):
            return row
    if not is_flat and weight_of(layer, shapes):
        return Row(layer, (layer,))
    return None


def weight_of(target: str, shapes: Collection[str]) -> str | None:
    """The parameter that a target's ``weight`` is, if the network has it."""
    if target in shapes:
        return target
    weight = f"{target}.weight"
    return weight if weight in shapes else None


def incomplete(infos: Mapping[str, Any]) -> str:
    """Why these parts make no change, in words; empty when they do."""
    if {"mid", "hada_t1", "hada_t2", "lokr_t2"} & infos.keys():
        return "changes with a core tensor (Tucker) aren't supported"
    for kind, needed in KINDS.items():
        present = [part for part in needed if part in infos]
        if present and len(present) < len(needed):
            missing = ", ".join(part for part in needed if part not in infos)
            return f"its {kind} is incomplete: {missing} is missing"
    if any(part.startswith("lokr_") for part in infos):
        for side in ("lokr_w1", "lokr_w2"):
            pair = {f"{side}_a", f"{side}_b"}
            if side not in infos and not pair <= infos.keys():
                return f"its LoKr is incomplete: {side} is missing"
    if not infos.keys() - {*NUMBERS, "magnitude"}:
        return "it has a scale and nothing to be scaled"
    if "magnitude" in infos and "down" not in infos:
        return "DoRA is supported on LoRA only"
    return ""


def misfit(infos: Mapping[str, TensorInfo], target: Row, shapes: Shapes | None) -> str:
    """Why the parts don't go together or with the network; empty when they do."""
    problem = _mismatch(infos)
    if problem or shapes is None:
        return problem
    wanted = [shapes[str(weight_of(each, shapes))] for each in target.targets]
    rows, columns = sum(shape[0] for shape in wanted), wanted[0][1:]
    made = change_shape(infos)
    if made is not None and (
        made[0] != rows or _product(made[1:]) != _product(columns)
    ):
        return f"it changes {_told(made)} where the model has {_told((rows, *columns))}"
    if "magnitude" in infos and len(columns) > 1:
        return "DoRA on a convolution isn't supported"
    return _bias_misfit(infos, target, shapes, rows)


def _mismatch(infos: Mapping[str, TensorInfo]) -> str:
    """Why the parts don't go together, whatever the network."""
    return _miscount(infos) or _misproduct(infos) or _missum(infos)


def _miscount(infos: Mapping[str, TensorInfo]) -> str:
    """Where a number should be many, or many should be one."""
    for part, info in infos.items():
        if part in NUMBERS and _product(info.shape) != 1:
            return f"its {part} isn't one number"
        if part not in NUMBERS and not info.shape:
            return "it has a single number for a matrix"
    return ""


def _misproduct(infos: Mapping[str, TensorInfo]) -> str:
    """Why what is multiplied can't be."""
    for part, other in FACTORS:
        if part in infos and other in infos:
            ranks = infos[part].shape[0], _columns(infos[other].shape)
            if ranks[0] != ranks[1]:
                return (
                    f"its ranks differ: {part} has {ranks[0]}, {other} has {ranks[1]}"
                )
            if not ranks[0] or min(len(infos[p].shape) for p in (part, other)) < 2:
                return f"its {part} and {other} aren't matrices"
    return ""


def _missum(infos: Mapping[str, TensorInfo]) -> str:
    """Why what changes one weight together doesn't."""
    if "hada_w1_a" in infos and change_shape(infos) != _second_half(infos):
        return "the two halves of its LoHa have different sizes"
    if "weight" in infos and "down" in infos:
        sizes = [_product(change_shape(infos) or ()), _product(infos["weight"].shape)]
        if sizes[0] != sizes[1]:
            return f"its LoRA changes {sizes[0]} numbers, its difference {sizes[1]}"
    if "magnitude" in infos and _scales_inputs(infos):
        return "its DoRA scales inputs, which isn't supported"
    return ""


def _second_half(infos: Mapping[str, TensorInfo]) -> tuple[int, ...]:
    """Of a LoHa's change, by its second half."""
    return (infos["hada_w2_a"].shape[0], *infos["hada_w2_b"].shape[1:])


def _scales_inputs(infos: Mapping[str, TensorInfo]) -> bool:
    """Whether a DoRA's magnitude is one number for each column, not for each row."""
    shape = infos["magnitude"].shape
    return len(shape) > 1 and shape[0] == 1 != infos["up"].shape[0]


def _bias_misfit(
    infos: Mapping[str, TensorInfo], target: Row, shapes: Shapes, rows: int
) -> str:
    vectors = {"bias", "up_bias", "magnitude"} & infos.keys()
    biases = [f"{each}.bias" in shapes for each in target.targets]
    if vectors - {"magnitude"} and not all(biases):
        return "it changes a bias that the model doesn't have"
    for part in vectors:
        if _product(infos[part].shape) != rows:
            values = _product(infos[part].shape)
            return f"its {part} has {values} values where the model has {rows}"
    return ""


def change_shape(infos: Mapping[str, TensorInfo]) -> tuple[int, ...] | None:
    """Of the change of the weight that these parts make; ``None``: none."""
    shape = {part: info.shape for part, info in infos.items()}
    if "down" in shape:
        return (shape["up"][0], *shape["down"][1:])
    if "hada_w1_a" in shape:
        return (shape["hada_w1_a"][0], *shape["hada_w1_b"][1:])
    if "weight" in shape:
        return shape["weight"]
    sides = []
    for side in ("lokr_w1", "lokr_w2"):
        if side in shape:
            sides.append(shape[side])
        elif f"{side}_a" in shape:
            sides.append((shape[f"{side}_a"][0], *shape[f"{side}_b"][1:]))
    if len(sides) != 2:
        return None
    first, second = sides
    return (first[0] * second[0], _product(first[1:]) * _product(second[1:]))


def _columns(shape: tuple[int, ...]) -> int:
    return shape[1] if len(shape) > 1 else 1


def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product


def _told(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


@dataclass(frozen=True)
class Alphas:
    """What a file's metadata, or PEFT's ``adapter_config.json`` beside it, say of the
    scale of its layers."""

    config: Mapping[str, Any] = field(default_factory=dict)

    def scale(self, target: str, layer: str, infos: Mapping[str, TensorInfo]) -> float:
        """What the layer's ``up`` is multiplied by."""
        if "alpha" in infos:
            return 1.0
        ranks = [infos[part].shape[0] for part, _ in FACTORS if part in infos]
        rank = ranks[0] if ranks else self._of("rank_pattern", target, layer, "r")
        alpha = self._of("alpha_pattern", target, layer, "lora_alpha", "alpha")
        if not isinstance(alpha, int | float) or not isinstance(rank, int) or rank < 1:
            return 1.0
        if not math.isfinite(alpha):
            return 1.0
        is_root = bool(self.config.get("use_rslora"))
        return float(alpha) / (rank**0.5 if is_root else rank)

    def _of(self, patterns: str, target: str, layer: str, *keys: str) -> Any:
        """Of the first pattern that fits, as peft chooses it; else of the first key."""
        listed = self.config.get(patterns)
        for pattern, value in listed.items() if isinstance(listed, Mapping) else ():
            if any(_fits(pattern, name) for name in (target, layer)):
                return value
        return next((self.config[key] for key in keys if key in self.config), None)


def _fits(pattern: str, name: str) -> bool:
    """Whether ``name`` or its end is as the pattern says."""
    try:
        return re.match(rf"(.*\.)?({pattern})$", name) is not None
    except re.error:
        return False


def read_alphas(file: Path, header: Header) -> Alphas:
    """From the metadata that diffusers writes, or PEFT's file beside ``file``."""
    text = header.metadata.get("lora_adapter_metadata")
    try:
        if text is not None:
            found = json.loads(text)
            prefix = "transformer."
            values = {
                key.removeprefix(prefix): value
                for key, value in found.items()
                if key.startswith(prefix)
            }
            return Alphas(values or found)
        beside = file.with_name("adapter_config.json")
        if file.name == "adapter_model.safetensors" and beside.is_file():
            return Alphas(dict(json.loads(beside.read_text(encoding="utf-8"))))
    except (OSError, *UNREADABLE) as error:
        raise UnreadableFile(
            f"can't read the settings that belong to {file}: {error}"
        ) from error
    return Alphas()
