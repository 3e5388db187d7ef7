"""FlashAttention 3 behind diffusers' dispatcher, exact and in 8 bits.

Diffusers knows one of its packages and calls it by names that others don't have, so its
functions are replaced by these. Its list of names is closed: the one in 8 bits stands
where diffusers has the kernel for sequences of several lengths, which the app never
asks for. The module needs torch.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    _AttentionBackendRegistry,
    _native_attention,
)

from engine.eight_bits import FP8, in_fp8

MODULES = {"fa3-fwd": "fa3_fwd_interface", "flash-attn-3": "flash_attn_interface"}
"""By package; both have ``flash_attn_func``."""

KERNEL: dict[str, Callable[..., Any]] = {}
"""The function of the package that was registered."""

FEW_KEYS = 2048
"""Below, 8 bits cost more than they save: the tokens of prompts."""


def register(package: str) -> None:
    """Let diffusers' dispatcher call this package. Raises ``ImportError`` or
    ``OSError`` when it doesn't fit this machine's torch."""
    KERNEL["now"] = importlib.import_module(MODULES[package]).flash_attn_func
    attention_dispatch._CAN_USE_FLASH_ATTN_3 = True
    for name, function in (
        (AttentionBackendName._FLASH_3, attend),
        (AttentionBackendName._FLASH_VARLEN_3, attend_in_8_bits),
    ):
        _AttentionBackendRegistry.register(name)(function)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
    is_causal: bool = False,
) -> torch.Tensor:
    """All (batch, tokens, heads, head size); masked by torch's own attention."""
    if attn_mask is not None:
        out: torch.Tensor = _native_attention(
            query, key, value, attn_mask, scale=scale, is_causal=is_causal
        )
    else:
        out = _flash3(query, key, value, None, None, None, scale, is_causal)
    return out


def attend_in_8_bits(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
    is_causal: bool = False,
) -> torch.Tensor:
    """The same, with query, key and value in 8-bit floats where there are many keys."""
    if attn_mask is not None or key.shape[1] < FEW_KEYS:
        return attend(query, key, value, attn_mask, scale, is_causal)
    q, k, v = (in_8_bits(each) for each in (query, centred(key), value))
    out: torch.Tensor = _flash3(q[0], k[0], v[0], q[1], k[1], v[1], scale, is_causal)
    return out


def centred(key: torch.Tensor) -> torch.Tensor:
    """Without the mean of all keys, which adds the same to all scores of a query and so
    changes no weight, but takes up most of the range
    (https://arxiv.org/abs/2410.02367, section 4.2)."""
    return key - key.mean(dim=1, keepdim=True)


def in_8_bits(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rounded to 8-bit floats, and by what to multiply them, (batch, heads)."""
    rounded, scales = in_fp8(values, (1, 3))
    return rounded, scales[:, 0, :, 0]


@torch.library.custom_op("attention::flash3", mutates_args=(), device_types="cuda")
def _flash3(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    query_scale: torch.Tensor | None,
    key_scale: torch.Tensor | None,
    value_scale: torch.Tensor | None,
    scale: float | None,
    is_causal: bool,
) -> torch.Tensor:
    """One operation for the compiler, which can't look into the kernel."""
    found = KERNEL["now"](
        query,
        key,
        value,
        softmax_scale=scale,
        causal=is_causal,
        q_descale=query_scale,
        k_descale=key_scale,
        v_descale=value_scale,
    )
    out: torch.Tensor = found[0] if isinstance(found, tuple) else found
    return out


@_flash3.register_fake
def _flash3_fake(
    query: torch.Tensor, _key: torch.Tensor, value: torch.Tensor, *_rest: Any
) -> torch.Tensor:
    dtype = torch.bfloat16 if query.dtype == FP8 else query.dtype
    return query.new_empty((*query.shape[:-1], value.shape[-1]), dtype=dtype)
