"""Networks larger than the GPU: the weights of their blocks wait in main memory, and
come one block ahead of the one that computes.

Two slots of the GPU's memory hold a block each. While one computes, a second stream of
the GPU copies the next one, and nothing waits but for its own block. Blocks that the
GPU has room for stay there, spread evenly, so that each copy has the time of several
blocks. Large tables of embeddings, of which a prompt needs a few rows, stay in main
memory and are looked up there. Results are those of the network as a whole, bit by bit,
and blocks may be compiled. The module needs torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import psutil
import torch
from torch import nn

ALIGNMENT = 256
"""Bytes, of each weight in a slot, for the kernels."""

LEAST_SHARE = 0.1
"""Of a network's weights: lists of layers that hold less stay on the GPU."""

LARGE_TABLE = 128 << 20
"""Bytes of a table of embeddings from which it stays in main memory."""

PINNED_SHARE = 0.5
"""Of main memory, at most, that is pinned; what lies in the rest is copied slowly."""


@dataclass(eq=False)
class Block:
    """One layer. ``host`` holds its weights one after the other, as bytes."""

    module: nn.Module
    host: torch.Tensor
    weights: list[tuple[nn.Parameter, int]] = field(default_factory=list)
    """Each with where it begins in ``host``."""
    following: Block | None = None


Change = Callable[[torch.Tensor], None]
"""Changes a weight in place, on the device."""


