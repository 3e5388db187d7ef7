"""Where LoRAs lie: ``loras/<family>/`` of the data folder and of the app, and the
folder of ``--lora-dir``, itself or its ``<family>/``. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path, PurePosixPath

from engine.errors import MissingWeights
from engine.settings import Settings

SUFFIXES = (".safetensors", ".sft")

MOST_LISTED = 20_000
"""Files; a folder with more isn't one of LoRAs."""


def lora_folders(family: str, settings: Settings) -> list[Path]:
    """Those that exist, in the order in which they are searched."""
    folders = [folder / family for folder in settings.loras]
    if settings.lora_dir is not None:
        folders += [settings.lora_dir / family, settings.lora_dir]
    for given in settings.model_dirs:
        folders += [given / "loras", given / "models" / "loras"]
    return [folder for folder in dict.fromkeys(folders) if folder.is_dir()]


def list_loras(family: str, settings: Settings) -> list[str]:
    """The names of all LoRAs of ``family``, as a request gives them, in order."""
    names: set[str] = set()
    for folder in lora_folders(family, settings):
        for file in folder.rglob("*"):
            if file.suffix.lower() in SUFFIXES and file.is_file():
                names.add(file.relative_to(folder).as_posix())
            if len(names) >= MOST_LISTED:
                break
    return sorted(names)


def find_lora(name: str, family: str, settings: Settings) -> Path:
    """The file of the LoRA called ``name``: a path below one of the folders.

    Raises ``MissingWeights`` with the closest name, also for names that lead out of
    the folders.
    """
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise MissingWeights(
            f"{_shown(name)} isn't the name of a LoRA; give its name or its path below "
            f"loras/{family}/"
        )
    if path.suffix.lower() not in SUFFIXES:
        raise _missing(name, family, settings)
    for folder in lora_folders(family, settings):
        try:
            if (folder / path).is_file():
                return folder / path
        except OSError:  # the name is too long for the disk
            break
    raise _missing(name, family, settings)


def closest(name: str, known: Sequence[str]) -> str | None:
    """The one of ``known`` names that ``name`` most likely means: by its path or by its
    end, whichever is more alike."""
    found = []
    for part in (_path, _stem):
        parts = {part(each): each for each in known}
        for near in get_close_matches(part(name), parts, n=1):
            alike = SequenceMatcher(None, part(name), near).ratio()
            found.append((alike, parts[near]))
    return max(found)[1] if found else None


def _path(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("")).lower() if path.name else ""  # "." has no name


def _stem(name: str) -> str:
    return PurePosixPath(name).stem.lower()


def _missing(name: str, family: str, settings: Settings) -> MissingWeights:
    near = closest(name, list_loras(family, settings))
    where = [*settings.loras, *([settings.lora_dir] if settings.lora_dir else [])]
    hint = f"did you mean {near!r}?" if near else f"put it into {where[0] / family}"
    return MissingWeights(f"no LoRA of this family is called {_shown(name)}; {hint}")


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else f"{name[:97]}...")
