"""The header of a GGUF file: what is in it, without reading a tensor.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Needs no torch.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

from engine.errors import UnreadableFile
from engine.loading.header import Header, TensorInfo, damaged

MAGIC = b"GGUF"
VERSIONS = (2, 3)

LONGEST_HEADER = 32 << 20
"""In bytes; a tokenizer's words are what may take some."""

MOST_ENTRIES = 100_000
MOST_TEXTS = 1_000_000
"""In one list."""

MOST_DIMENSIONS = 8

DTYPES = {
    **{0: "F32", 1: "F16", 30: "BF16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1"},
    **{8: "Q8_0", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K"},
    **{20: "IQ4_NL", 23: "IQ4_XS"},
}
"""By the format's numbers; those that diffusers turns into numbers again."""

SIZES = {
    **{"F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "Q4_0": (32, 18)},
    **{"Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34)},
    **{"Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144)},
    **{"Q5_K": (256, 176), "Q6_K": (256, 210), "IQ4_NL": (32, 18)},
    "IQ4_XS": (256, 136),
}
"""Values in a block, and bytes that it takes."""

STRING, ARRAY = 8, 9
SCALARS = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))
"""The format's numbers of single values → ``struct``'s letters."""

ORIGINAL_SHAPE = "comfy.gguf.orig_shape."
"""Before a tensor's name: its shape, where GGUF's four dimensions don't hold it."""


def read_gguf_header(file: Path) -> Header:
    """Read and check the header of ``file``.

    Raises ``UnreadableFile`` that says what is damaged.
    """
    try:
        with file.open("rb") as content:
            return _read(file, content, file.stat().st_size)
    except OSError as error:
        raise UnreadableFile(f"can't read {file}: {error.strerror}") from error
    except (struct.error, ValueError, OverflowError) as error:
        raise damaged(file, f"its header can't be read ({error})") from error


def _read(file: Path, content: BinaryIO, size: int) -> Header:
    cursor = _Cursor(content)
    cursor.take(len(MAGIC))
    version = cursor.number("I")
    if version not in VERSIONS:
        raise damaged(file, f"its version of GGUF, {version}, isn't known")
    tensor_count, value_count = cursor.number("Q"), cursor.number("Q")
    if max(tensor_count, value_count) > MOST_ENTRIES:
        raise ValueError(f"{max(tensor_count, value_count)} entries")
    values = dict(_value_entry(cursor) for _ in range(value_count))
    listed = [_tensor_entry(cursor) for _ in range(tensor_count)]
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 16:
        raise ValueError("its alignment isn't a size")
    start = -(-cursor.position // alignment) * alignment
    tensors: dict[str, TensorInfo] = {}
    end = 0
    for name, shape, number, offset in listed:
        if name in tensors:
            raise damaged(file, f"tensor {name} is there twice")
        info, length = _tensor_info(file, name, shape, number)
        if offset < end or offset % alignment:
            raise damaged(file, f"tensor {name} lies in the wrong place")
        end = offset + length
        tensors[name] = _with_original_shape(file, name, info, values)
    if start + end > size:
        missing = (start + end - size) / 1e6
        raise damaged(file, f"its last {missing:,.1f} MB are missing")
    metadata = {name: str(value) for name, value in values.items()}
    return Header(tensors, metadata, "gguf")


class _Cursor:
    """Reads a header from its start; never more than ``LONGEST_HEADER``."""

    def __init__(self, content: BinaryIO) -> None:
        self._content = content
        self.position = 0

    def take(self, count: int) -> bytes:
        self.position += count
        if self.position > LONGEST_HEADER:
            raise ValueError("it is too long")
        taken = self._content.read(count)
        if len(taken) != count:
            raise ValueError("it ends too early")
        return taken

    def number(self, letter: str) -> Any:
        return struct.unpack(f"<{letter}", self.take(struct.calcsize(f"<{letter}")))[0]

    def text(self) -> str:
        return self.take(self.number("Q")).decode("utf-8")


def _value_entry(cursor: _Cursor) -> tuple[str, Any]:
    name = cursor.text()
    return name, _value(cursor, cursor.number("I"))


def _value(cursor: _Cursor, kind: int) -> Any:
    if kind == STRING:
        return cursor.text()
    if kind != ARRAY:
        return cursor.number(SCALARS[kind]) if kind in SCALARS else _unknown(kind)
    kind, count = cursor.number("I"), cursor.number("Q")
    if kind in SCALARS:
        letter = SCALARS[kind]
        width = struct.calcsize(f"<{letter}")
        content = cursor.take(count * width)
        return [each for (each,) in struct.iter_unpack(f"<{letter}", content)]
    if kind != STRING or count > MOST_TEXTS:
        return _unknown(kind)
    return [cursor.text() for _ in range(count)]


def _unknown(kind: int) -> Any:
    raise ValueError(f"a value of unknown kind {kind}")


def _tensor_entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape as torch counts it, number of the precision, where it begins."""
    name = cursor.text()
    dimensions = cursor.number("I")
    if dimensions > MOST_DIMENSIONS:
        raise ValueError(f"a tensor of {dimensions} dimensions")
    shape = tuple(cursor.number("Q") for _ in range(dimensions))
    return name, shape[::-1], cursor.number("I"), cursor.number("Q")


def _tensor_info(
    file: Path, name: str, shape: tuple[int, ...], number: int
) -> tuple[TensorInfo, int]:
    """With the number of its bytes."""
    if number not in DTYPES:
        raise UnreadableFile(
            f"{file} can't be used: tensor {name} is in a precision of GGUF (number "
            f"{number}) that can't be read. Known are {', '.join(SIZES)}"
        )
    block, length = SIZES[DTYPES[number]]
    if shape and shape[-1] % block:
        raise damaged(file, f"tensor {name} has the wrong size")
    return TensorInfo(DTYPES[number], shape), math.prod(shape) // block * length


def _with_original_shape(
    file: Path, name: str, info: TensorInfo, values: dict[str, Any]
) -> TensorInfo:
    original = values.get(ORIGINAL_SHAPE + name)
    if original is None:
        return info
    is_shape = isinstance(original, list) and all(
        isinstance(side, int) for side in original
    )
    if not is_shape or math.prod(original) != math.prod(info.shape):
        raise damaged(file, f"tensor {name} has two shapes")
    return TensorInfo(info.dtype, tuple(original))
