"""Which tensor of a file is which weight of a network: found by names and shapes alone,
before a tensor is read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import UnreadableFile
from engine.loading import quantised
from engine.loading.header import damaged
from engine.loading.layouts.layout import (
    Layout,
    Rows,
    Shapes,
    Sources,
    rows_of,
    whole,
)
from engine.loading.layouts.table import (
    described,
    is_in_authors_names,
    layout_of,
    networks_in,
    own_names,
    prefix_of,
)
from engine.loading.stored import Stored

OTHER_PARTS = (
    *("decoder.", "lm_head.", "vision_tower.", "visual.", "text_model."),
    *("vision_model.", "multi_modal_projector.", "visual_projection."),
    *("text_projection.", "logit_scale", "logit_bias"),
)
"""Of larger models, of which transformers' classes take the part that they know."""

FORGOTTEN = re.compile(r"(position_ids|rotary_emb\.inv_freq)$")
"""Numbers that transformers once stored and now makes."""

AUTHORS_CLASSES = {"WanModel", "VaceWanModel", "SkyReelsV2Model"}
"""In the ``config.json`` of folders that aren't in diffusers layout."""

NUMBERS = ("F16", "F32", "F64", "F8_", "BF", "Q", "IQ")
"""How the names of the precisions begin that weights have."""

MOST_ROWS = 30_000_000
"""Of all weights of a network together; the largest have a tenth of it. A damaged
file may claim any number in a few bytes."""

NO_SUCH_SIZES = (
    *(KeyError, ValueError, IndexError, RuntimeError),
    *(ArithmeticError, AssertionError, AttributeError, TypeError),
)
"""What converters and classes raise when they are given the shapes of another."""


@dataclass(frozen=True)
class Match:
    """A network without its weights, and where they come from."""

    network: Any
    """On the meta device."""
    stored: Stored
    layout: Layout
    sources: Sources
    """By the network's names."""
    shapes: Shapes
    """Of the weights in the file, by the network's names."""
    naming: str
    """Whose names the file has, in words."""
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    different: tuple[str, ...]
    """What is of another shape or kind, in words."""

    def check(self) -> None:
        """Raises ``UnreadableFile`` unless the file has exactly the network's weights;
        it names the first that don't fit."""
        faults = []
        if self.missing:
            faults.append(f"lacks {first(self.missing)}")
        if self.unexpected:
            named = first(self.unexpected)
            faults.append(f"has {named}, which the model doesn't know")
        if self.different:
            faults.append(f"has {first(self.different)}")
        if faults:
            is_folder = self.stored.place.is_dir()
            remedy = (
                "Get its files again, config.json too"
                if is_folder
                else "Use the file that belongs to the model"
            )
            raise UnreadableFile(
                f"{self.stored.place} doesn't fit the {self.layout.title} of this "
                f"model: it {'; it '.join(faults)}. {remedy}"
            )


def match(kind: Any, stored: Stored, config: Mapping[str, Any]) -> Match:
    """Find the weights of the class ``kind`` in ``stored``. ``config`` completes what
    shapes, or the folder's own ``config.json``, tell of its configuration.

    Raises ``UnreadableFile`` for a file of another network.
    """
    layout = layout_of(kind.__name__)
    own = own_names(layout, stored.weights)
    by_authors = is_in_authors_names(layout, own)
    file_shapes = {new: stored.weights[old].info.shape for new, old in own.items()}
    if sum(rows_of(shape) for shape in file_shapes.values()) > MOST_ROWS:
        raise damaged(stored.place, "its weights have more rows than any network's")
    try:
        sources = layout.rename(file_shapes) if by_authors else whole(file_shapes)
        shapes = _shapes_from(sources, file_shapes)
        network = _build(kind, stored, layout, shapes, config)
    except NO_SUCH_SIZES as error:
        raise another_network(layout, stored) from error
    sources, shapes = _in_present_names(network, sources, shapes)
    wanted = shapes_of(network)
    if not wanted.keys() & shapes.keys() or _is_another(layout, stored):
        raise another_network(layout, stored)
    for name in set(shapes) - wanted.keys():
        if _is_left_out(kind, name):
            del sources[name], shapes[name]
    return Match(
        network=network,
        stored=stored,
        layout=layout,
        sources={
            name: tuple(Rows(own[r.name], r.start, r.stop) for r in rows)
            for name, rows in sources.items()
        },
        shapes=shapes,
        naming=_naming(layout, own, by_authors=by_authors),
        missing=tuple(sorted(wanted.keys() - shapes.keys())),
        unexpected=tuple(sorted(shapes.keys() - wanted.keys())),
        different=tuple(_different(network, stored, own, sources, shapes)),
    )


def _build(
    kind: Any, stored: Stored, layout: Layout, shapes: Shapes, config: Mapping[str, Any]
) -> Any:
    """The network on the meta device. Raises ``UnreadableFile`` for a broken
    ``config.json``, ``KeyError`` or ``ValueError`` when shapes aren't the network's."""
    from accelerate import init_empty_weights

    folder = stored.config
    with init_empty_weights():
        if folder is None or _is_authors_config(kind, folder):
            whole_config = {**layout.config(shapes), **config}
            if is_from_transformers(kind):
                return kind(kind.config_class(**whole_config))
            return kind(**whole_config)
        try:
            if is_from_transformers(kind):
                reader = kind.config_class.from_pretrained
                return kind(reader(folder, local_files_only=True))
            return kind.from_config(kind.load_config(folder, local_files_only=True))
        except (OSError, *NO_SUCH_SIZES) as error:
            raise unreadable(folder, error) from error


