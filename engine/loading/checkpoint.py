"""From a component's folder or single file to its diffusers or transformers class."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.family import OnComponent
from engine.loading import quantised
from engine.loading.interrupt import check_load
from engine.loading.matching import (
    Match,
    first,
    is_from_transformers,
    match,
    unreadable,
)
from engine.loading.reading import read_weights
from engine.loading.stored import read_stored
from engine.loading.weights import BASE

if TYPE_CHECKING:
    import torch

FULL_PRECISION = "float32"


def network_loader(
    weights: Mapping[str, Path], dtype: str, on_component: OnComponent
) -> Callable[..., Any]:
    """``network(name, kind, precision=dtype)``, which loads the component ``name`` of a
    model as ``load_component`` does, and tells ``on_component`` before."""

    def network(name: str, kind: Any, precision: str = dtype) -> Any:
        on_component(name.replace("_", " "))
        config = base_config(kind, weights, name)
        return load_component(kind, weights[name], precision, config)

    return network


def load_component(
    kind: Any, place: Path, dtype: str, config: Mapping[str, Any] | None = None
) -> Any:
    """The network of class ``kind`` in ``place``, in evaluation mode, on the CPU.

    ``place`` is a folder with one network, the index of a file in parts, or a
    safetensors or GGUF file, in diffusers' or its authors' names. Its configuration
    comes from the ``config.json`` beside it, or from its shapes, completed by
    ``config``. ``dtype`` is torch's name of its precision; modules that the class
    keeps in float32 stay so. int8 weights stay in 8 bits unless ``dtype`` is float32,
    which is for CPUs; other packed weights become plain ones. Everything is checked
    by the headers before a tensor is read.

    Raises ``UnreadableFile`` that names what doesn't fit.
    """
    found = check_component(kind, place, config)
    kept = kept_in_float32(kind, dtype)
    in_8_bits = set() if dtype == FULL_PRECISION else _in_8_bits(found, kept)
    if in_8_bits:
        quantised.quantise_modules(found.network, sorted(in_8_bits))
    tensors = read_weights(found, _dtypes(found, kept, dtype), in_8_bits)
    _assign(found.network, tensors)
    return found.network.eval()


def check_component(
    kind: Any, place: Path, config: Mapping[str, Any] | None = None
) -> Match:
    """The network without its weights, and where they are. Reads headers only.

    Raises ``UnreadableFile`` that names what doesn't fit.
    """
    found = match(kind, read_stored(place), config or {})
    found.check()
    return found


def base_config(
    kind: Any, weights: Mapping[str, Path], component: str
) -> dict[str, Any]:
    """The configuration that a component's file has from the model that it is based
    on, if it is; for ``load_component``. Raises ``UnreadableFile``."""
    folder = weights.get(f"{component}{BASE}")
    return {} if folder is None else stored_config(kind, folder)


def stored_config(kind: Any, folder: Path) -> dict[str, Any]:
    """What ``config.json`` in ``folder`` says, for the class ``kind``. Raises
    ``UnreadableFile``."""
    try:
        if is_from_transformers(kind):
            reader = kind.config_class.from_pretrained
            return dict(reader(folder, local_files_only=True).to_dict())
        config = kind.load_config(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise unreadable(folder, error) from error
    return {key: value for key, value in config.items() if not key.startswith("_")}


def load_tokenizer(kind: Any, folder: Path) -> Any:
    """The tokenizer in ``folder``; raises ``UnreadableFile``."""
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise unreadable(folder, error) from error


def kept_in_float32(kind: Any, dtype: str) -> set[str]:
    """Names of modules that stay in float32 when ``kind`` is loaded in ``dtype``, as
    its own ``from_pretrained`` has it."""
    names = set(getattr(kind, "_keep_in_fp32_modules_strict", None) or ())
    if not is_from_transformers(kind) or dtype == "float16":
        names |= set(getattr(kind, "_keep_in_fp32_modules", None) or ())
    return names


def _in_8_bits(found: Match, kept: Collection[str]) -> set[str]:
    """Names of the linear layers' weights that can be computed with as they are."""
    from torch.nn import Linear

    weights = found.stored.weights
    return {
        name
        for name, pieces in found.sources.items()
        if all(weights[piece.name].is_int8 for piece in pieces)
        and isinstance(found.network.get_submodule(name.rpartition(".")[0]), Linear)
        and not _is_kept(name, kept)
    }


def _dtypes(found: Match, kept: Collection[str], dtype: str) -> dict[str, torch.dtype]:
    import torch

    wanted = getattr(torch, dtype)
    return {
        name: torch.float32 if _is_kept(name, kept) else wanted
        for name in found.sources
    }


def _is_kept(name: str, kept: Collection[str]) -> bool:
    return not set(kept).isdisjoint(name.split("."))


def _assign(network: Any, tensors: Mapping[str, torch.Tensor]) -> None:
    check_load()
    network.load_state_dict(tensors, strict=False, assign=True)
    if hasattr(network, "tie_weights"):
        network.tie_weights()
    network.requires_grad_(False)
    empty = [n for n, t in network.state_dict().items() if t.device.type == "meta"]
    if empty:
        raise RuntimeError(f"no weights for {first(tuple(empty))}")
