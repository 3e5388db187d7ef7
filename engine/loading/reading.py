"""Reads a network's weights from its files, as ``matching`` has found them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.loading import quantised
from engine.loading.header import damaged
from engine.loading.interrupt import check_load
from engine.loading.layouts.layout import Rows
from engine.loading.matching import Match, unreadable
from engine.loading.stored import Stored

if TYPE_CHECKING:
    import torch

ALIGNMENT = 64
"""In bytes, of what torch allocates itself."""


def read_weights(
    match: Match, dtypes: Mapping[str, torch.dtype], in_8_bits: Collection[str]
) -> dict[str, torch.Tensor]:
    """The weights by the network's names, each in its precision of ``dtypes``; those
    ``in_8_bits`` in two parts, as quanto's layers have them.

    Raises ``UnreadableFile`` for a file that can't be read or has values that are no
    numbers, ``Cancelled`` between two weights.
    """
    import torch

    tensors: dict[str, torch.Tensor] = {}
    with ExitStack() as stack:
        reader = _Reader(match.stored, stack)
        for name, pieces in match.sources.items():
            check_load()
            file = match.stored.files[match.stored.weights[pieces[0].name].data]
            if name in in_8_bits:
                data, scale = reader.read_8_bits(pieces)
                tensors[name + quantised.DATA] = aligned(data)
                scale = scale.to(dtypes[name])
                _check_numbers(file, name, scale)
                tensors[name + quantised.SCALE] = aligned(scale)
                continue
            tensor = reader.read(pieces)
            if tensor.is_floating_point():
                tensor = tensor.to(dtypes[name])
                _check_numbers(file, name, tensor)
            # Half precision is for GPUs, where weights are copied anyway.
            is_for_cpu = dtypes[name] == torch.float32
            tensors[name] = aligned(tensor) if is_for_cpu else tensor
    return tensors


class _Reader:
    """The open files of one network."""

    def __init__(self, stored: Stored, stack: ExitStack) -> None:
        self._stored = stored
        self._stack = stack
        self._opened: dict[Path, Any] = {}

    def read(self, pieces: tuple[Rows, ...]) -> torch.Tensor:
        """One weight, put together of its pieces, as plain numbers."""
        return self._joined([self._rows(self._weight(p.name), p) for p in pieces])

    def read_8_bits(
        self, pieces: tuple[Rows, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Values, int8 (rows, columns), and scales (rows, 1) of one weight."""
        weights = [self._stored.weights[piece.name] for piece in pieces]
        pairs = list(zip(weights, pieces, strict=True))
        data = [self._rows(self._tensor(w.data), piece) for w, piece in pairs]
        scales = [self._rows(self._tensor(str(w.scale)), piece) for w, piece in pairs]
        return self._joined(data), self._joined(scales)

    def _weight(self, name: str) -> torch.Tensor:
        weight = self._stored.weights[name]
        tensor = self._tensor(weight.data)
        if weight.scale is None:
            return tensor
        return quantised.dequantise(tensor, self._tensor(weight.scale))

    def _rows(self, tensor: torch.Tensor, piece: Rows) -> torch.Tensor:
        is_whole = tensor.ndim == 0 or piece.stop - piece.start == len(tensor)
        return tensor if is_whole else tensor[piece.start : piece.stop]

    def _joined(self, parts: list[torch.Tensor]) -> torch.Tensor:
        import torch

        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _tensor(self, name: str) -> torch.Tensor:
        from safetensors import SafetensorError

        file = self._stored.files[name]
        try:
            if self._stored.headers[file].container == "gguf":
                return self._from_gguf(file, name)
            if file not in self._opened:
                self._opened[file] = self._open(file)
            tensor: torch.Tensor = self._opened[file].get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise unreadable(file, error) from error
        return tensor

    def _open(self, file: Path) -> Any:
        from safetensors import safe_open

        return self._stack.enter_context(safe_open(file, framework="pt"))

    def _from_gguf(self, file: Path, name: str) -> torch.Tensor:
        from engine.loading.gguf_tensors import open_gguf, to_numbers

        if file not in self._opened:
            self._opened[file] = open_gguf(file)
        shape = self._stored.headers[file].tensors[name].shape
        return to_numbers(self._opened[file][name]).reshape(shape)


def aligned(tensor: torch.Tensor) -> torch.Tensor:
    """A file's tensors are mapped into memory and lie anywhere in it. On addresses
    that aren't aligned a CPU's float kernels round otherwise, so that the same weights
    from another file would give another video, and its int8 kernels crash."""
    is_aligned = tensor.data_ptr() % ALIGNMENT == 0
    return tensor if is_aligned else tensor.clone()


def _check_numbers(file: Path, name: str, tensor: torch.Tensor) -> None:
    """One pass over memory: a sum is no number when one of its terms is none. In the
    tensor's own precision it takes a fraction of the time, but may grow too large."""
    import torch

    if bool(tensor.sum().isfinite()):
        return
    if not bool(tensor.sum(dtype=torch.float64).isfinite()):
        raise damaged(file, f"tensor {name} has values that are no numbers")
