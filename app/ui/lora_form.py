"""The form's part for LoRAs: the chosen ones, and a browser of those that are here."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import gradio as gr

from app.ui.lora_rows import shown_loras
from engine.errors import UserError
from engine.family import FAMILIES, ModelVariant
from engine.lora.details import LoraDetails, details_of
from engine.lora.files import find_lora, list_loras
from engine.settings import Settings

SCRIPT = (Path(__file__).parent / "lora.js").read_text(encoding="utf-8")

NOTE = (
    '<p class="note">A strength is a number, or a schedule: <code>1,0.5</code> goes '
    "down over the steps, <code>1;0</code> acts in the model's first phase only. "
    "Files belong into <code>loras/</code> of the data folder.</p>"
)


def build_loras(variant: ModelVariant, settings: Settings) -> gr.HTML:
    """The component whose value ``lora_rows`` describes."""
    made = gr.HTML(
        shown_loras((), variant, settings),
        label="LoRAs",
        html_template='<div class="loras"></div>',
        js_on_load=SCRIPT,
        server_functions=[browser_of(settings)],
        elem_id="field-loras",
        elem_classes=["field"],
    )
    gr.HTML(NOTE)
    return made


def browser_of(settings: Settings) -> Callable[[str], list[dict[str, str]]]:
    """What the page's browser of files asks."""

    def list_files(family: str) -> list[dict[str, str]]:
        if family not in FAMILIES:
            return []
        found = []
        for name in list_loras(family, settings):
            try:
                file = find_lora(name, family, settings)
                stamp = file.stat().st_mtime_ns
            except (UserError, OSError):  # taken away meanwhile
                continue
            details = _details(file, family, stamp)
            found.append({"name": name, **vars(details)})
        return found

    return list_files


@lru_cache(maxsize=5000)
def _details(file: Path, family: str, stamp: int) -> LoraDetails:  # noqa: ARG001
    """``stamp``: when the file was changed; another one is another file."""
    return details_of(file, family)
