"""Where a model's files are, and what to do when they aren't."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from engine.errors import MissingWeights, UnreadableFile
from engine.family import ModelVariant, WeightFile
from engine.loading import hub
from engine.loading.stored import (
    INDEX,
    WEIGHTS_SUFFIX,
    WHOLE_FILES,
    other_files,
    parts_of,
)
from engine.settings import PROJECT, Settings

OTHER_APPS_FOLDERS = (
    "diffusion_models",
    "unet",
    "checkpoints",
    "diffusers",
    "vae",
    "text_encoders",
    "clip",
    "clip_vision",
    "upscale_models",
)
"""In which other apps sort their files by what they are for."""

BASE = "/base"
"""Behind a component's name: the folder of the model that a user's model is based on,
whose configuration a file of the user's has."""

ANY_PRECISION: Mapping[str, WeightFile] = {}

NOTHING: frozenset[str] = frozenset()


def find_weights(
    variant: ModelVariant,
    settings: Settings,
    chosen: Mapping[str, WeightFile] = ANY_PRECISION,
) -> dict[str, Path]:
    """Each component's folder in diffusers layout, or its single file. Downloads
    nothing.

    ``chosen`` has for each component the choice to be preferred; see ``find_files``.
    A file that stands for a component of another model comes with that one's folder,
    under the component's name and ``BASE``. Raises ``MissingWeights`` that names what
    is missing, the places that were searched, and the command that gets it.
    """
    if variant.files:
        found = find_files(variant, settings, chosen)
        if lacking := _lacking(variant, found, chosen):
            raise MissingWeights(_how_to_get_files(variant, settings, lacking))
        rest = _rest(variant)
        if rest is None:
            return found
        return _based(_find_folder(rest, settings, frozenset(variant.files)), found)
    return _find_folder(variant, settings) if variant.folder else {}


def _find_folder(
    variant: ModelVariant, settings: Settings, without: frozenset[str] = NOTHING
) -> dict[str, Path]:
    """The components in its folder, and in its base's; ``without`` the weights of some
    of them."""
    places = folder_places(variant, settings)
    folder = _whole_folder(places, without)
    if folder is None:
        raise MissingWeights(_how_to_get_folder(variant, settings, places, without))
    own = components_in(folder)
    base = _rest(variant)
    return own if base is None else {**find_weights(base, settings), **own}


def missing_weights(
    variant: ModelVariant,
    settings: Settings,
    chosen: Mapping[str, WeightFile] = ANY_PRECISION,
) -> list[WeightFile]:
    """What has to be downloaded before ``variant`` can be loaded: nothing when all is
    here, or when nobody offers it. An empty path stands for a whole repository."""
    absent = absent_weights(variant, settings, chosen)
    return [file for file in absent if file.is_published]


def absent_weights(
    variant: ModelVariant,
    settings: Settings,
    chosen: Mapping[str, WeightFile] = ANY_PRECISION,
) -> list[WeightFile]:
    """The same, with the files that nobody offers."""
    if not variant.files:
        return _missing_folder(variant, settings, variant.gigabytes)
    found = find_files(variant, settings, chosen)
    absent, rest = _lacking(variant, found, chosen), _rest(variant)
    if rest is not None:
        gigabytes = variant.base_gigabytes
        absent += _missing_folder(rest, settings, gigabytes, variant.files)
    return absent


def _missing_folder(
    variant: ModelVariant,
    settings: Settings,
    gigabytes: float,
    replaced: Collection[str] = NOTHING,
) -> list[WeightFile]:
    """The repository of ``variant``, of which so many ``gigabytes`` are wanted, if that
    has to be downloaded; without the weights of the ``replaced`` components."""
    without = frozenset(replaced)
    places = folder_places(variant, settings)
    if variant.hub is None or _whole_folder(places, without) is not None:
        return []
    return [WeightFile(variant.hub, "", gigabytes, without=without)]


def _lacking(
    variant: ModelVariant, found: Collection[str], chosen: Mapping[str, WeightFile]
) -> list[WeightFile]:
    missing = [
        chosen.get(component, choices[0])
        for component, choices in variant.files.items()
        if component not in found
    ]
    return list(dict.fromkeys(missing))  # one file may hold several components


