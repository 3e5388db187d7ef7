"""Networks larger than the GPU: the weights of their blocks wait in main memory, and
come one block ahead of the one that computes.

Two slots of the GPU's memory hold a block each. While one computes, a second stream of
the GPU copies the next one, and nothing waits but for its own block. Blocks that the
GPU has room for stay there, spread evenly, so that each copy has the time of several
blocks. Results are those of the network as a whole, bit by bit, and blocks may be
compiled. The module needs torch.
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

PINNED_SHARE = 0.5
"""Of main memory, at most, that is pinned; what lies in the rest is copied slowly."""


@dataclass
class Block:
    """One layer. ``host`` holds its weights one after the other, as bytes."""

    module: nn.Module
    host: torch.Tensor
    weights: list[tuple[nn.Parameter, torch.Tensor, int]] = field(default_factory=list)
    """Each with its part of ``host``, and where that begins."""
    following: Block | None = None


@dataclass
class Held:
    """What a slot has. ``copied`` are the weights as they were, which a LoRA may have
    replaced since; kept, so that no other tensor gets their place in memory."""

    block: Block
    copied: list[torch.Tensor]

    def is_still(self, block: Block) -> bool:
        return self.block is block and all(
            weight.data_ptr() == copied.data_ptr()
            for (weight, _, _), copied in zip(block.weights, self.copied, strict=True)
        )


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
        size = max((b.host.numel() for chain in chains for b in chain), default=0)
        self._slots = [self._empty(size) for _ in range(2)]
        self._held: list[Held | None] = [None, None]
        self._ready = [self._event(), self._event()]
        self._unused = [self._event(), self._event()]
        for network, chain in zip(networks, chains, strict=True):
            for block, following in zip(chain, chain[1:] + chain[:1], strict=True):
                block.following = following
                self._wrap(block, network in compiled)
            _move_rest(network, {id(w) for b in chain for w, _, _ in b.weights}, device)

    @property
    def pinned_bytes(self) -> int:
        """Of main memory."""
        return sum(host.nbytes for host in self._pinned)

    def release(self) -> None:
        """Give main memory back to the system. The networks are of no use any more."""
        if self._is_cuda:
            self._cuda.synchronize(self._device)
        for host in self._pinned:
            self._cuda.cudart().cudaHostUnregister(host.data_ptr())
        self._pinned.clear()
        self._slots.clear()

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
            block.weights.append((weight, part, offset))
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
            before = [weight.data for weight, _, _ in block.weights]
            for weight, _, offset in block.weights:
                weight.data = _part(self._slots[slot], offset, weight)
            if block.following is not None and block.following is not block:
                self._load(block.following, 1 - slot)
            try:
                return forward(*args, **kwargs)
            finally:
                for (weight, _, _), data in zip(block.weights, before, strict=True):
                    weight.data = data
                if self._is_cuda:
                    self._unused[slot].record(torch.cuda.current_stream(self._device))

        return streamed

    def _slot_of(self, block: Block) -> int:
        """Where it is, or is on its way to."""
        for slot, held in enumerate(self._held):
            if held is not None and held.is_still(block):
                return slot
        # One that is stale gives its own slot up: the other one may be in use.
        held = self._held[1]
        slot = 1 if held is not None and held.block is block else 0
        self._load(block, slot)
        return slot

    def _load(self, block: Block, slot: int) -> None:
        """Begin to copy it, as soon as nothing computes from this slot any more."""
        held = self._held[slot]
        if held is not None and held.is_still(block):
            return
        now = [weight.data for weight, _, _ in block.weights]
        self._held[slot] = Held(block, now)
        with self._aside():
            if self._is_cuda:
                self._copies.wait_event(self._unused[slot])
            target = self._slots[slot]
            target[: block.host.numel()].copy_(block.host, non_blocking=True)
            for data, (weight, part, offset) in zip(now, block.weights, strict=True):
                if data.data_ptr() != part.data_ptr():  # a LoRA has changed it
                    _part(target, offset, weight).copy_(data, non_blocking=True)
            if self._is_cuda:
                self._ready[slot].record(self._copies)

    def _aside(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._copies) if self._is_cuda else nullcontext()

    def _event(self) -> Any:
        return self._cuda.Event() if self._is_cuda else None

    def _empty(self, size: int) -> torch.Tensor:
        return torch.empty(size, dtype=torch.uint8).to(self._device)


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
    """What streaming takes of the device at least: two slots, and all that isn't in
    blocks."""
    blocks = [block for network in networks for block in blocks_of(network)]
    slot = max((bytes_of(block) for block in blocks), default=0)
    rest = sum(map(bytes_of, networks)) - sum(map(bytes_of, blocks))
    return rest + 2 * slot


def bytes_of(module: nn.Module) -> int:
    """Of its weights."""
    return sum(weight.nbytes for weight in module.parameters())


def _part(flat: torch.Tensor, offset: int, weight: torch.Tensor) -> torch.Tensor:
    """The bytes of ``flat`` from ``offset`` on, as a tensor like ``weight``."""
    return flat[offset : offset + weight.nbytes].view(weight.dtype).view(weight.shape)


def _move_rest(network: nn.Module, streamed: set[int], device: str) -> None:
    for tensor in [*network.parameters(), *network.buffers()]:
        if id(tensor) not in streamed:
            tensor.data = tensor.data.to(device)
