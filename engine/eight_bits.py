"""Rounding to 8 bits. The module needs torch."""

from __future__ import annotations

import torch

FP8 = torch.float8_e4m3fn
LARGEST_FP8 = torch.finfo(FP8).max
LARGEST_INT8 = 127
LEAST_SCALE = 1e-15


def in_fp8(
    values: torch.Tensor, over: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """``values`` rounded to floats, and by what to multiply them: one number for all
    along the dimensions ``over``, whose length is 1 in it."""
    scales = _scales(values, over, LARGEST_FP8)
    return (values / scales).to(FP8), scales


def in_int8(
    values: torch.Tensor, over: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, rounded to whole numbers."""
    scales = _scales(values, over, LARGEST_INT8)
    return (values / scales).round().to(torch.int8), scales


def _scales(
    values: torch.Tensor, over: tuple[int, ...], largest: float
) -> torch.Tensor:
    """By which the largest of ``values`` becomes ``largest``. What is no number makes
    its scale none."""
    found = values.abs().amax(dim=over, keepdim=True).float()
    return (found / largest).clamp(min=LEAST_SCALE)
