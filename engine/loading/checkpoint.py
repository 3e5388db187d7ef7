"""From a component's folder or single file to its diffusers or transformers class."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UnreadableFile
from engine.loading import quantised
from engine.loading.header import TensorInfo, read_header
from engine.loading.interrupt import check_load
from engine.loading.layouts import Layout, layout_of, own_names, recognise

if TYPE_CHECKING:
    import torch

FULL_PRECISION = "float32"

ALIGNMENT = 64
"""In bytes, of what torch allocates itself."""


def load_component(
    kind: Any, place: Path, dtype: str, config: Mapping[str, Any] | None = None
) -> Any:
    """The network of class ``kind`` in ``place``, in evaluation mode, on the CPU.

    ``place`` is a folder in diffusers layout, or a safetensors file in that or its
    authors' names; ``config`` then completes what its shapes tell of the class's
    configuration. ``dtype`` is torch's name of its precision; modules that the class
    keeps in float32 stay so. 8-bit weights stay in 8 bits unless ``dtype`` is
    float32, which is for CPUs. Raises ``UnreadableFile`` that names what doesn't fit.
    """
    if place.is_file():
        return _load_file(kind, place, dtype, dict(config or {}))
    return _load_folder(kind, place, dtype)


def load_tokenizer(kind: Any, folder: Path) -> Any:
    """The tokenizer in ``folder``; raises ``UnreadableFile``."""
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(folder, error) from error


def _load_folder(kind: Any, folder: Path, dtype: str) -> Any:
    """From diffusers' layout. Own reading, so that a cancel acts in it."""
    from accelerate import init_empty_weights

    try:
        with init_empty_weights():
            if _is_from_transformers(kind):
                reader = kind.config_class.from_pretrained
                network = kind(reader(folder, local_files_only=True))
            else:
                config = kind.load_config(folder, local_files_only=True)
                network = kind.from_config(config)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _unreadable(folder, error) from error
    found = {
        name: (file, tensor.shape)
        for file in weight_files(folder)
        for name, tensor in read_header(file).tensors.items()
    }
    names = _present_names(network, found)
    sources = {names[old]: (file, old) for old, (file, _) in found.items()}
    shapes = {names[old]: shape for old, (_, shape) in found.items()}
    wanted = _shapes_of(network)
    for one, other in _ties(kind):
        for name, partner in ((one, other), (other, one)):
            if name in wanted and name not in sources and partner in sources:
                sources[name], shapes[name] = sources[partner], shapes[partner]
    missing = sorted(wanted.keys() - sources.keys())
    if missing:
        raise UnreadableFile(
            f"{folder} lacks {len(missing)} tensors, among them {missing[0]}: get its "
            "files again"
        )
    sources = {name: sources[name] for name in wanted}
    different = _different(wanted, shapes)
    if different:
        raise UnreadableFile(
            f"{folder} has {_first(different)}: get its files again, config.json too"
        )
    tensors = _read(sources, set(), keep_8_bits=False)
    _assign(network, tensors, kept_in_float32(kind, dtype), dtype)
    return network.eval()


def _present_names(network: Any, names: Iterable[str]) -> dict[str, str]:
    """Name in a file → name in ``network``: transformers has given some modules other
    names since files were written, and still writes the older ones."""
    renamed = {name: name for name in names}
    if not _is_from_transformers(type(network)):
        return renamed
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming

    for step in get_model_conversion_mapping(network):
        if isinstance(step, WeightRenaming):
            for old, name in renamed.items():
                renamed[old], _ = step.rename_source_key(name)
    return renamed


def weight_files(folder: Path) -> list[Path]:
    """The safetensors file of a network in diffusers layout, or its parts.

    Raises ``UnreadableFile``.
    """
    for name in ("diffusion_pytorch_model.safetensors", "model.safetensors"):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            try:
                weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
                return [folder / part for part in sorted(set(weight_map.values()))]
            except (OSError, ValueError, KeyError, AttributeError) as error:
                raise _unreadable(index, error) from error
    raise UnreadableFile(f"{folder} has no weights in safetensors: get its files again")


def _ties(kind: Any) -> list[tuple[str, str]]:
    """Pairs of names of one and the same weight, of which files may have one."""
    tied = getattr(kind, "_tied_weights_keys", None) or {}
    return list(tied.items()) if isinstance(tied, dict) else []


def _shapes_of(network: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(t.shape) for name, t in network.state_dict().items()}


def _different(
    wanted: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]]
) -> list[str]:
    return sorted(
        f"{name} of shape {shapes[name]} instead of {shape}"
        for name, shape in wanted.items()
        if name in shapes and shapes[name] != shape
    )


def _load_file(kind: Any, file: Path, dtype: str, config: dict[str, Any]) -> Any:
    """Everything is checked by the header before a tensor is read."""
    layout = layout_of(kind.__name__)
    if layout is None:
        raise UnreadableFile(
            f"{file}: {kind.__name__} can be loaded from a folder in diffusers layout "
            "only, not from a single file"
        )
    header = read_header(file)
    plain, quantised_names = quantised.fold(header.tensors)
    own = own_names(layout, list(plain))
    renamed = _rename(layout, file, plain, own)
    shapes = {new: plain[old].shape for new, old in renamed.items()}
    try:
        whole = {**layout.config(shapes), **config}
    except (KeyError, ValueError) as error:
        raise _another_network(layout, file, plain) from error
    network = _build_empty(kind, whole)
    _check_shapes(network, layout, file, shapes, plain)
    is_kept = dtype != FULL_PRECISION
    in_8_bits = [new for new, old in renamed.items() if old in quantised_names]
    if in_8_bits and is_kept:
        quantised.quantise_modules(network, in_8_bits)
    sources = {new: (file, old) for new, old in renamed.items()}
    tensors = _read(sources, quantised_names, keep_8_bits=is_kept)
    if not is_kept:
        tensors = {name: _aligned(tensor) for name, tensor in tensors.items()}
    _assign(network, tensors, kept_in_float32(kind, dtype), dtype)
    return network.eval()


