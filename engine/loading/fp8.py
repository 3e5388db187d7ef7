"""Large linear layers in 8-bit floats: about twice as fast, and a little different.

Each token and each row of a weight has its own scale. Weights stay as they are and are
rounded at each use, which takes a hundredth of the time that it saves: LoRAs change
them as ever. The module needs torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from engine.attention.use import DENOISERS
from engine.errors import UserError
from engine.float8 import in_fp8

LEAST_WIDTH = 1024
MULTIPLE = 16
"""Of both sides of a weight, for the kernel."""

FEW_TOKENS = 1024
"""Below, rounding the weight costs more than the product saves: prompts, timesteps."""

OLDEST_CAPABILITY = (8, 9)

ROWS = (1,)
"""Each has a scale of its own."""


def use_fp8(pipeline: Any, device: str) -> None:
    """Let the denoisers' large layers compute in 8-bit floats. Raises ``UserError``
    where ``device`` can't."""
    if why := why_not(device):
        raise UserError(f"products in 8 bits can't be used: {why}. Leave out --fp8")
    for name in DENOISERS:
        denoiser = getattr(pipeline, name, None)
        if denoiser is not None:
            replace_linears(denoiser)


def why_not(device: str) -> str:
    """Why ``device`` has no products in 8 bits, in words; empty when it has."""
    if not device.startswith("cuda"):
        return f"they need an NVIDIA GPU, and the model runs on {device}"
    capability = torch.cuda.get_device_capability(device)
    if capability < OLDEST_CAPABILITY:
        oldest, found = (
            "{}.{}".format(*each) for each in (OLDEST_CAPABILITY, capability)
        )
        return f"they need compute capability {oldest}, and this GPU has {found}"
    return ""


def replace_linears(network: nn.Module) -> int:
    """Put the layers below in the place of large ones, with the same weights; returns
    how many."""
    found = [
        (name, module)
        for name, module in network.named_modules()
        if type(module) is nn.Linear and _is_large(module)
    ]
    for name, linear in found:
        network.set_submodule(name, Fp8Linear(linear))
    return len(found)


def _is_large(linear: nn.Linear) -> bool:
    sides = (linear.in_features, linear.out_features)
    return min(sides) >= LEAST_WIDTH and not any(side % MULTIPLE for side in sides)


class Fp8Linear(nn.Linear):
    """``linear`` with products in 8 bits where there are many tokens."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.train(linear.training)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        rows = tokens.flatten(0, -2)
        if rows.shape[0] < FEW_TOKENS:
            return super().forward(tokens)
        out = product(*in_fp8(rows, ROWS), *in_fp8(self.weight, ROWS), tokens.dtype)
        out = out if self.bias is None else out + self.bias
        return out.reshape(*tokens.shape[:-1], -1)


def product(
    rows: torch.Tensor,
    row_scales: torch.Tensor,
    weight: torch.Tensor,
    weight_scales: torch.Tensor,
    dtype: torch.dtype,
) -> torch.Tensor:
    """``rows`` times the transposed ``weight``, (count, features)."""
    if rows.is_cuda:
        return torch._scaled_mm(
            rows,
            weight.t(),
            scale_a=row_scales,
            scale_b=weight_scales.t(),
            out_dtype=dtype,
            use_fast_accum=True,
        )
    scales = row_scales * weight_scales.t()  # CPUs have no such product
    return ((rows.float() @ weight.float().t()) * scales).to(dtype)