def _based(base: Mapping[str, Path], own: Mapping[str, Path]) -> dict[str, Path]:
    """``own`` components, and all others of the ``base``."""
    folders = {
        f"{name}{BASE}": base[name]
        for name, place in own.items()
        if place.is_file() and name in base and base[name].is_dir()
    }
    return {**base, **own, **folders}


def _rest(variant: ModelVariant) -> ModelVariant | None:
    """Where a row of ``files`` has its other components, if they don't hold all."""
    if not variant.base_folder:
        return None
    return replace(variant, files={}, folder=variant.base_folder, base_folder="")


def find_files(
    variant: ModelVariant, settings: Settings, chosen: Mapping[str, WeightFile]
) -> dict[str, Path]:
    """Those components of a row with ``files`` that are here.

    Of several choices the one in ``chosen`` is preferred, then those after it, which
    need less memory. Those before it don't count: they need more memory than there
    is. A component that isn't in ``chosen`` may have any.
    """
    found = {}
    for component, choices in variant.files.items():
        first = choices.index(chosen[component]) if component in chosen else 0
        for choice in choices[first:]:
            place = _find_file(component, choice, variant, settings)
            if place is not None:
                found[component] = place
                break
    return found


def components_in(folder: Path) -> dict[str, Path]:
    """The parts of a model in diffusers layout: its sub-folders by their names."""
    return {part.name: part for part in sorted(folder.iterdir()) if part.is_dir()}


def missing_files(folder: Path, without: frozenset[str] = NOTHING) -> list[str]:
    """The files, relative to ``folder``, that its ``model_index.json`` calls for and
    that aren't there; weights of the components ``without`` which it will do aren't
    among them."""
    index = folder / "model_index.json"
    if not index.is_file():
        return [index.name]
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(f"{index} isn't JSON: {error}") from error
    kinds = {
        name: kind[1]
        for name, kind in (listed.items() if isinstance(listed, dict) else ())
        if not name.startswith("_") and isinstance(kind, list) and len(kind) == 2
    }
    if not kinds:
        raise UnreadableFile(f"{index} lists no components: get it again")
    missing: list[str] = []
    for name, kind in kinds.items():
        if kind is None:
            continue
        lacking = _missing_in(folder / name, str(kind))
        if name in without:
            lacking = [file for file in lacking if not file.endswith(WEIGHTS_SUFFIX)]
        missing += lacking
    return missing


def _find_file(
    component: str, choice: WeightFile, variant: ModelVariant, settings: Settings
) -> Path | None:
    for place in file_places(component, choice, variant, settings):
        if place.is_dir() and not _missing_in(place, _kind_of(component)):
            return place
        if place.is_file():
            return place
    return None


def file_places(
    component: str, choice: WeightFile, variant: ModelVariant, settings: Settings
) -> Iterator[Path]:
    """Where a component's file or folder may lie, the user's own places first."""
    for base in settings.weights:
        own = base / variant.folder
        yield base / choice.repository / choice.path
        yield own / choice.path
        yield own / choice.name
        if choice.is_folder:
            yield own / component
        else:
            yield base / choice.path
            yield base / choice.name
    if not choice.is_folder:
        for folder in model_folders(settings):
            yield folder / choice.path
            yield folder / choice.name
    if not choice.repository:
        return
    if choice.is_folder:
        snapshot = hub.cached_snapshot(choice.repository)
        if snapshot is not None:
            yield snapshot / choice.path
    else:
        file = hub.cached_file(choice.repository, choice.path)
        if file is not None:
            yield file


def model_folders(settings: Settings) -> list[Path]:
    """The folders of other apps that are searched: as ComfyUI's ``models`` is divided,
    or as WanGP's ``ckpts``, whose large files lie at its top."""
    found = []
    for given in settings.model_dirs:
        for base in (given, given / "models", given / "ckpts"):
            found += [base, *(base / name for name in OTHER_APPS_FOLDERS)]
    return [folder for folder in dict.fromkeys(found) if folder.is_dir()]


def folder_places(variant: ModelVariant, settings: Settings) -> list[Path]:
    """Folders to search, the user's own first, the hub's cache last."""
    bases = (*settings.weights, *model_folders(settings))
    places = [base / variant.folder for base in bases]
    snapshot = hub.cached_snapshot(variant.hub) if variant.hub else None
    return [*places, snapshot] if snapshot else places


