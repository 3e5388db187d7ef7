"""Says what a checkpoint or a LoRA is, and whether a model could use it, by its headers
alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.errors import MissingWeights, UnreadableFile
from engine.family import ModelVariant
from engine.loading.checkpoint import stored_config
from engine.loading.layouts.table import is_lora, layout_of, networks_in
from engine.loading.matching import Match, match, shapes_of
from engine.loading.networks import class_name, find_class
from engine.loading.stored import Stored, read_stored
from engine.loading.weights import find_weights
from engine.lora.plan import Which
from engine.lora.report import describe, plan_for
from engine.settings import Settings

MOST_NAMES = 10
"""Of tensors that don't fit, in a report."""

WHOLE_MODEL = "model_index.json"


@dataclass(frozen=True)
class NetworkReport:
    """What the loader found about one network in a file."""

    network: str
    component: str
    family: str
    kind: str
    """Name of the class in diffusers or transformers."""
    layout: str
    matched: int
    """Tensors of the network that the file has."""
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    different: tuple[str, ...]


def inspect_weights(
    place: Path, variant: ModelVariant | None, settings: Settings
) -> dict[str, Any]:
    """What ``place`` holds: a file, the index of its parts, or a folder; as the values
    of a JSON object. With ``variant`` it is held against that model.

    Raises ``UnreadableFile`` when it is damaged; what is sound but doesn't fit is
    reported with ``usable`` false and the ``reason``.
    """
    if (place / WHOLE_MODEL).is_file():
        return _inspect_model(place, variant, settings)
    stored = read_stored(place)
    if is_lora(stored.weights):
        return _inspect_lora(stored, variant, settings)
    report: dict[str, Any] = {
        "kind": "checkpoint",
        "container": stored.container,
        "files": len(stored.headers),
        "precision": stored.precision,
        "tensors": len(stored.tensors),
    }
    found, reasons = [], []
    names = _classes_in(stored)
    for name in names:
        try:
            network = _match(name, stored, variant, settings)
        except UnreadableFile as error:
            reasons.append(str(error))
            continue
        found.append(_network_report(name, network))
        try:
            network.check()
        except UnreadableFile as error:
            reasons.append(str(error))
    if not found and not reasons:
        reasons.append(
            f"{place} holds no network that is known by the names of its tensors"
        )
    families = {layout_of(name).family for name in names} - {""}
    family = {"family": next(iter(families), None)}
    return report | family | _summary(found) | _verdict(reasons)


def _classes_in(stored: Stored) -> list[str]:
    if stored.config is not None and (name := class_name(stored)):
        return [name]
    return list(networks_in(stored.weights))


def _match(
    name: str, stored: Stored, variant: ModelVariant | None, settings: Settings
) -> Match:
    """Against the row's own class and configuration, where its files are here."""
    layout = layout_of(name)
    if variant is not None and layout.family not in ("", variant.family):
        raise UnreadableFile(
            f"{stored.place} holds a {layout.title}, which is for another family of "
            f"models than {variant.id}. Use the file that belongs to the model"
        )
    config: Mapping[str, Any] = {}
    if variant is not None and (own := _own_files(variant, layout.component, settings)):
        name = class_name(own) or name
        config = _config_of(name, own)
    kind = find_class(name)
    if kind is None:
        raise UnreadableFile(
            f"{stored.place} is for {name}, a class that this app doesn't know"
        )
    return match(kind, stored, config)


def _own_files(
    variant: ModelVariant, component: str, settings: Settings
) -> Stored | None:
    """The row's own files for this component."""
    try:
        place = find_weights(variant, settings).get(component)
        return read_stored(place) if place is not None else None
    except (MissingWeights, UnreadableFile):
        return None


def _config_of(name: str, own: Stored) -> dict[str, Any]:
    kind = find_class(name)
    if own.config is None or kind is None:
        return {}
    return stored_config(kind, own.config)


def _network_report(name: str, found: Match) -> NetworkReport:
    return NetworkReport(
        network=found.layout.title,
        component=found.layout.component,
        family=found.layout.family,
        kind=name,
        layout=found.naming,
        matched=len(found.shapes) - len(found.unexpected) - len(found.different),
        missing=found.missing,
        unexpected=found.unexpected,
        different=found.different,
    )


def _summary(found: list[NetworkReport]) -> dict[str, Any]:
    unmatched = sum(
        len(each.missing) + len(each.unexpected) + len(each.different) for each in found
    )
    networks = [
        {
            key: list(value[:MOST_NAMES]) if isinstance(value, tuple) else value
            for key, value in asdict(each).items()
            if key not in ("missing", "unexpected", "different") or value
        }
        for each in found
    ]
    return {
        "layout": found[0].layout if found else None,
        "matched": sum(each.matched for each in found),
        "unmatched": unmatched,
        "networks": networks,
    }


def _verdict(reasons: list[str]) -> dict[str, Any]:
    if not reasons:
        return {"usable": True}
    return {"usable": False, "reason": "; ".join(reasons)}


def _inspect_model(
    folder: Path, variant: ModelVariant | None, settings: Settings
) -> dict[str, Any]:
    """A whole model in diffusers layout."""
    components = {
        part.name: inspect_weights(part, variant, settings)
        for part in sorted(folder.iterdir())
        if (part / "config.json").is_file()
    }
    parts = list(components.values())
    reasons = [part["reason"] for part in parts if not part["usable"]]
    families = [part["family"] for part in parts if part["family"]]
    return {
        "kind": "checkpoint",
        "container": "folder in diffusers layout",
        "family": families[0] if families else None,
        "layout": "diffusers' folder",
        "precision": {name: part["precision"] for name, part in components.items()},
        "tensors": sum(part["tensors"] for part in parts),
        "matched": sum(part["matched"] for part in parts),
        "unmatched": sum(part["unmatched"] for part in parts),
        "networks": [network for part in parts for network in part["networks"]],
        **_verdict(reasons),
    }


def _inspect_lora(
    stored: Stored, variant: ModelVariant | None, settings: Settings
) -> dict[str, Any]:
    file, header = next(iter(stored.headers.items()))
    report = describe(file, variant.family if variant else None)
    if variant is not None and not report.refusal:
        shapes = _transformer_shapes(variant, settings)
        if shapes is not None:
            is_pair = _own_files(variant, "transformer_2", settings) is not None
            which: Which = "any" if is_pair else "only"
            report = plan_for(file, variant.family, shapes, which)[1]
    return {
        "kind": "lora",
        "family": report.family,
        "types": list(report.kinds),
        "layout": ", ".join(report.styles),
        "precision": stored.precision,
        "ranks": list(report.ranks),
        "trigger_words": report.trigger_words,
        "tensors": len(header.tensors),
        "matched": report.matched,
        "unmatched": len(report.unmatched),
        "unmatched_tensors": list(report.unmatched[:MOST_NAMES]),
        "dropped": len(report.dropped),
        "dropped_tensors": dict(list(report.dropped.items())[:MOST_NAMES]),
        **_verdict([report.refusal] if report.refusal else []),
    }


def _transformer_shapes(
    variant: ModelVariant, settings: Settings
) -> Mapping[str, tuple[int, ...]] | None:
    """``None`` when there is no network here to hold a LoRA against."""
    own = _own_files(variant, "transformer", settings)
    name = class_name(own, "transformer") if own else None
    kind = find_class(name) if name else None
    if own is None or kind is None:
        return None
    return shapes_of(match(kind, own, {}).network)
