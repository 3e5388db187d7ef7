"""Input media of requests: which files may be used, and keeping a copy of them.

A request names files. They are opened only when they lie in a folder that the person
has put them into for this purpose, so that a request from elsewhere can't read the
disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine.errors import Problem, RequestError, UnreadableFile
from engine.family import ModelVariant
from engine.media.frames import check_image, check_video, is_video
from engine.request import Condition, GenerationRequest
from engine.settings import Settings

TITLES = {
    "image_start": "a start image",
    "image_end": "an end image",
    "image_refs": "reference images",
    "control_video": "a control video",
    "control_mask": "a control mask",
    "source_video": "a source video",
    "conditions": "pinned media",
}
IMAGES = ("image_start", "image_end", "image_refs")
VIDEOS = ("control_video", "source_video")

PART = ".part-"
"""How the names of copies begin that aren't whole."""


@dataclass(frozen=True)
class Medium:
    """A file that a request names."""

    field: str
    name: str
    place: str = ""
    """Which of several it is, for a sentence: ``"condition 2: "``."""


def check_media(
    request: GenerationRequest,
    variant: ModelVariant,
    folder: Path | None,
    settings: Settings,
) -> list[Problem]:
    """What is wrong with the files that ``request`` names, the first per field. Each
    is opened, so that a broken one is refused before its job waits.

    A file outside the allowed folders is refused in the same words whether it exists
    or not, and before anything else is said about it.
    """
    problems = {
        field: Problem(field, f"is missing: {variant.id} needs {TITLES[field]}")
        for field in sorted(variant.required_media)
        if not getattr(request, field)
    }
    for medium in named_media(request):
        field, name = medium.field, medium.name
        message = None
        path = find_medium(name, folder, settings)
        if path is None:
            places = ", ".join(str(place) for place in _allowed(folder, settings))
            message = f"{name!r} isn't in a folder that may be used: {places}"
        elif field not in variant.media:
            message = f"{variant.id} doesn't take {TITLES[field]}"
        elif not _is_file(path):
            message = f"there is no file {name!r}"
        elif field not in problems:
            message = _unreadable(path, field)
        if message is not None:
            problems.setdefault(field, Problem(field, medium.place + message))
    return list(problems.values())


def keep_media(
    request: GenerationRequest, folder: Path | None, settings: Settings
) -> GenerationRequest:
    """The same request, its files copied to ``settings.media`` under their sha256, so
    that they are still there when its turn comes."""

    def keep(medium: Medium) -> str:
        path = find_medium(medium.name, folder, settings)
        assert path is not None  # check_media refused it
        try:
            return str(_keep(path, settings.media))
        except OSError as error:
            message = f"{medium.place}{medium.name!r} can't be copied: {error.strerror}"
            raise RequestError([Problem(medium.field, message)]) from error

    return rename_media(request, keep)


def portable(request: GenerationRequest, settings: Settings) -> GenerationRequest:
    """The same request as it goes into a video: kept media named relative to the data
    root, so that the video doesn't tell where on the disk that is."""
    return rename_media(
        request, lambda medium: f"{settings.media.name}/{Path(medium.name).name}"
    )


def named_media(request: GenerationRequest) -> Iterator[Medium]:
    """Each file that ``request`` names."""
    for field in request.MEDIA_FIELDS:
        value = getattr(request, field)
        if isinstance(value, str):
            yield Medium(field, value)
        for number, each in enumerate(value if isinstance(value, list) else [], 1):
            if isinstance(each, Condition):
                yield Medium(field, each.file, f"condition {number}: ")
            else:
                yield Medium(field, each)


def rename_media(
    request: GenerationRequest, rename: Callable[[Medium], str]
) -> GenerationRequest:
    """The same request with each of its files called as ``rename`` says."""
    names: dict[str, list[str]] = {}
    for medium in named_media(request):
        names.setdefault(medium.field, []).append(rename(medium))
    values: dict[str, object] = {}
    for field, renamed in names.items():
        before = getattr(request, field)
        if field == "conditions":
            pairs = zip(before, renamed, strict=True)
            values[field] = [{**dict(each), "file": name} for each, name in pairs]
        else:
            values[field] = renamed if isinstance(before, list) else renamed[0]
    return request.with_values(**values) if values else request


def find_medium(name: str, folder: Path | None, settings: Settings) -> Path | None:
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
    existing = [path for path in inside if _is_file(path)]
    return next(iter(existing or inside), None)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # its name is longer than names can be
        return False


def _unreadable(path: Path, field: str) -> str | None:
    try:
        if field in IMAGES:
            check_image(path)
        elif field in VIDEOS:
            check_video(path)
        else:
            is_video(path)
    except UnreadableFile as error:
        return str(error)
    return None


def _allowed(folder: Path | None, settings: Settings) -> list[Path]:
    own = [] if folder is None else [folder.resolve()]
    return [*own, settings.media.resolve(), settings.outputs.resolve()]


def _keep(path: Path, media: Path) -> Path:
    """Copy ``path`` into ``media``, unless it lies there, and return its name there."""
    if path.parent == media.resolve():
        with contextlib.suppress(OSError):  # it is in use again: see unused.py
            path.touch()
        return path
    media.mkdir(parents=True, exist_ok=True)
    ending = path.suffix.lower()
    if not re.fullmatch(r"\.[a-z0-9]{1,8}", ending):
        ending = ""
    with tempfile.NamedTemporaryFile(dir=media, prefix=PART, delete=False) as copy:
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
