"""Presets: parts of requests, kept as ``settings/presets/<family>/<name>.json``.

Beside the fields of a request a preset may have ``models``, the ids of those that it is
for, and ``links``, where each of its LoRAs can be downloaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.aside import write_aside
from engine.catalogue import get_model
from engine.errors import UnreadableFile, UserError
from engine.lora.files import list_loras, lora_folders
from engine.lset import SUFFIX, read_lset
from engine.request import GenerationRequest
from engine.settings import PROJECT, Settings
from engine.validate import FIELDS, read_json

SHIPPED = PROJECT / "settings" / "presets"

NAME = re.compile(r"[^\W_][\w .,()+-]{0,79}")
"""Of presets that are saved."""

NOT_SAVED = ("model", "seed", "schema")
"""Fields of a request that aren't part of a preset, besides media."""


@dataclass(frozen=True)
class Preset:
    """``values`` by the names of a request's fields."""

    values: Mapping[str, Any]
    models: tuple[str, ...] = ()
    """Ids of those that it is for; none: all of its family."""
    links: Mapping[str, str] = field(default_factory=dict)
    """Name of a LoRA → where it can be downloaded."""


def list_presets(folder: Path, family: str) -> list[Path]:
    """The presets of ``family``, by name: the user's in ``folder`` and those that come
    with the app. One of the user's hides a shipped one of the same name."""
    found: dict[str, Path] = {}
    for place in (SHIPPED, folder):
        for file in (place / family).glob("*.json"):
            found[file.name] = file
    return [found[name] for name in sorted(found)]


def presets_for(model: str, settings: Settings) -> dict[str, Path]:
    """By the names to choose them by: the presets that ``model`` can use, and the
    ``.lset`` files among its family's LoRAs. One that can't be read is listed: choosing
    it says why."""
    family = get_model(model, settings).family
    found = {}
    for file in list_presets(settings.presets, family):
        try:
            models = read_preset(file).models
        except UserError:
            models = ()
        if not models or model in models:
            found[file.stem] = file
    for folder in lora_folders(family, settings):
        for file in sorted(folder.glob(f"*{SUFFIX}")):
            found.setdefault(file.name, file)
    return found


def open_preset(file: Path, family: str, settings: Settings) -> Preset:
    """A preset of ``presets_for``. Raises ``UnreadableFile``."""
    if file.suffix == SUFFIX:
        return Preset(read_lset(file, list_loras(family, settings)))
    return read_preset(file)


def read_preset(file: Path) -> Preset:
    """Raises ``UnreadableFile`` when it isn't part of a request."""
    try:
        data = read_json(file.read_bytes(), file.name)
    except OSError as error:
        raise UnreadableFile(f"can't read {file}: {error.strerror}") from error
    if not isinstance(data, dict):
        raise UnreadableFile(f"{file} isn't a JSON object")
    models, links = data.pop("models", []), data.pop("links", {})
    if not isinstance(models, list) or not all(isinstance(m, str) for m in models):
        raise UnreadableFile(f"{file}: models isn't a list of models' ids")
    if not isinstance(links, dict) or not all(
        isinstance(link, str) and link.startswith("https://") for link in links.values()
    ):
        raise UnreadableFile(f"{file}: links aren't addresses by names of LoRAs")
    unknown = [name for name in data if name not in FIELDS]
    if unknown:
        raise UnreadableFile(f"{file} has a field that no request has: {unknown[0]!r}")
    return Preset(data, tuple(models), links)


def save_preset(
    folder: Path, family: str, name: str, values: Mapping[str, Any]
) -> Path:
    """Keep ``values`` under ``name``, in place of an older one; media, the model and
    the seed are left out.

    Raises ``UserError`` for a name that no file can have on every system.
    """
    name = name.strip()
    if not NAME.fullmatch(name) or name.endswith("."):
        raise UserError(
            f"{name[:80]!r} can't be a preset's name; use up to 80 letters, digits, "
            "blanks and .,()+- after a letter or a digit"
        )
    left_out = {*NOT_SAVED, *GenerationRequest.MEDIA_FIELDS}
    kept = {key: value for key, value in values.items() if key not in left_out}
    file = folder / family / f"{name}.json"
    try:
        write_aside(file, json.dumps(kept, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(f"can't write {file}: {error.strerror}") from error
    return file


def merge(preset: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` on top of ``preset``; a value of ``None`` leaves the preset's."""
    given = {name: value for name, value in values.items() if value is not None}
    return {**preset, **given}
