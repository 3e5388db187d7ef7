"""Which class a network's files are for, by the ``config.json`` beside them or by the
names of their tensors; and whether a model's files fit, before it is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from engine.loading.checkpoint import check_component
from engine.loading.layouts.table import networks_in
from engine.loading.matching import AUTHORS_CLASSES
from engine.loading.stored import UNREADABLE, Stored, read_stored

MODULES = (
    "diffusers",
    "diffusers.pipelines.ltx.modeling_latent_upsampler",
    "transformers",
)
"""Where classes of networks are."""


def check_files(weights: Mapping[str, Path]) -> None:
    """Check all that headers tell about a model's files, which are ``weights`` by their
    components, so that a damaged one is refused before anything else happens.

    Raises ``UnreadableFile``.
    """
    for component, place in weights.items():
        if place.is_dir() and not (place / "config.json").is_file():
            continue  # a tokenizer or a scheduler
        stored = read_stored(place)
        name = class_name(stored, component)
        # Families take parts of transformers' models, whose configuration names the
        # whole.
        kind = find_class(name, modules=MODULES[:2]) if name else None
        if kind is not None and stored.config is not None:
            check_component(kind, place)


def class_name(stored: Stored, component: str | None = None) -> str | None:
    """The class that the files say they are for, or that their names tell; of several
    networks in one file the ``component`` that is asked for."""
    name = configured_class(stored.config) if stored.config is not None else None
    if name is not None and name not in AUTHORS_CLASSES:
        return name
    for found, layout in networks_in(stored.weights).items():
        if component in (None, layout.component):
            return found
    return name


def configured_class(folder: Path) -> str | None:
    """The class that ``config.json`` in ``folder`` names."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        name = config.get("_class_name") or (config.get("architectures") or [None])[0]
    except (*UNREADABLE, OSError):
        return None  # who loads it says what is wrong
    return str(name) if name else None


def find_class(name: str, modules: tuple[str, ...] = MODULES) -> Any:
    """diffusers' or transformers' class of this name, ``None`` when they have none."""
    for module in modules:
        kind = getattr(import_module(module), name, None)
        if kind is not None and hasattr(kind, "state_dict"):
            return kind
    return None
