"""Rounding to 8-bit floats. The module needs torch."""

from __future__ import annotations

import torch

FP8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FP8).max


def in_fp8(
    values: torch.Tensor, over: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """``values`` rounded, and by what to multiply them: one number for all along the
    dimensions ``over``, whose length is 1 in it."""
    largest = values.abs().amax(dim=over, keepdim=True).float()
    scales = largest.clamp(min=1e-12) / LARGEST
    return (values / scales).to(FP8), scales