class Streamer:
    """Streams ``networks`` to ``device``, of which one at a time computes. The blocks
    of those that are ``compiled`` are compiled at their first use; of those with
    ``room``, blocks of so many bytes stay on the device."""

    def __init__(
        self,
        networks: Sequence[nn.Module],
        device: str,
        *,
        compiled: Sequence[nn.Module] = (),
        room: Mapping[nn.Module, int] | None = None,
    ) -> None:
        self._device = torch.device(device)
        self._is_cuda = self._device.type == "cuda"
        self._cuda: Any = torch.cuda
        self._copies: Any = self._cuda.Stream(self._device) if self._is_cuda else None
        self._pinned: list[torch.Tensor] = []
        chains = [
            self._keep_or_hold(network, network in compiled, (room or {}).get(network))
            for network in networks
        ]
        blocks = sum(len(blocks_of(network)) for network in networks)
        self.keeps_blocks = sum(map(len, chains)) < blocks
        """Whether any stay on the device."""
        self._size = max((b.host.numel() for chain in chains for b in chain), default=0)
        self._slots: list[torch.Tensor | None] = [None, None]
        self._held: list[Block | None] = [None, None]
        self._changes: dict[nn.Parameter, Change] = {}
        self._ready = [self._event(), self._event()]
        self._unused = [self._event(), self._event()]
        for network, chain in zip(networks, chains, strict=True):
            for block, following in zip(chain, chain[1:] + chain[:1], strict=True):
                block.following = following
                self._wrap(block, network in compiled)
        self._streamed_weights = {
            weight for chain in chains for block in chain for weight, _ in block.weights
        }
        for network in networks:
            tables = tables_of(network)
            for table in tables:
                look_up_in_main_memory(table, self._device)
            waiting = {*self._streamed_weights, *(table.weight for table in tables)}
            _move_rest(network, waiting, device)

    @property
    def pinned_bytes(self) -> int:
        """Of main memory."""
        return sum(host.nbytes for host in self._pinned)

    def streams(self, weight: nn.Parameter) -> bool:
        """Whether it waits in main memory."""
        return weight in self._streamed_weights

    def set_change(self, weight: nn.Parameter, change: Change | None) -> None:
        """Change a streamed ``weight`` each time that it has come to the device, from
        now on; what is in main memory stays as it is."""
        if change is None:
            self._changes.pop(weight, None)
        else:
            self._changes[weight] = change
        self._held = [None, None]

    def free_slots(self) -> None:
        """Leave their memory to others until the next block is asked for."""
        if self._is_cuda:
            self._cuda.synchronize(self._device)
        self._slots, self._held = [None, None], [None, None]

    def release(self) -> None:
        """Give main memory back to the system. The networks are of no use any more."""
        self.free_slots()
        for host in self._pinned:
            self._cuda.cudart().cudaHostUnregister(host.data_ptr())
        self._pinned.clear()

    def _keep_or_hold(
        self, network: nn.Module, compiled: bool, room: int | None
    ) -> list[Block]:
        """The blocks to be streamed; those that there is room for aren't."""
        blocks = blocks_of(network)
        kept = kept_evenly(blocks, room or 0)
        if compiled:
            for block in kept:
                block.compile()
        return [self._hold(block) for block in blocks if block not in kept]

    def _hold(self, module: nn.Module) -> Block:
        """Its weights, moved into one piece of main memory."""
        offsets, size = [], 0
        weights = list(module.parameters())
        for weight in weights:
            offsets.append(size)
            size += -(-weight.nbytes // ALIGNMENT) * ALIGNMENT
        block = Block(module, torch.empty(size, dtype=torch.uint8))
        if self._is_cuda:
            self._pin(block.host)
        for weight, offset in zip(weights, offsets, strict=True):
            part = _part(block.host, offset, weight)
            part.copy_(weight.data)
            weight.data = part
            block.weights.append((weight, offset))
        for buffer in module.buffers():
            buffer.data = buffer.data.to(self._device)
        return block

    def _pin(self, host: torch.Tensor) -> None:
        if (
            self.pinned_bytes + host.nbytes
            > PINNED_SHARE * psutil.virtual_memory().total
        ):
            return
        # torch's own pinned memory comes in powers of two, nearly twice as much.
        if int(self._cuda.cudart().cudaHostRegister(host.data_ptr(), host.nbytes, 0)):
            return
        self._pinned.append(host)

    def _wrap(self, block: Block, compiled: bool) -> None:
        module = block.module
        if compiled:  # only what is inside, or the copying would be compiled, too
            module.compile()
            inner: Any = module._compiled_call_impl
            module._compiled_call_impl = self._streamed(block, inner)
        else:
            module.forward = self._streamed(block, module.forward)

    def _streamed(
        self, block: Block, forward: Callable[..., Any]
    ) -> Callable[..., Any]:
        @wraps(forward)
        def streamed(*args: Any, **kwargs: Any) -> Any:
            slot = self._slot_of(block)
            if self._is_cuda:
                torch.cuda.current_stream(self._device).wait_event(self._ready[slot])
            before = [weight.data for weight, _ in block.weights]
            for weight, offset in block.weights:
                weight.data = _part(self._memory_of(slot), offset, weight)
            if block.following is not None and block.following is not block:
                self._load(block.following, 1 - slot)
            try:
                return forward(*args, **kwargs)
            finally:
                for (weight, _), data in zip(block.weights, before, strict=True):
                    weight.data = data
                if self._is_cuda:
                    self._unused[slot].record(torch.cuda.current_stream(self._device))

        return streamed

    def _slot_of(self, block: Block) -> int:
        """Where it is, or is on its way to."""
        if block not in self._held:
            self._load(block, 0)
        return self._held.index(block)

    def _load(self, block: Block, slot: int) -> None:
        """Begin to copy it, as soon as nothing computes from this slot any more."""
        if self._held[slot] is block:
            return
        self._held[slot] = block
        target = self._memory_of(slot)
        with self._aside():
            if self._is_cuda:
                self._copies.wait_event(self._unused[slot])
            target[: block.host.numel()].copy_(block.host, non_blocking=True)
            for weight, offset in block.weights:
                if change := self._changes.get(weight):
                    change(_part(target, offset, weight))
            if self._is_cuda:
                self._ready[slot].record(self._copies)

    def _memory_of(self, slot: int) -> torch.Tensor:
        memory = self._slots[slot]
        if memory is None:
            memory = torch.empty(self._size, dtype=torch.uint8, device=self._device)
            self._slots[slot] = memory
            if self._is_cuda:  # what had this memory before may still be computed with
                self._copies.wait_stream(torch.cuda.current_stream(self._device))
        return memory

    def _aside(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._copies) if self._is_cuda else nullcontext()

    def _event(self) -> Any:
        return self._cuda.Event() if self._is_cuda else None


def is_streamable(network: nn.Module) -> bool:
    """Whether its weights are plain numbers, as those in 8 bits aren't."""
    return all(type(weight.data) is torch.Tensor for weight in network.parameters())


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The layers of the outermost lists of layers that matter, in their order."""
    least = LEAST_SHARE * bytes_of(network)
    chosen: list[nn.Module] = []
    names: list[str] = []
    for name, module in network.named_modules():
        inner = any(name.startswith(outer + ".") for outer in names)
        if inner or not isinstance(module, nn.ModuleList):
            continue
        if bytes_of(module) >= least:
            names.append(name)
            chosen += module
    return chosen


def tables_of(network: nn.Module) -> list[nn.Embedding]:
    """Large tables of embeddings outside the blocks."""
    inside = {part for block in blocks_of(network) for part in block.modules()}
    return [
        module
        for module in network.modules()
        if isinstance(module, nn.Embedding)
        and module not in inside
        and module.weight.nbytes >= LARGE_TABLE
    ]


def kept_evenly(blocks: Sequence[nn.Module], room: int) -> list[nn.Module]:
    """As many of ``blocks`` as ``room`` bytes hold, spread evenly over them."""
    sizes = [bytes_of(block) for block in blocks]
    whole, seen, taken = sum(sizes), 0, 0
    kept = []
    for block, size in zip(blocks, sizes, strict=True):
        seen += size
        if (taken + size) * whole <= min(room, whole) * seen:
            kept.append(block)
            taken += size
    return kept


def least_bytes(networks: Sequence[nn.Module]) -> int:
    """What streaming takes of the device at least: two slots, and all that is neither
    in blocks nor in large tables."""
    blocks = [block for network in networks for block in blocks_of(network)]
    slot = max((bytes_of(block) for block in blocks), default=0)
    tables = {table.weight for each in networks for table in tables_of(each)}
    waiting = sum(map(bytes_of, blocks)) + sum(weight.nbytes for weight in tables)
    return sum(map(bytes_of, networks)) - waiting + 2 * slot


def bytes_of(module: nn.Module) -> int:
    """Of its weights."""
    return sum(weight.nbytes for weight in module.parameters())


def _part(flat: torch.Tensor, offset: int, weight: torch.Tensor) -> torch.Tensor:
    """The bytes of ``flat`` from ``offset`` on, as a tensor like ``weight``."""
    return flat[offset : offset + weight.nbytes].view(weight.dtype).view(weight.shape)


def look_up_in_main_memory(table: nn.Embedding, device: torch.device) -> None:
    """Its rows come to ``device``, the table doesn't."""
    look_up = table.forward

    def looked_up(ids: torch.Tensor) -> torch.Tensor:
        return look_up(ids.cpu()).to(device)

    table.forward = looked_up  # type: ignore[assignment, method-assign]


def _move_rest(network: nn.Module, waiting: set[torch.Tensor], device: str) -> None:
    """To ``device``, all but the ``waiting`` weights."""
    for tensor in [*network.parameters(), *network.buffers()]:
        if tensor not in waiting:
            tensor.data = tensor.data.to(device)
