"""Input media on their way back to the form: kept ones, and finished videos."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from app.ui.services import Services
from engine.catalogue import all_models
from engine.family import ModelVariant
from engine.media.frames import save_last_frame
from engine.media.inputs import Medium, find_medium, rename_media
from engine.outputs import Output
from engine.request import GenerationRequest

GONE = ""
"""The name of a medium that isn't there any more."""


def shown_values(request: GenerationRequest, services: Services) -> dict[str, Any]:
    """What a form shows of ``request``, its media where the browser may read them;
    media that are gone are left out."""

    def lent(medium: Medium) -> str:
        path = find_medium(medium.name, services.uploads, services.settings)
        there = path is not None and path.is_file()
        return lend(path, services.uploads) if path and there else GONE

    values = rename_media(request, lent).model_dump(exclude_none=True)
    values.pop("schema_version", None)
    for name in request.MEDIA_FIELDS:
        value = values.get(name)
        if isinstance(value, list):
            values[name] = [each for each in value if not _is_gone(each)]
        elif value == GONE:
            del values[name]
    return values


def _is_gone(entry: str | dict[str, Any]) -> bool:
    return (entry["file"] if isinstance(entry, dict) else entry) == GONE


def lend(file: Path, uploads: Path) -> str:
    """``file`` as the browser may read it: below ``uploads``. Nothing else of the
    folder that it lies in can be read then."""
    if file.is_relative_to(uploads):
        return str(file)
    stamp = f"{file} {file.stat().st_mtime_ns}"
    folder = uploads / "lent" / hashlib.sha256(stamp.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    # A kept medium is called by its sha256, of which the beginning is enough to show.
    name = f"{file.stem[:12]}{file.suffix}" if len(file.stem) == 64 else file.name
    copy = folder / name
    try:
        os.link(file, copy)
    except FileExistsError:  # lent before
        pass
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(file, copy)
    return str(copy)


def ready_taker(
    field: str, services: Services, *preferred: str | None
) -> ModelVariant | None:
    """The first model that goes on from ``field`` and whose files are here: of the
    ``preferred`` ones, else of all."""
    variants = all_models(services.settings)
    for model in (*preferred, *variants):
        variant = variants.get(model or "")
        if variant and _goes_on(field, variant) and services.missing(variant) is None:
            return variant
    return None


def _goes_on(field: str, variant: ModelVariant) -> bool:
    makes_anew = field == "source_video" and variant.source_video_use == "transform"
    return field in variant.media and not makes_anew


def continued(output: Output, variant: ModelVariant, uploads: Path) -> dict[str, Any]:
    """What the form shows to continue ``output`` with ``variant``."""
    return {
        **_kept_values(output.request, variant),
        "source_video": lend(output.path, uploads),
    }


def started_from(
    output: Output, variant: ModelVariant, uploads: Path
) -> dict[str, Any]:
    """What the form shows to start where ``output`` ends.

    Raises ``UnreadableFile`` when it can't be read.
    """
    uploads.mkdir(parents=True, exist_ok=True)
    picture = Path(tempfile.mkdtemp(dir=uploads)) / f"{output.path.stem}-last.png"
    save_last_frame(output.path, picture)
    return {**_kept_values(output.request, variant), "image_start": str(picture)}


def _kept_values(
    request: GenerationRequest | None, variant: ModelVariant
) -> dict[str, Any]:
    """What the next video has in common with the one before: everything but its media
    and its seed; with another model only the words and the size."""
    if request is None:
        return {}
    values = request.model_dump(exclude_none=True)
    left_out = {*request.MEDIA_FIELDS, "overlap_frames", "schema_version", "seed"}
    if request.model == variant.id:
        return {name: values[name] for name in values.keys() - left_out}
    kept: dict[str, Any] = {"prompt": request.prompt}
    for side in ("width", "height"):
        if side in values:
            kept[side] = variant.limits.snap_size(values[side])
    return kept


STEPS_ON: Mapping[str, Callable[[Output, ModelVariant, Path], dict[str, Any]]] = {
    "source_video": continued,
    "image_start": started_from,
}
"""Media field → what the form shows to go on from a finished video with it."""
