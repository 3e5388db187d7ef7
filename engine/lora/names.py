"""How the layers of a family's networks are called in LoRA files: a table per family,
in its ``lora_keys.py``, from other trainers' names to diffusers'. Needs no torch."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from engine.family import FAMILIES

if TYPE_CHECKING:
    from engine.family import ModelVariant

NUMBER = "{}"
"""Stands for a block's number."""


@dataclass(frozen=True)
class Row:
    """One layer, or one parameter without a layer of its own."""

    name: str
    """In files."""
    targets: tuple[str, ...]
    """In diffusers' network; several when the file has them as one, row after row."""
    is_swapped: bool = False
    """Whether its rows are two halves in the other order."""


def row(name: str, *targets: str, is_swapped: bool = False) -> Row:
    """A row of the table; without ``targets`` files call it as diffusers does."""
    return Row(name, targets or (name,), is_swapped)


class Names:
    """The table of one family."""

    def __init__(self, rows: Sequence[Row]) -> None:
        own = dict.fromkeys(target for row in rows for target in row.targets)
        self._rows: dict[str, list[tuple[re.Pattern[str], Row]]] = defaultdict(list)
        for each in dict.fromkeys((*rows, *(row(name) for name in own))):
            for flat in (False, True):
                key, pattern = _key(each.name, flat), _pattern(each.name, flat)
                self._rows[key].append((pattern, each))

    def find(self, name: str, *, is_flat: bool = False) -> list[Row]:
        """What a layer called ``name`` in a file may be, with its numbers put in.
        Networks of one family may use one name for different layers.

        ``is_flat``: all its dots are underscores.
        """
        found = []
        for pattern, each in self._rows.get(_key(name, is_flat), ()):
            if numbers := pattern.fullmatch(name):
                targets = tuple(_filled(t, numbers.groups()) for t in each.targets)
                found.append(Row(name, targets, each.is_swapped))
        return found


def _key(name: str, flat: bool) -> str:
    if flat:
        name = name.replace(".", "_")
    return re.sub(r"\d+|\{\}", NUMBER, name)


def _pattern(name: str, flat: bool) -> re.Pattern[str]:
    if flat:
        name = name.replace(".", "_")
    return re.compile(r"(\d+)".join(re.escape(part) for part in name.split(NUMBER)))


def _filled(target: str, numbers: tuple[str, ...]) -> str:
    for number in numbers:
        target = target.replace(NUMBER, number, 1)
    return target


@cache
def names_of(family: str) -> Names | None:
    """The table of ``family``; ``None`` when it takes no LoRAs."""
    module = _lora_keys(family)
    return module and Names(module.ROWS)


def phases_of(variant: ModelVariant) -> Sequence[str]:
    """The parts of the denoising that a schedule may tell apart, in their order."""
    module = _lora_keys(variant.family)
    phases: Sequence[str] = module.phases(variant) if module else ("",)
    return phases


def base_of(family: str, width: int) -> str:
    """The size of the model whose layers have so many inputs; empty when unknown."""
    module = _lora_keys(family)
    bases: Mapping[int, str] = module.BASES if module else {}
    return bases.get(width, "")


def all_names() -> Mapping[str, Names]:
    """Every family's that has one."""
    return {family: names for family in FAMILIES if (names := names_of(family))}


def _lora_keys(family: str) -> Any:
    package = FAMILIES[family].partition(":")[0]
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return None
    name = f"{package}.lora_keys"
    return import_module(name) if find_spec(name) else None
