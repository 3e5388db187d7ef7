"""Presets in ``.lset`` files: JSON with names of LoRAs, their multipliers in one text,
and maybe a prompt. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import UnreadableFile
from engine.lora.schedule import ScheduleError, parse_schedule
from engine.validate import read_json

SUFFIX = ".lset"
LARGEST = 1_000_000
"""Bytes."""


def split_multipliers(text: str, count: int) -> list[str]:
    """The multiplier of each of ``count`` LoRAs in ``text``, where blanks and new lines
    divide them and lines that begin with ``#`` don't count; those missing are 1.

    Raises ``ScheduleError`` that names the place.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = " ".join(lines).split()
    for number, multiplier in enumerate(found, 1):
        try:
            parse_schedule(multiplier)
        except ScheduleError as error:
            raise ScheduleError(f"{number} ({multiplier[:20]}) {error}") from error
    if len(found) > count:
        raise ScheduleError(f"{count + 1} is of no LoRA: there are {count}")
    return [*found, *["1"] * (count - len(found))]


def read_lset(file: Path, known: Sequence[str]) -> dict[str, Any]:
    """The part of a request that ``file`` sets. Its LoRAs, which it names without
    their folders, get the names that the ``known`` ones have.

    Raises ``UnreadableFile``.
    """
    try:
        with file.open("rb") as opened:
            content = opened.read(LARGEST + 1)
    except OSError as error:
        raise UnreadableFile(f"can't read {file}: {error.strerror}") from error
    if len(content) > LARGEST:
        raise UnreadableFile(f"{file} has more than {LARGEST} bytes; it's no preset")
    data = read_json(content, file.name)
    if not isinstance(data, dict):
        raise UnreadableFile(f"{file} isn't a JSON object")
    names = data.get("loras")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UnreadableFile(f"{file} has no list of LoRAs, so it is no preset")
    multipliers = data.get("loras_mult", "")
    if not isinstance(multipliers, str):
        raise UnreadableFile(f"{file} has multipliers that aren't a text")
    try:
        values = split_multipliers(multipliers, len(names))
    except ScheduleError as error:
        raise UnreadableFile(f"{file}: multiplier {error}") from error
    listed = [
        {"name": _known_name(name, known), "multiplier": value}
        for name, value in zip(names, values, strict=True)
    ]
    return {"loras": listed, **_prompt(data.get("prompt"))}


def _prompt(prompt: object) -> dict[str, str]:
    lines = prompt.splitlines() if isinstance(prompt, str) else []
    kept = "\n".join(line for line in lines if not line.startswith("#")).strip()
    return {"prompt": kept} if kept else {}


def _known_name(name: str, known: Sequence[str]) -> str:
    name = name.replace("\\", "/")
    if name in known:
        return name
    end = name.rpartition("/")[2]
    return next((each for each in known if each.rpartition("/")[2] == end), end)
