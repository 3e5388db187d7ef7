"""The files of one network, as they lie on the disk: which tensors they hold, by their
headers alone. Needs no torch."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engine.errors import UnreadableFile
from engine.loading.gguf_header import MAGIC, read_gguf_header
from engine.loading.header import Header, TensorInfo, read_header
from engine.loading.quantised import FP8, Weight, fold

WHOLE_FILES = ("diffusion_pytorch_model.safetensors", "model.safetensors")
WEIGHTS_SUFFIX = ".safetensors"
SUFFIXES = (WEIGHTS_SUFFIX, ".sft", ".gguf")
INDEX = ".safetensors.index.json"

LONGEST_NAME = 255
"""Of a file, in bytes."""

UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What JSON of another form raises when it is read and looked into."""

PRECISIONS = {"F32": "fp32", "BF16": "bf16", "F16": "fp16", "F64": "fp64"}


@dataclass(frozen=True)
class Stored:
    """The tensors of one network's files."""

    place: Path
    """The folder, the index of the parts, or the file."""
    headers: Mapping[Path, Header]
    """By their files."""
    config: Path | None = None
    """The folder whose ``config.json`` belongs to the network."""

    @cached_property
    def files(self) -> dict[str, Path]:
        """The file of each tensor."""
        return {
            name: file
            for file, header in self.headers.items()
            for name in header.tensors
        }

    @cached_property
    def tensors(self) -> dict[str, TensorInfo]:
        return {
            name: info
            for header in self.headers.values()
            for name, info in header.tensors.items()
        }

    @cached_property
    def weights(self) -> dict[str, Weight]:
        """What the tensors stand for."""
        return fold(self.tensors)

    @property
    def container(self) -> str:
        return next(iter(self.headers.values())).container

    @property
    def precision(self) -> str:
        """Of most of the weights, counted by their values."""
        counts: Counter[str] = Counter()
        for weight in self.weights.values():
            values = 1
            for length in weight.info.shape:
                values *= length
            counts[_precision(weight)] += values
        return counts.most_common(1)[0][0] if counts else "none"


def _precision(weight: Weight) -> str:
    dtype = weight.info.dtype
    if dtype in FP8:
        kind = "fp8" if dtype == "F8_E4M3" else "fp8 e5m2"
        return f"scaled {kind}" if weight.scale else kind
    if weight.is_int8:
        return "int8 (quanto)"
    return PRECISIONS.get(dtype, dtype)


def read_stored(place: Path) -> Stored:
    """The headers of the files in ``place``: a folder with one network, the index of a
    file in several parts, a safetensors file or a GGUF file.

    Raises ``UnreadableFile`` that says what is missing or damaged.
    """
    folder: Path | None = None
    if place.is_dir():
        folder, files = place, weight_files(place)
    elif place.name.endswith(".json"):
        folder, files = place.parent, parts_of(place)
    else:
        files = [place]
        if place.name in WHOLE_FILES:  # others may be of another network than it
            folder = place.parent
    has_config = folder is not None and (folder / "config.json").is_file()
    headers: dict[Path, Header] = {}
    seen: set[str] = set()
    for file in files:
        headers[file] = header = _read_header(file)
        for name in header.tensors.keys() & seen:
            raise UnreadableFile(f"{place} has {name} in two of its files")
        seen |= header.tensors.keys()
    return Stored(place, headers, folder if has_config else None)


def _read_header(file: Path) -> Header:
    try:
        with file.open("rb") as content:
            is_gguf = content.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise UnreadableFile(f"can't read {file}: {error.strerror}") from error
    return read_gguf_header(file) if is_gguf else read_header(file)


def weight_files(folder: Path) -> list[Path]:
    """The file of the network in ``folder``, or its parts: under diffusers' names, or
    the only one there.

    Raises ``UnreadableFile``.
    """
    for name in WHOLE_FILES:
        if (folder / name).is_file():
            return [folder / name]
    indexes = sorted(folder.glob(f"*{INDEX}"))
    if indexes:
        return parts_of(indexes[0])
    files = other_files(folder)
    if len(files) > 1:
        names = ", ".join(file.name for file in files[:3])
        raise UnreadableFile(
            f"{folder} has {len(files)} files and no index that says what belongs "
            f"together: {names}. Keep one of them there"
        )
    if not files:
        raise UnreadableFile(
            f"{folder} has no weights in safetensors: get its files again"
        )
    return files


def other_files(folder: Path) -> list[Path]:
    """Files of weights in ``folder``, whatever they are called."""
    if not folder.is_dir():
        return []
    return sorted(each for each in folder.iterdir() if each.suffix in SUFFIXES)


def parts_of(index: Path) -> list[Path]:
    """The files that the index of a network in parts names.

    Raises ``UnreadableFile``.
    """
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(weight_map.values()))
        are_names = bool(names) and all(_is_file_name(name) for name in names)
    except (*UNREADABLE, OSError) as error:
        raise UnreadableFile(
            f"can't load {index}: {error}. Get its files again"
        ) from error
    if not are_names:
        raise UnreadableFile(f"{index} names no files beside it: get its files again")
    return [index.parent / name for name in names]


def _is_file_name(name: str) -> bool:
    is_short = len(name.encode()) <= LONGEST_NAME
    return Path(name).name == name and "\0" not in name and is_short