def _is_authors_config(kind: Any, folder: Path) -> bool:
    """Whether the folder is as the network's authors publish it, whose configuration
    is that of another class."""
    if is_from_transformers(kind):
        return False
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        name = found.get("_class_name")
    except (OSError, ValueError, AttributeError):
        return False  # diffusers says what is wrong with it
    return name in AUTHORS_CLASSES


def _shapes_from(sources: Sources, file_shapes: Shapes) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for name, pieces in sources.items():
        shape = file_shapes[pieces[0].name] if pieces else (0,)
        rows = sum(piece.stop - piece.start for piece in pieces)
        shapes[name] = (rows, *shape[1:]) if shape else shape
    return shapes


def _in_present_names(
    network: Any, sources: Sources, shapes: Shapes
) -> tuple[Sources, dict[str, tuple[int, ...]]]:
    """transformers has given some modules other names since files were written, and
    still writes the older ones; and of weights that are one it writes only one."""
    names = _present_names(network, sources)
    sources = {names[old]: rows for old, rows in sources.items()}
    present = {names[old]: shape for old, shape in shapes.items()}
    wanted = network.state_dict().keys()
    for one, other in _ties(type(network)):
        for name, partner in ((one, other), (other, one)):
            if name in wanted and name not in sources and partner in sources:
                sources[name], present[name] = sources[partner], present[partner]
    return sources, present


def _present_names(network: Any, names: Iterable[str]) -> dict[str, str]:
    """Name in a file → name in ``network``."""
    renamed = {name: name for name in names}
    if not is_from_transformers(type(network)):
        return renamed
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming

    for step in get_model_conversion_mapping(network):
        if isinstance(step, WeightRenaming):
            for old, name in renamed.items():
                renamed[old], _ = step.rename_source_key(name)
    return renamed


def _ties(kind: Any) -> list[tuple[str, str]]:
    """Pairs of names of one and the same weight, of which files may have one."""
    tied = getattr(kind, "_tied_weights_keys", None) or {}
    return list(tied.items()) if isinstance(tied, dict) else []


def shapes_of(network: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in network.state_dict().items()}


def _different(
    network: Any,
    stored: Stored,
    own: Mapping[str, str],
    sources: Sources,
    shapes: Shapes,
) -> list[str]:
    """What is of another shape, of no precision that weights have, or without the
    scale that such weights have in this file."""
    from torch.nn import Linear

    linear = {
        f"{n}.weight" for n, m in network.named_modules() if isinstance(m, Linear)
    }
    prefix = prefix_of(dict(own))
    in_scales = quantised.has_scales(
        name for name in stored.tensors if name.startswith(prefix)
    )
    found = []
    for name, tensor in network.state_dict().items():
        if name not in shapes:
            continue
        if shapes[name] != tuple(tensor.shape):
            found.append(
                f"{name} of shape {shapes[name]} instead of {tuple(tensor.shape)}"
            )
            continue
        for piece in sources[name]:
            weight = stored.weights[own[piece.name]]
            dtype, is_scaled = weight.info.dtype, weight.scale is not None
            is_number = dtype.startswith(NUMBERS) or is_scaled
            if tensor.is_floating_point() and not is_number:
                found.append(f"{name} in precision {dtype}, which isn't a weight's")
            elif (
                dtype in quantised.FP8
                and in_scales
                and not is_scaled
                and name in linear
            ):
                found.append(f"{name} in 8 bits without its scale")
    return sorted(found)


def _is_left_out(kind: Any, name: str) -> bool:
    """Whether the class is meant to be loaded without it."""
    patterns = getattr(kind, "_keys_to_ignore_on_load_unexpected", None) or ()
    if any(re.search(pattern, name) for pattern in patterns):
        return True
    is_other = name.startswith(OTHER_PARTS) or FORGOTTEN.search(name) is not None
    return is_from_transformers(kind) and is_other


def _is_another(layout: Layout, stored: Stored) -> bool:
    """Whether the file is told by its names, and not as this network."""
    found = networks_in(stored.weights)
    titles = {each.title for each in found.values()}
    same = {each.component for each in found.values()}
    return layout.component in same and layout.title not in titles


def _naming(layout: Layout, own: dict[str, str], *, by_authors: bool) -> str:
    library = "diffusers" if layout.family else "transformers"
    names = "its authors' names" if by_authors else f"{library}' names"
    prefix = prefix_of(own)
    return f"{names} after {prefix}" if prefix else names


def is_from_transformers(kind: Any) -> bool:
    """Or from diffusers, whose configurations are plain arguments."""
    return getattr(kind, "config_class", None) is not None


def another_network(layout: Layout, stored: Stored) -> UnreadableFile:
    return UnreadableFile(
        f"{stored.place} has no {layout.title}: it holds {described(stored.weights)}. "
        "Use the file that belongs to the model"
    )


def first(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more tensors"


def unreadable(place: Any, error: Exception) -> UnreadableFile:
    reason = str(error).strip().splitlines()
    return UnreadableFile(
        f"can't load {place}: {reason[0] if reason else type(error).__name__}. Get "
        "its files again"
    )
