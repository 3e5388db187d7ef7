"""Cancelling in the middle of a network, and in the middle of loading one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_load_check: ContextVar[Callable[[], None]] = ContextVar(
    "load_check", default=lambda: None
)


@contextmanager
def interruptible_load(check: Callable[[], None]) -> Iterator[None]:
    """While it lasts, reading weights calls ``check`` before each tensor. Families
    don't have to hand it on."""
    token = _load_check.set(check)
    try:
        yield
    finally:
        _load_check.reset(token)


def check_load() -> None:
    """Raises ``Cancelled`` when the load that is under way isn't wanted any more."""
    _load_check.get()()


@contextmanager
def interruptible(pipeline: Any, check: Callable[[], None]) -> Iterator[None]:
    """While it lasts, every block of the pipeline's networks calls ``check`` before it
    computes, so that what ``check`` raises ends a text encoding, a step or a decoding
    within one block. It changes no result.
    """

    def before_call(_module: Any, _inputs: Any) -> None:
        check()

    hooks = [
        block.register_forward_pre_hook(before_call)
        for network in networks_of(pipeline)
        for block in blocks_of(network)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def networks_of(pipeline: Any) -> list[Any]:
    """Torch's modules among the components of a diffusers pipeline; told by what they
    can do, so that a family without torch can be run without it."""
    components = getattr(pipeline, "components", {})
    return [
        component
        for component in components.values()
        if hasattr(component, "register_forward_pre_hook")
    ]


def blocks_of(module: Any) -> Iterator[Any]:
    """``module`` and all below it that are made of further modules, but for compiled
    ones: a hook there would be compiled too, and again when it is gone."""
    if is_compiled(module):
        return
    children = list(module.children())
    if children:
        yield module
    for child in children:
        yield from blocks_of(child)


def is_compiled(module: Any) -> bool:
    """Whether ``module.compile()`` or ``torch.compile(module)`` was called."""
    return hasattr(module, "_orig_mod") or module._compiled_call_impl is not None