def _rename(
    layout: Layout,
    file: Path,
    plain: Mapping[str, TensorInfo],
    own: Mapping[str, str],
) -> dict[str, str]:
    """Name in the network → name in the file."""
    try:
        renamed = layout.rename({name: plain[old].shape for name, old in own.items()})
    except (KeyError, IndexError) as error:
        raise _another_network(layout, file, plain) from error
    return {new: own[name] for new, name in renamed.items()}


def _build_empty(kind: Any, config: Mapping[str, Any]) -> Any:
    """The network without its weights."""
    from accelerate import init_empty_weights

    with init_empty_weights():
        if _is_from_transformers(kind):
            return kind(kind.config_class(**config))
        return kind(**config)


def _check_shapes(
    network: Any,
    layout: Layout,
    file: Path,
    shapes: Mapping[str, tuple[int, ...]],
    in_file: Iterable[str],
) -> None:
    """Raises ``UnreadableFile`` unless the file has exactly the network's tensors."""
    wanted = _shapes_of(network)
    if not wanted.keys() & shapes.keys():
        raise _another_network(layout, file, in_file)
    faults = []
    if missing := sorted(wanted.keys() - shapes.keys()):
        faults.append(f"lacks {_first(missing)}")
    if unexpected := sorted(shapes.keys() - wanted.keys()):
        faults.append(f"has {_first(unexpected)}, which the model doesn't know")
    if different := _different(wanted, shapes):
        faults.append(f"has {_first(different)}")
    if faults:
        raise UnreadableFile(
            f"{file} doesn't fit the {layout.title} of this model: it "
            f"{'; it '.join(faults)}. Use the file that belongs to the model"
        )


def _read(
    sources: Mapping[str, tuple[Path, str]], in_8_bits: set[str], *, keep_8_bits: bool
) -> dict[str, torch.Tensor]:
    """The tensors by the network's names, from the files and names in ``sources``."""
    from safetensors import SafetensorError, safe_open

    tensors = {}
    with ExitStack() as stack:
        opened = {}
        for new, (file, old) in sources.items():
            check_load()
            try:
                if file not in opened:
                    opened[file] = stack.enter_context(safe_open(file, framework="pt"))
                get_tensor = opened[file].get_tensor
                if old not in in_8_bits:
                    tensors[new] = get_tensor(old)
                    continue
                data = get_tensor(old + quantised.DATA)
                scale = get_tensor(old + quantised.SCALE)
            except (OSError, SafetensorError) as error:
                raise _unreadable(file, error) from error
            if keep_8_bits:
                tensors[new + quantised.DATA] = _aligned(data)
                tensors[new + quantised.SCALE] = _aligned(scale)
            else:
                tensors[new] = quantised.dequantise(data, scale)
    return tensors


def _aligned(tensor: torch.Tensor) -> torch.Tensor:
    """A file's tensors are mapped into memory and lie anywhere in it. On addresses
    that aren't aligned a CPU's float kernels round otherwise, so that the same weights
    from another file would give another video, and its int8 kernels crash."""
    return tensor if tensor.data_ptr() % ALIGNMENT == 0 else tensor.clone()


def _assign(
    network: Any, tensors: dict[str, torch.Tensor], kept: Iterable[str], dtype: str
) -> None:
    import torch

    wanted = getattr(torch, dtype)
    kept = set(kept)
    for name, tensor in tensors.items():
        check_load()
        if tensor.is_floating_point():
            in_float32 = not kept.isdisjoint(name.split("."))
            tensors[name] = tensor.to(torch.float32 if in_float32 else wanted)
    network.load_state_dict(tensors, strict=False, assign=True)
    if hasattr(network, "tie_weights"):
        network.tie_weights()
    network.requires_grad_(False)
    empty = [n for n, t in network.state_dict().items() if t.device.type == "meta"]
    if empty:
        raise RuntimeError(f"no weights for {_first(empty)}")


def kept_in_float32(kind: Any, dtype: str) -> set[str]:
    """Names of modules that stay in float32 when ``kind`` is loaded in ``dtype``, as
    its own ``from_pretrained`` has it."""
    names = set(getattr(kind, "_keep_in_fp32_modules_strict", None) or ())
    if not _is_from_transformers(kind) or dtype == "float16":
        names |= set(getattr(kind, "_keep_in_fp32_modules", None) or ())
    return names


def _is_from_transformers(kind: Any) -> bool:
    """Or from diffusers, whose configurations are plain arguments."""
    return getattr(kind, "config_class", None) is not None


def _another_network(
    layout: Layout, file: Path, names: Iterable[str]
) -> UnreadableFile:
    found = recognise(list(names))
    what = " and ".join(found) if found else "something unknown"
    return UnreadableFile(
        f"{file} has no {layout.title}: it holds {what}. Use the file that belongs to "
        "the model"
    )


def _first(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more tensors"


def _unreadable(place: Path, error: Exception) -> UnreadableFile:
    reason = str(error).strip().splitlines()
    return UnreadableFile(
        f"can't load {place}: {reason[0] if reason else type(error).__name__}. Get "
        "its files again"
    )
