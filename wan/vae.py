"""Wan's VAE as a GPU is fastest with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import WanRMS_norm
from torch import Tensor, nn
from torch.nn import functional as F

LAYOUTS = {nn.Conv2d: torch.channels_last, nn.Conv3d: torch.channels_last_3d}

SMALLEST = 1e-24
"""Of a mean of squares, below which nothing is made larger."""


def speed_up(vae: Any) -> None:
    """Have every convolution take its input with channels last, and every norm be one
    kernel instead of six passes.

    The weights stay as they lie, because memory profiles lay them out anew: the input
    alone decides what cuDNN computes, so that no profile changes a result.
    """
    for module in vae.modules():
        for kind, layout in LAYOUTS.items():
            if isinstance(module, kind):
                module.register_forward_pre_hook(_taking(layout))
        if isinstance(module, WanRMS_norm):
            assert module.channel_first
            assert not isinstance(module.bias, Tensor)
            module.forward = partial(norm, module)


def _taking(layout: torch.memory_format) -> Callable[..., tuple[Any, ...]]:
    def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        first, *others = inputs
        return first.contiguous(memory_format=layout), *others

    return hook


def norm(module: WanRMS_norm, x: Tensor) -> Tensor:
    """What ``module`` computes of (batch, channels, ...), in one kernel where the
    channels lie last: each pixel's channels at a mean square of 1, then scaled."""
    gamma = module.gamma.flatten()
    last = F.rms_norm(x.movedim(1, -1), gamma.shape, gamma, SMALLEST)
    return last.movedim(-1, 1)
