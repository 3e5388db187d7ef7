"""Where a model's files are, and what to do when they aren't."""

from __future__ import annotations

import json
from pathlib import Path

from engine.errors import MissingWeights, UnreadableFile
from engine.family import ModelVariant
from engine.settings import PROJECT, Settings


def find_weights(variant: ModelVariant, settings: Settings) -> dict[str, Path]:
    """Each component's folder in diffusers layout. Downloads nothing.

    Raises ``MissingWeights`` that names what is missing, the places that were
    searched, and the command that gets it.
    """
    if not variant.folder:
        return {}
    partial: list[str] = []
    places = _places(variant, settings)
    for folder in places:
        if not folder.is_dir():
            continue
        missing = missing_files(folder)
        if not missing:
            return components_in(folder)
        partial.append(f"{folder} lacks {_listed(missing)}")
    raise MissingWeights(_how_to_get(variant, settings, places, partial))


def components_in(folder: Path) -> dict[str, Path]:
    """The parts of a model in diffusers layout: its sub-folders by their names."""
    return {part.name: part for part in sorted(folder.iterdir()) if part.is_dir()}


def missing_files(folder: Path) -> list[str]:
    """The files, relative to ``folder``, that its ``model_index.json`` calls for and
    that aren't there."""
    index = folder / "model_index.json"
    if not index.is_file():
        return [index.name]
    try:
        components = json.loads(index.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UnreadableFile(f"{index} isn't JSON: {error}") from error
    missing: list[str] = []
    for name, kind in components.items():
        if name.startswith("_") or not isinstance(kind, list) or kind[1] is None:
            continue
        missing += _missing_in(folder / name, str(kind[1]))
    return missing


def _places(variant: ModelVariant, settings: Settings) -> list[Path]:
    """Folders to search, the user's own first, the hub's cache last."""
    places = [base / variant.folder for base in settings.weights]
    snapshot = _cached_snapshot(variant.hub) if variant.hub else None
    return [*places, snapshot] if snapshot else places


def _cached_snapshot(repository: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, "model_index.json")
    return Path(found).parent if isinstance(found, str) else None


def _missing_in(folder: Path, kind: str) -> list[str]:
    """Which files of one component are missing; ``kind`` is its class."""
    if "Tokenizer" in kind:
        either = ["tokenizer.json", "spiece.model", "vocab.json", "vocab.txt"]
    elif kind.endswith("Scheduler"):
        either = ["scheduler_config.json"]
    elif kind.endswith(("Processor", "FeatureExtractor")):
        either = ["preprocessor_config.json", "processor_config.json"]
    else:
        return _missing_in_model(folder)
    if any((folder / name).is_file() for name in either):
        return []
    return [f"{folder.name}/{either[0]}"]


def _missing_in_model(folder: Path) -> list[str]:
    missing = [] if (folder / "config.json").is_file() else ["config.json"]
    whole = ("diffusion_pytorch_model.safetensors", "model.safetensors")
    if not any((folder / name).is_file() for name in whole):
        indexes = sorted(folder.glob("*.safetensors.index.json"))
        if not indexes:
            missing.append("*.safetensors")
        for index in indexes[:1]:
            shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
            missing += [name for name in sorted(shards) if not (folder / name).exists()]
    return [f"{folder.name}/{name}" for name in missing]


def _how_to_get(
    variant: ModelVariant, settings: Settings, places: list[Path], partial: list[str]
) -> str:
    searched = ", ".join(str(place) for place in places)
    if variant.hub:
        searched += " and the Hugging Face cache"
        target = settings.root / "ckpts" / variant.folder
        remedy = (
            f"Get the {variant.gigabytes:.0f} GB with: hf download {variant.hub} "
            f"--local-dir {target}"
        )
    else:
        remedy = f"They come with the app, in {PROJECT / 'ckpts' / variant.folder}: "
        remedy += "restore that folder from the repository"
    if partial:
        return f"{variant.id} isn't complete: {'; '.join(partial)}. {remedy}"
    return f"the files of {variant.id} aren't in {searched}. {remedy}"


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
