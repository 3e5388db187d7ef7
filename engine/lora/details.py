"""What is told of a LoRA file to choose it by: which model it fits, its trigger words,
notes and picture, from its header and the files beside it. Needs no torch."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

from engine.errors import UserError
from engine.loading.header import read_header
from engine.lora.names import base_of
from engine.lora.report import describe, trigger_words, width_of

SIDE_FILES = (".json", ".civitai.info", ".txt")
PICTURES = (".preview.png", ".png", ".preview.jpg", ".jpg", ".jpeg", ".webp")
LARGEST = 200_000
"""Bytes of a side file that are read."""

WORD_KEYS = ("activation text", "trainedWords", "trigger_words")
NOTE_KEYS = ("notes", "description")
MOST_NOTES = 2000
"""Characters."""

PICTURE_WIDTH = 96
MOST_PIXELS = 50_000_000

TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class LoraDetails:
    """Of one file for one family."""

    kind: str
    """``LoRA, rank 32``; empty for a file that can't be read."""
    base: str
    """The model that it was made for, by the size of its layers, such as ``14B``; empty
    when unknown."""
    words: str
    """Trigger words, as their author wrote them."""
    notes: str
    picture: str
    """A data URL of a small JPEG; empty without a picture."""
    refusal: str
    """Why it can't be used; empty when it can."""


def details_of(file: Path, family: str) -> LoraDetails:
    """Everything that can be told without reading a tensor."""
    beside = _read_beside(file)
    words, notes = _words(beside), _notes(beside)
    picture = _picture(file)
    try:
        report = describe(file, family)
        header = read_header(file)
    except UserError as error:
        return LoraDetails("", "", words, notes, picture, str(error))
    kind = ", ".join(report.kinds)
    if report.ranks:
        kind += f", rank {' and '.join(map(str, report.ranks[-2:]))}"
    return LoraDetails(
        kind=kind,
        base="" if report.refusal else base_of(family, width_of(header)),
        words=trigger_words(header) or words,
        notes=notes or header.metadata.get("modelspec.description", "")[:MOST_NOTES],
        picture=picture,
        refusal=report.refusal,
    )


def _read_beside(file: Path) -> dict[str, Any]:
    """What the files beside it say; a text file is a note."""
    found: dict[str, Any] = {}
    for suffix in SIDE_FILES:
        beside = file.with_suffix(suffix)
        try:
            with beside.open("rb") as content:
                text = content.read(LARGEST).decode("utf-8", errors="replace")
        except OSError:
            continue
        if suffix == ".txt":
            found.setdefault("notes", text)
            continue
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):  # not ours to repair
            continue
        if isinstance(data, Mapping):
            found = {**data, **found}
    return found


def _words(beside: Mapping[str, Any]) -> str:
    for key in WORD_KEYS:
        value = beside.get(key)
        if isinstance(value, list):
            value = ", ".join(word for word in value if isinstance(word, str))
        if isinstance(value, str) and value.strip():
            return value.strip()[:MOST_NOTES]
    return ""


def _notes(beside: Mapping[str, Any]) -> str:
    for key in NOTE_KEYS:
        value = beside.get(key)
        if isinstance(value, str) and value.strip():
            return unescape(TAG.sub(" ", value)).strip()[:MOST_NOTES]
    return ""


def _picture(file: Path) -> str:
    from PIL import Image

    for suffix in PICTURES:
        beside = file.with_suffix(suffix)
        if not beside.is_file():
            continue
        try:
            with Image.open(beside) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    return ""
                small = opened.convert("RGB")
        except (OSError, ValueError, SyntaxError):  # no picture then
            return ""
        small.thumbnail((PICTURE_WIDTH, PICTURE_WIDTH))
        made = io.BytesIO()
        small.save(made, "JPEG", quality=80)
        encoded = base64.b64encode(made.getvalue()).decode()
        return f"data:image/jpeg;base64,{encoded}"
    return ""
