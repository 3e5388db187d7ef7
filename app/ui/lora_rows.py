"""The form's list of LoRAs: what a request says of them, and what the page shows.

The component's value is ``{"family", "rows"}``; each row has the ``name``, the
``multiplier`` as text, whether it is ``on``, and the ``problem`` and the ``closest``
name of a file that isn't here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.family import ModelVariant, get_family
from engine.lora.files import closest, list_loras
from engine.lora.names import names_of
from engine.presets import Preset
from engine.settings import Settings

Shown = dict[str, Any]


def in_request(shown: object) -> list[dict[str, Any]]:
    """The LoRAs as a request has them, those that are off disabled. ``shown`` comes
    from a browser: what isn't a row is left out."""
    return [
        {"name": row["name"], "multiplier": _multiplier(row["multiplier"])}
        | ({} if row["on"] else {"enabled": False})
        for row in _rows(shown)
        if row["name"]
    ]


def _rows(shown: object) -> list[dict[str, Any]]:
    rows = shown.get("rows") if isinstance(shown, Mapping) else None
    return [
        {
            "name": str(row.get("name", "")),
            "multiplier": str(row.get("multiplier", "")),
            "on": bool(row.get("on")),
        }
        for row in (rows if isinstance(rows, list) else ())
        if isinstance(row, Mapping)
    ]


def _multiplier(text: str) -> float | str:
    """A plain number as one, so that a request says ``0.8``."""
    text = text.strip()
    try:
        return float(text) if text.isascii() else text
    except ValueError:
        return text


def shown_loras(
    loras: Sequence[Mapping[str, Any]], variant: ModelVariant, settings: Settings
) -> Shown:
    """What the page shows of a request's LoRAs for this model."""
    rows = [
        {
            "name": lora["name"],
            "multiplier": _text(lora.get("multiplier", 1)),
            "on": lora.get("enabled", True),
        }
        for lora in loras
    ]
    return checked({"rows": rows}, variant, settings)


def checked(shown: object, variant: ModelVariant, settings: Settings) -> Shown:
    """``shown`` with each row's file looked for anew. Rows of files that the model's
    family doesn't have are off when the page showed another family before."""
    held = shown if isinstance(shown, Mapping) else {}
    known = list_loras(variant.family, settings)
    moved = held.get("family", variant.family) != variant.family
    problem = f"not among the LoRAs of {get_family(variant.family).title}"
    rows = []
    for row in _rows(shown):
        missing = row["name"] not in known
        row["on"] &= not (missing and moved)
        row["problem"] = problem if missing else ""
        row["closest"] = (closest(row["name"], known) or "") if missing else ""
        rows.append(row)
    return {"family": variant.family, "rows": rows}


def to_be_fetched(preset: Preset, family: str, settings: Settings) -> list[str]:
    """Where each LoRA of the preset can be had that isn't here, in words."""
    known = list_loras(family, settings)
    folder = settings.loras[0] / family
    return [
        f"{lora['name']} isn't here yet; get it from {preset.links[lora['name']]} and "
        f"put it into {folder}"
        for lora in preset.values.get("loras", ())
        if lora["name"] not in known and lora["name"] in preset.links
    ]


def takes_loras(variant: ModelVariant) -> bool:
    return names_of(variant.family) is not None


def _text(multiplier: float | str) -> str:
    return multiplier if isinstance(multiplier, str) else f"{multiplier:g}"
