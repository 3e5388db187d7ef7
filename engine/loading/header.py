"""The header of a safetensors file: what is in it, without reading a tensor.

Format: https://github.com/huggingface/safetensors#format. Needs no torch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.errors import UnreadableFile

LENGTH_BYTES = 8

START_BYTES = LENGTH_BYTES + 1
"""Tell a safetensors file from others."""

LONGEST_HEADER = 100_000_000
"""In bytes, as the format's own library has it."""

BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "I8": 8, "U8": 8}
BITS |= {"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I16": 16, "U16": 16, "F16": 16}
BITS |= {"BF16": 16, "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64}
BITS |= {"F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "C64": 64}
"""Of one value, by the format's names of precisions."""


@dataclass(frozen=True)
class TensorInfo:
    dtype: str
    """As the format names it, e.g. ``BF16``."""
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Header:
    """``tensors`` by name; ``metadata`` as its author wrote it."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str] = field(default_factory=dict)
    container: Literal["safetensors", "gguf"] = "safetensors"


def read_header(file: Path) -> Header:
    """Read and check the header of ``file``.

    Raises ``UnreadableFile`` that says what the file is instead, or what is damaged.
    """
    try:
        with file.open("rb") as content:
            start = content.read(START_BYTES)
            size = file.stat().st_size
            length = check_start(file, start, size)
            text = start[LENGTH_BYTES:] + content.read(length - 1)
    except OSError as error:
        raise UnreadableFile(f"can't read {file}: {error.strerror}") from error
    try:
        described = json.loads(text)
        metadata = _texts(described.pop("__metadata__", None) or {})
        found = {name: _tensor(entry) for name, entry in described.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(file, f"its header can't be read ({error})") from error
    _check_extents(file, found, size - LENGTH_BYTES - length)
    tensors = {name: tensor for name, (tensor, _, _) in found.items()}
    return Header(tensors, metadata)


def check_start(file: Path | str, start: bytes, size: int) -> int:
    """The length of the header of ``file``, which begins with the ``START_BYTES`` bytes
    ``start`` and has ``size`` bytes.

    Raises ``UnreadableFile`` that says what the file is instead.
    """
    if not size:
        raise damaged(file, "it is empty")
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if 2 <= length <= min(LONGEST_HEADER, size) and start.endswith(b"{"):
        return length
    other = ""
    if start.startswith((b"\x80", b"PK")):
        other = "a pickled PyTorch file, which could run any program: get the same "
        other += "weights as .safetensors"
    elif start.startswith(b"GGUF"):
        other = "a GGUF file"
    elif start.lstrip()[:1] == b"<":
        other = "a web page: the download went wrong. Get it again"
    elif start.startswith(b"version "):
        other = "a pointer to a file in Git LFS, not the file: get it again"
    if other:
        raise UnreadableFile(f"{file} isn't a safetensors file but {other}")
    raise damaged(file, "it doesn't begin as a safetensors file does")


def _texts(metadata: Any) -> Mapping[str, str]:
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its metadata aren't texts")
    found: Mapping[str, str] = metadata
    return found


def _tensor(entry: Any) -> tuple[TensorInfo, int, int]:
    """With where its bytes begin and end."""
    begin, end = entry["data_offsets"]
    info = TensorInfo(entry["dtype"], tuple(entry["shape"]))
    if any(not isinstance(n, int) or n < 0 for n in (*info.shape, begin, end)):
        raise ValueError("a size isn't a whole number")
    if info.dtype not in BITS:
        raise ValueError(f"unknown precision {info.dtype!r}")
    return info, begin, end


def _check_extents(
    file: Path, found: Mapping[str, tuple[TensorInfo, int, int]], size: int
) -> None:
    """The tensors lie one after the other and fill ``size`` bytes."""
    position = 0
    for name, (tensor, begin, end) in sorted(found.items(), key=lambda x: x[1][1:]):
        if begin != position:
            raise damaged(file, f"tensor {name} lies in the wrong place")
        if (end - begin) * 8 != math.prod(tensor.shape) * BITS[tensor.dtype]:
            raise damaged(file, f"tensor {name} has the wrong size")
        position = end
    if position > size:
        missing = (position - size) / 1e6
        raise damaged(file, f"its last {missing:,.1f} MB are missing")
    if position < size:
        raise damaged(file, "something follows its last tensor")


def damaged(file: Path | str, what: str) -> UnreadableFile:
    """Says ``what`` is wrong with the bytes of ``file``, and what to do."""
    return UnreadableFile(f"{file} is damaged: {what}. Get the file again")
