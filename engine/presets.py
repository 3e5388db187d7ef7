"""Presets: parts of requests, kept as ``settings/presets/<family>/<name>.json``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import UnreadableFile
from engine.settings import PROJECT
from engine.validate import FIELDS, read_json

SHIPPED = PROJECT / "settings" / "presets"


def list_presets(folder: Path, family: str) -> list[Path]:
    """The presets of ``family``, by name: the user's in ``folder`` and those that come
    with the app. One of the user's hides a shipped one of the same name."""
    found: dict[str, Path] = {}
    for place in (SHIPPED, folder):
        for file in (place / family).glob("*.json"):
            found[file.name] = file
    return [found[name] for name in sorted(found)]


def load_preset(file: Path) -> dict[str, Any]:
    """The fields that the preset sets.

    Raises ``UnreadableFile`` when it isn't part of a request.
    """
    try:
        preset = read_json(file.read_bytes(), file.name)
    except OSError as error:
        raise UnreadableFile(f"can't read {file}: {error.strerror}") from error
    if not isinstance(preset, dict):
        raise UnreadableFile(f"{file} isn't a JSON object")
    unknown = [name for name in preset if name not in FIELDS]
    if unknown:
        raise UnreadableFile(f"{file} has a field that no request has: {unknown[0]!r}")
    return preset


def merge(preset: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` on top of ``preset``; a value of ``None`` leaves the preset's."""
    given = {name: value for name, value in values.items() if value is not None}
    return {**preset, **given}
