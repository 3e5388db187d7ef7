"""Feed-forward layers in chunks of tokens: their inner values, several times as wide as
the tokens, are the largest that a transformer holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from engine.attention.use import DENOISERS


@contextmanager
def feed_forward_chunked(pipeline: Any, chunks: int) -> Iterator[None]:
    """While it lasts, the denoisers' feed-forward layers compute in so many chunks; 1
    leaves them alone. A token's result doesn't depend on the others."""
    layers = _layers(pipeline) if chunks > 1 else []
    before = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        layer.forward = _in_chunks(layer.forward, chunks)
    try:
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            if forward is None:
                del layer.forward
            else:
                layer.forward = forward


def _layers(pipeline: Any) -> list[Any]:
    from diffusers.models.attention import FeedForward

    denoisers = [getattr(pipeline, name, None) for name in DENOISERS]
    return [
        module
        for denoiser in denoisers
        if denoiser is not None
        for module in denoiser.modules()
        if isinstance(module, FeedForward)
    ]


def _in_chunks(forward: Callable[..., Any], chunks: int) -> Callable[..., Any]:
    @wraps(forward)
    def called(tokens: Any, *args: Any, **kwargs: Any) -> Any:
        import torch

        parts = tokens.chunk(chunks, dim=1)
        return torch.cat([forward(part, *args, **kwargs) for part in parts], dim=1)

    return called
