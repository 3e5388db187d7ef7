"""Input media of requests: which files may be used, and keeping a copy of them.

A request names files. They are opened only when they lie in a folder that the person
has put them into for this purpose, so that a request from elsewhere can't read the
disk.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from engine.errors import Problem, RequestError
from engine.family import ModelVariant
from engine.request import GenerationRequest
from engine.settings import Settings

TITLES = {
    "image_start": "a start image",
    "image_end": "an end image",
    "image_refs": "reference images",
    "control_video": "a control video",
    "control_mask": "a control mask",
    "source_video": "a source video",
}


def check_media(
    request: GenerationRequest,
    variant: ModelVariant,
    folder: Path | None,
    settings: Settings,
) -> list[Problem]:
    """What is wrong with the files that ``request`` names, the first per field.

    A file outside the allowed folders is refused in the same words whether it exists
    or not, and before anything else is said about it.
    """
    problems: dict[str, Problem] = {}
    for field, name in named_media(request):
        message = None
        path = _allowed_path(name, folder, settings)
        if path is None:
            places = ", ".join(str(place) for place in _allowed(folder, settings))
            message = f"{name!r} isn't in a folder that may be used: {places}"
        elif field not in variant.media:
            message = f"{variant.id} doesn't take {TITLES[field]}"
        elif not path.is_file():
            message = f"there is no file {name!r}"
        if message is not None:
            problems.setdefault(field, Problem(field, message))
    return list(problems.values())


def keep_media(
    request: GenerationRequest, folder: Path | None, settings: Settings
) -> GenerationRequest:
    """The same request, its files copied to ``settings.media`` under their sha256, so
    that they are still there when its turn comes."""
    kept: dict[str, object] = {}
    for field, name in named_media(request):
        path = _allowed_path(name, folder, settings)
        assert path is not None  # check_media refused it
        try:
            copy = str(_keep(path, settings.media))
        except OSError as error:
            message = f"{name!r} can't be copied: {error.strerror}"
            raise RequestError([Problem(field, message)]) from error
        if isinstance(getattr(request, field), list):
            kept.setdefault(field, []).append(copy)  # type: ignore[attr-defined]
        else:
            kept[field] = copy
    return request.with_values(**kept) if kept else request


def portable(request: GenerationRequest, settings: Settings) -> GenerationRequest:
    """The same request as it goes into a video: kept media named relative to the data
    root, so that the video doesn't tell where on the disk that is."""
    kept: dict[str, object] = {}
    for field, name in named_media(request):
        short = f"{settings.media.name}/{Path(name).name}"
        if isinstance(getattr(request, field), list):
            kept.setdefault(field, []).append(short)  # type: ignore[attr-defined]
        else:
            kept[field] = short
    return request.with_values(**kept) if kept else request


def named_media(request: GenerationRequest) -> Iterator[tuple[str, str]]:
    """(field, file name) of each file that ``request`` names."""
    for field in request.MEDIA_FIELDS:
        value = getattr(request, field)
        for name in value if isinstance(value, list) else [value]:
            if name is not None:
                yield field, name


def _allowed(folder: Path | None, settings: Settings) -> list[Path]:
    own = [] if folder is None else [folder.resolve()]
    return [*own, settings.media.resolve(), settings.outputs.resolve()]


def _allowed_path(name: str, folder: Path | None, settings: Settings) -> Path | None:
    """Where the file lies, links followed; ``None`` when that isn't allowed.

    A relative name is looked for beside the request's file, then below the data root.
    """
    places = _allowed(folder, settings)
    bases = [settings.root] if folder is None else [folder, settings.root]
    inside = []
    for base in bases:
        try:
            path = (base / name).resolve()
        except (OSError, RuntimeError, ValueError):  # a link to itself, a NUL
            continue
        if any(path.is_relative_to(place) for place in places):
            inside.append(path)
    existing = [path for path in inside if path.is_file()]
    return next(iter(existing or inside), None)


def _keep(path: Path, media: Path) -> Path:
    """Copy ``path`` into ``media``, unless it lies there, and return its name there."""
    if path.parent == media.resolve():
        return path
    media.mkdir(parents=True, exist_ok=True)
    ending = path.suffix.lower()
    if not re.fullmatch(r"\.[a-z0-9]{1,8}", ending):
        ending = ""
    with tempfile.NamedTemporaryFile(dir=media, delete=False) as copy:
        part = Path(copy.name)
        try:
            with path.open("rb") as original:
                shutil.copyfileobj(original, copy, 1 << 20)
            copy.close()
            with part.open("rb") as written:
                digest = _sha256(written)
            kept = media / f"{digest}{ending}"
            part.replace(kept)
        finally:
            part.unlink(missing_ok=True)
    return kept


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
