"""Large linear layers in 8 bits: about twice as fast, and a little different.

Each token and each row of a weight has its own scale. Weights stay as they are and are
rounded at each use, which takes a hundredth of the time that it saves: LoRAs change
them as ever. The module needs torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from engine.attention.use import DENOISERS
from engine.eight_bits import in_fp8, in_int8
from engine.errors import UserError

LEAST_WIDTH = 1024
MULTIPLE = 16
"""Of both sides of a weight, for the kernels."""

FEW_TOKENS = 1024
"""Below, rounding the weight costs more than the product saves: prompts, timesteps."""

OLDEST_CAPABILITY = {"int8": (8, 0), "fp8": (8, 9)}

ROWS = (1,)
"""Each has a scale of its own."""


def use_products(pipeline: Any, kind: str, device: str) -> None:
    """Let the denoisers' large layers compute in ``kind``, ``int8`` or ``fp8``. Raises
    ``UserError`` where ``device`` can't."""
    if why := why_not(kind, device):
        raise UserError(f"products in {kind} can't be used: {why}")
    for name in DENOISERS:
        denoiser = getattr(pipeline, name, None)
        if denoiser is not None:
            replace_linears(denoiser, kind)


def why_not(kind: str, device: str) -> str:
    """Why ``device`` has no such products, in words; empty when it has."""
    if not device.startswith("cuda"):
        return f"they need an NVIDIA GPU, and the model runs on {device}"
    capability = torch.cuda.get_device_capability(device)
    can = [name for name, oldest in OLDEST_CAPABILITY.items() if capability >= oldest]
    if kind in can:
        return ""
    needed, found = (
        "{}.{}".format(*each) for each in (OLDEST_CAPABILITY[kind], capability)
    )
    instead = f"; {can[0]} it can" if can else ""
    return f"they need compute capability {needed}, and this GPU has {found}{instead}"


def replace_linears(network: nn.Module, kind: str) -> int:
    """Put layers that compute in ``kind`` in the place of large ones, with the same
    weights; returns how many."""
    found = [
        (name, module)
        for name, module in network.named_modules()
        if type(module) is nn.Linear and _is_large(module)
    ]
    for name, linear in found:
        network.set_submodule(name, EightBitLinear(linear, kind))
    return len(found)


def _is_large(linear: nn.Linear) -> bool:
    sides = (linear.in_features, linear.out_features)
    return min(sides) >= LEAST_WIDTH and not any(side % MULTIPLE for side in sides)


class EightBitLinear(nn.Linear):
    """``linear`` with products in ``kind`` where there are many tokens."""

    def __init__(self, linear: nn.Linear, kind: str) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.product = int8_product if kind == "int8" else fp8_product
        self.train(linear.training)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        rows = tokens.flatten(0, -2)
        if rows.shape[0] < FEW_TOKENS:
            return super().forward(tokens)
        out = self.product(rows, self.weight)
        out = out if self.bias is None else out + self.bias
        return out.reshape(*tokens.shape[:-1], -1)


def int8_product(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``rows``, (count, inputs), times the transposed ``weight``, (outputs, inputs):
    (count, outputs), summed in whole numbers."""
    small, row_scales = in_int8(rows, ROWS)
    small_weight, weight_scales = in_int8(weight, ROWS)
    sums = torch._int_mm(small, small_weight.t())
    return (sums * row_scales * weight_scales.t()).to(rows.dtype)


def fp8_product(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The same in 8-bit floats."""
    small, row_scales = in_fp8(rows, ROWS)
    small_weight, weight_scales = in_fp8(weight, ROWS)
    if rows.is_cuda:
        return torch._scaled_mm(
            small,
            small_weight.t(),
            scale_a=row_scales,
            scale_b=weight_scales.t(),
            out_dtype=rows.dtype,
            use_fast_accum=True,
        )
    sums = small.float() @ small_weight.float().t()  # CPUs have no such product
    return (sums * row_scales * weight_scales.t()).to(rows.dtype)
