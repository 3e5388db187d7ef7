"""Kept media that nothing needs any more."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.errors import UserError
from engine.media.inputs import PART
from engine.media.metadata import read_comment
from engine.outputs import PART_FOLDER
from engine.request import GenerationRequest
from engine.settings import Settings

UNUSED_DAYS = 30
KEPT = re.compile(r"([0-9a-f]{64})(\.[a-z0-9]{1,8})?")
SHA256 = re.compile(r"[0-9a-f]{64}")


def unused_media(
    requests: Iterable[GenerationRequest], settings: Settings
) -> list[Path]:
    """The files in ``settings.media`` that were kept, not used for ``UNUSED_DAYS``,
    and that neither the jobs' ``requests`` nor a finished video in the outputs nor a
    preset names; also what an interrupted copy has left there.

    Raises ``UserError`` when something that may name one can't be read.
    """
    needed = {
        digest
        for text in _naming(requests, settings)
        for digest in SHA256.findall(text)
    }
    before = time.time() - UNUSED_DAYS * 86400
    found = []
    for file in settings.media.glob("*"):
        name = KEPT.fullmatch(file.name)
        is_unused = name[1] not in needed if name else file.name.startswith(PART)
        if is_unused and file.stat().st_mtime < before:
            found.append(file)
    return sorted(found)


def _naming(requests: Iterable[GenerationRequest], settings: Settings) -> Iterator[str]:
    """All texts that may name kept media."""
    yield from (request.to_json() for request in requests)
    for video in settings.outputs.rglob("*.mp4"):
        if PART_FOLDER not in video.parts:
            yield read_comment(video) or ""
    for folder in (settings.outputs, settings.presets):
        for file in folder.rglob("*.json"):
            try:
                yield file.read_text(encoding="utf-8", errors="replace")
            except OSError as error:
                raise UserError(f"can't read {file}: {error.strerror}") from error
