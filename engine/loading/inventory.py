"""What is on this machine's disk of each model: listing, checking and deleting it.

Needs no torch and asks nobody.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from engine.catalogue import all_models
from engine.errors import MissingWeights, UserError
from engine.family import ModelVariant, WeightFile
from engine.loading import hub
from engine.loading.download import MIB, may_download
from engine.loading.notes import SUMS, find_note, noted_digest
from engine.loading.weights import (
    absent_weights,
    file_places,
    find_weights,
    folder_places,
)
from engine.settings import Settings

Choose = Callable[[ModelVariant], Mapping[str, WeightFile]]
"""Which precisions this machine runs."""

DIGEST = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")

NOTE_SUFFIXES = (".incomplete", ".lock", ".metadata", ".TAG")
"""Of what lies beside a model's files."""


@dataclass(frozen=True)
class Stock:
    """One model on the disk."""

    variant: ModelVariant
    files: tuple[Path, ...]
    """All that belongs to it, wherever it lies; also parts that aren't whole."""
    size: int
    """Of ``files``, in bytes."""
    missing: tuple[str, ...]
    """What has to come before it can be used."""

    @property
    def is_shipped(self) -> bool:
        """Whether it comes with the app."""
        return _is_shipped(self.variant)


@dataclass(frozen=True)
class Verdict:
    """What a check has found."""

    sound: int
    """Files whose hash is right."""
    damaged: tuple[Path, ...]
    unknown: tuple[Path, ...]
    """Files of which nobody has noted a hash."""

    def __str__(self) -> str:
        if self.damaged:
            names = ", ".join(file.name for file in self.damaged)
            return f"damaged: {names}"
        if not self.sound and not self.unknown:
            return "nothing to check is on this machine"
        said = f"{self.sound} files are sound"
        if self.unknown:
            said += f"; of {len(self.unknown)} no hash is known"
        return said


def stock_of(variant: ModelVariant, settings: Settings, choose: Choose) -> Stock:
    """What is there of ``variant``."""
    files = tuple(_files_of(variant, settings))
    try:
        missing = _missing(variant, settings, choose(variant))
        if _is_shipped(variant):
            find_weights(variant, settings)
    except MissingWeights:
        missing = ("its files",)
    except UserError as error:  # a broken index
        missing = (str(error),)
    return Stock(variant, files, _size(files), missing)


def _is_shipped(variant: ModelVariant) -> bool:
    return variant.hub is None and not variant.files


def verify(stock: Stock, count: Callable[[int], None]) -> Verdict:
    """Hold each file against the hash that the hub has told of it.

    ``count`` is told of the bytes that were read; it may raise to stop.
    """
    sound, damaged, unknown = 0, [], []
    known = {
        choice.name: choice.sha256
        for choices in stock.variant.files.values()
        for choice in choices
        if choice.sha256
    }
    for file in _contents(stock.files):
        digest = _known_digest(file) or known.get(file.name)
        if digest is None:
            unknown.append(file)
        elif _digest(file, digest, count) == digest:
            sound += 1
        else:
            damaged.append(file)
    return Verdict(sound, tuple(damaged), tuple(unknown))


def bytes_to_verify(stock: Stock) -> int:
    return _size(tuple(_contents(stock.files)))


def deletable(stock: Stock, settings: Settings, choose: Choose) -> list[Path]:
    """The files that go when the model is deleted: those in the data folder's
    ``ckpts`` and in the hub's cache that no other complete model uses."""
    if stock.is_shipped:
        return []
    needed = {
        file.resolve()
        for other in all_models(settings).values()
        if other.id != stock.variant.id and _is_complete(other, settings, choose)
        for file in (*_files_of(other, settings), *_base_files(other, settings))
    }
    roots = _own_roots(stock.variant, settings)
    return [
        file
        for file in stock.files
        if file.resolve() not in needed and _may_delete(file, roots, settings)
    ]


def delete(stock: Stock, settings: Settings, choose: Choose) -> int:
    """Delete the model's files; returns how many bytes are free now.

    Raises ``UserError`` when nothing of it may be deleted, or the disk refuses.
    """
    files = deletable(stock, settings, choose)
    if not files:
        model = stock.variant.id
        if not stock.files:
            raise UserError(f"nothing of {model} is on this machine")
        reason = "other models use its files, or they lie in folders of other apps"
        if stock.is_shipped:
            reason = "it comes with the app"
        raise UserError(f"{model} stays: {reason}")
    return _remove(files, _own_roots(stock.variant, settings))


def throw_away(damaged: Sequence[Path], stock: Stock, settings: Settings) -> None:
    """Delete the ``damaged`` files of the model, so that they can be fetched again.

    Raises ``UserError`` that names the first that may not be deleted; then all stay.
    """
    if not may_download(settings):
        raise UserError("downloads are turned off, so what is damaged stays")
    roots = _own_roots(stock.variant, settings)
    for file in damaged:
        if stock.is_shipped and stock.variant.hub is None:
            raise UserError(
                f"{file} comes with the app: restore it from the repository"
            )
        if not _may_delete(file, roots, settings):
            raise UserError(
                f"{file} is damaged and isn't the app's own: get it again there"
            )
    _remove(damaged, roots)


