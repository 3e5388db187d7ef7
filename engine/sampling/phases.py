"""Tells whoever follows the denoising of which phases it is made: transformers that
take turns, or passes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

OnPhases = Callable[[tuple[int, ...]], None]

_listener: ContextVar[OnPhases] = ContextVar("phases", default=lambda _: None)


def announce_phases(*steps: int) -> None:
    """How many steps each phase has; called before the first step. A denoising that
    announces nothing has one phase of ``num_inference_steps``, maybe several times
    over."""
    _listener.get()(steps)


@contextmanager
def phases_told(listener: OnPhases) -> Iterator[None]:
    """While it lasts, ``listener`` gets what is announced."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