def _whole_folder(places: list[Path], without: frozenset[str]) -> Path | None:
    folders = (place for place in places if place.is_dir())
    return next((each for each in folders if not missing_files(each, without)), None)


def _kind_of(component: str) -> str:
    """As ``_missing_in`` wants it; folders of single components have no index."""
    kinds = {
        "tokenizer": "Tokenizer",
        "tokenizer_2": "Tokenizer",
        "scheduler": "Scheduler",
        "feature_extractor": "FeatureExtractor",
        "image_processor": "ImageProcessor",
    }
    return kinds.get(component, "")


def _missing_in(folder: Path, kind: str) -> list[str]:
    """Which files of one component are missing; ``kind`` is its class."""
    if kind == "ByT5Tokenizer":  # its tokens are bytes, it needs no list of them
        either = ["tokenizer_config.json"]
    elif "Tokenizer" in kind:
        either = ["tokenizer.json", "spiece.model", "vocab.json", "vocab.txt"]
    elif kind.endswith("Scheduler"):
        either = ["scheduler_config.json"]
    elif kind.endswith("Guidance"):
        either = ["guider_config.json"]
    elif kind.endswith(("Processor", "ProcessorPil", "FeatureExtractor")):
        either = ["preprocessor_config.json", "processor_config.json"]
    else:
        return _missing_in_model(folder)
    if any((folder / name).is_file() for name in either):
        return []
    return [f"{folder.name}/{either[0]}"]


def _missing_in_model(folder: Path) -> list[str]:
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    if not any((folder / name).is_file() for name in WHOLE_FILES):
        indexes = sorted(folder.glob(f"*{INDEX}"))
        if not indexes and len(other_files(folder)) != 1:
            missing.append("*.safetensors")
        for index in indexes[:1]:
            parts = parts_of(index)
            missing += [part.name for part in parts if not part.exists()]
    return [f"{folder.name}/{name}" for name in missing]


def _how_to_get_folder(
    variant: ModelVariant,
    settings: Settings,
    places: list[Path],
    without: frozenset[str],
) -> str:
    searched = ", ".join(str(place) for place in places)
    if variant.hub:
        searched += " and the Hugging Face cache"
        target = settings.root / "ckpts" / variant.folder
        remedy = (
            f"Get {_whole_size(variant, without)} with: hf download {variant.hub} "
            f"--local-dir {target}"
        )
        for component in sorted(without):
            remedy += f' --exclude "{component}/*{WEIGHTS_SUFFIX}*"'
    else:
        remedy = f"They come with the app, in {PROJECT / 'ckpts' / variant.folder}, "
        remedy += "once they are trained: restore that folder from the repository, or "
        remedy += "train them as demo/README.md says"
    partial = [
        f"{place} lacks {_listed(missing_files(place, without))}"
        for place in places
        if place.is_dir()
    ]
    if partial:
        return f"{variant.id} isn't complete: {'; '.join(partial)}. {remedy}"
    return f"the files of {variant.id} aren't in {searched}. {remedy}"


def _whole_size(variant: ModelVariant, without: frozenset[str]) -> str:
    return "them" if without else f"the {variant.gigabytes:.0f} GB"


def _how_to_get_files(
    variant: ModelVariant, settings: Settings, missing: list[WeightFile]
) -> str:
    names = _listed([_with_size(file) for file in missing])
    bases = ", ".join(str(base) for base in settings.weights)
    told = (
        f"{variant.id} lacks {names}. They aren't in {bases}, in a folder "
        f"{variant.folder} there, nor in the Hugging Face cache"
    )
    commands = " && ".join(
        _how_to_get(file, variant.id) for file in missing if file.is_published
    )
    return f"{told}. Get them with: {commands}" if commands else told


def _with_size(file: WeightFile) -> str:
    return f"{file.name} ({file.gigabytes:.1f} GB)" if file.gigabytes else file.name


def _how_to_get(file: WeightFile, model: str) -> str:
    if file.url:
        return f"python wgp.py --download {model}"
    command = f"hf download {file.repository}"
    if file.is_folder:
        return f'{command} --include "{file.path}/*"' if file.path else command
    return f"{command} {file.path}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