def _remove(files: Sequence[Path], roots: list[Path]) -> int:
    """Delete ``files``, and their content in the cache if nothing else uses it; returns
    how many bytes are free now."""
    freed = _size(tuple(files))
    try:
        for file in files:
            blob = file.resolve() if file.is_symlink() else None
            note = find_note(file)
            file.unlink(missing_ok=True)
            if note is not None:
                note.unlink()
                _prune(note.parent, roots)
            if blob is not None and _is_unused_blob(blob, roots):
                blob.unlink(missing_ok=True)
            _prune(file.parent, roots)
        for root in roots[1:]:
            _remove_empty_repository(root)
    except OSError as error:
        raise UserError(f"can't delete {file}: {error.strerror}") from error
    return freed


def _is_complete(variant: ModelVariant, settings: Settings, choose: Choose) -> bool:
    try:
        return not _missing(variant, settings, choose(variant))
    except UserError:
        return False


def _missing(
    variant: ModelVariant, settings: Settings, chosen: Mapping[str, WeightFile]
) -> tuple[str, ...]:
    """Names of files that aren't here, also of those that can't be downloaded."""
    absent = absent_weights(variant, settings, chosen)
    own = [each.name for each in absent if not each.is_published]
    wanted = [each.path or each.repository for each in absent if each.is_published]
    return (*own, *wanted)


def _files_of(variant: ModelVariant, settings: Settings) -> list[Path]:
    """Each once, as it is called there; a link counts as a file."""
    bases = {base.resolve() for base in settings.weights}
    found: dict[Path, None] = {}
    for place in _places_of(variant, settings):
        if place.is_file():
            found[place] = None
        elif place.is_dir() and place.resolve() not in bases:
            files = (each for each in place.rglob("*") if each.is_file())
            found |= dict.fromkeys(sorted(files))
    return list(found)


def _base_files(variant: ModelVariant, settings: Settings) -> Iterator[Path]:
    """Those of the model that ``variant`` is based on."""
    if variant.base_folder:
        base = replace(variant, files={}, folder=variant.base_folder)
        for place in folder_places(base, settings):
            yield from (each for each in place.rglob("*") if each.is_file())


def _places_of(variant: ModelVariant, settings: Settings) -> Iterator[Path]:
    if variant.files:
        for component, choices in variant.files.items():
            for choice in choices:
                yield from file_places(component, choice, variant, settings)
    elif variant.folder:
        yield from folder_places(variant, settings)


def _contents(files: tuple[Path, ...]) -> list[Path]:
    """Those that a model is loaded from: no notes, no parts."""
    return [
        file
        for file in files
        if file.suffix not in NOTE_SUFFIXES
        if not file.name.startswith(".") and file.name != SUMS
    ]


def _size(files: tuple[Path, ...]) -> int:
    return sum(file.stat().st_size for file in {each.resolve() for each in files})


def _known_digest(file: Path) -> str | None:
    if file.is_symlink():
        name = file.resolve().name
        return name if DIGEST.fullmatch(name) else None
    return noted_digest(file)


def _digest(file: Path, like: str, count: Callable[[int], None]) -> str:
    if len(like) == hashlib.sha256().digest_size * 2:
        digest = hashlib.sha256()
    else:
        header = b"blob %d\0" % file.stat().st_size
        digest = hashlib.sha1(header, usedforsecurity=False)
    with file.open("rb") as content:
        while block := content.read(MIB):
            digest.update(block)
            count(len(block))
    return digest.hexdigest()


def _own_roots(variant: ModelVariant, settings: Settings) -> list[Path]:
    """Below which files of ``variant`` may be deleted: ``ckpts`` of the data folder
    and its repositories in the hub's cache. A ``ckpts`` that leads out of the data
    folder isn't its own."""
    repositories = {variant.hub} if variant.hub else set()
    for choices in variant.files.values():
        repositories |= {choice.repository for choice in choices}
    cached = [
        hub.repository_folder(each) for each in sorted(filter(None, repositories))
    ]
    return [settings.root.resolve() / "ckpts", *(each.resolve() for each in cached)]


def _may_delete(file: Path, roots: list[Path], settings: Settings) -> bool:
    folder = file.parent.resolve()
    if any(folder.is_relative_to(each.resolve()) for each in settings.model_dirs):
        return False
    return any(folder.is_relative_to(root) for root in roots)


def _is_unused_blob(blob: Path, roots: list[Path]) -> bool:
    """Whether ``blob`` is in one of the cache's repositories, and no link to it is
    left."""
    root = next((each for each in roots[1:] if blob.is_relative_to(each)), None)
    if root is None:
        return False
    links = (each for each in (root / "snapshots").rglob("*") if each.is_symlink())
    return all(link.resolve() != blob for link in links)


def _prune(folder: Path, roots: list[Path]) -> None:
    """Remove folders that are empty now, up to the roots."""
    while not folder.is_symlink() and folder.resolve() not in roots:
        if not any(folder.resolve().is_relative_to(root) for root in roots):
            return
        if any(folder.iterdir()):
            return
        folder.rmdir()
        folder = folder.parent


def _remove_empty_repository(root: Path) -> None:
    """A repository in the cache of which no file is left."""
    snapshots = root / "snapshots"
    if root.is_dir() and not any(snapshots.rglob("*") if snapshots.is_dir() else ()):
        shutil.rmtree(root)
