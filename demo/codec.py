"""What the families' VAEs share while they are trained: pixels and convolutions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def to_model(clips: Tensor) -> Tensor:
    """uint8 (clips, frames, h, w, 3) to float (clips, 3, frames, h, w) in -1..1."""
    return clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def to_uint8(video: Tensor) -> Tensor:
    """The reverse of ``to_model``."""
    frames = (video.permute(0, 2, 3, 4, 1) + 1) * 127.5
    return frames.round().clamp(0, 255).to(torch.uint8)


def stacked_conv(padded: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3 × 3 × 3 convolution as one flat convolution over three stacked frames, which
    is faster than cuDNN's of three dimensions.

    ``padded`` is (clips, frames + 2, h, w, channels); returns (clips, channels, frames,
    h, w), both with the channels lying together in memory.
    """
    count, length = padded.shape[0], padded.shape[1] - 2
    stacked = torch.cat([padded[:, i : i + length] for i in range(3)], -1)
    kernel = weight.transpose(1, 2).flatten(1, 2)
    return flat_conv(stacked.flatten(0, 1), kernel, bias, count)


class StackedReplicated(torch.autograd.Function):
    """Each frame stacked upon the two before it, its borders repeated around it.

    Takes (clips, channels, frames, h, w) and a stride in time, and gives (clips,
    frames / stride, h + 2, w + 2, 3 · channels); before the first frame stand copies
    of it. Autograd alone would go through the whole tensor once more for each border.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, stride: int) -> Tensor:
        count, channels, length, height, width = x.shape
        padded = x.new_empty(count, length + 2, height + 2, width + 2, channels)
        frames = padded[:, 2:]
        frames[:, :, 1:-1, 1:-1] = x.permute(0, 2, 3, 4, 1)
        frames[:, :, 0, 1:-1] = frames[:, :, 1, 1:-1]
        frames[:, :, -1, 1:-1] = frames[:, :, -2, 1:-1]
        frames[:, :, :, 0] = frames[:, :, :, 1]
        frames[:, :, :, -1] = frames[:, :, :, -2]
        padded[:, :2] = padded[:, 2:3]
        ctx.shape, ctx.stride = padded.shape, stride
        return torch.cat([padded[:, i : i + length : stride] for i in range(3)], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        padded = grads[0].new_zeros(ctx.shape)
        length = ctx.shape[1] - 2
        for i, part in enumerate(grads[0].chunk(3, -1)):
            padded[:, i : i + length : ctx.stride] += part
        padded[:, 2] += padded[:, 0] + padded[:, 1]
        frames = padded[:, 2:]
        frames[:, :, :, 1] += frames[:, :, :, 0]
        frames[:, :, :, -2] += frames[:, :, :, -1]
        frames[:, :, 1] += frames[:, :, 0]
        frames[:, :, -2] += frames[:, :, -1]
        return frames[:, :, 1:-1, 1:-1].permute(0, 4, 1, 2, 3), None


def replicated_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, int, int]
) -> Tensor:
    """A causal 3 × 3 × 3 convolution over repeated borders, made as ``stacked_conv``;
    ``x`` is (clips, channels, frames, h, w)."""
    stacked = StackedReplicated.apply(x, stride[0])
    kernel = weight.transpose(1, 2).flatten(1, 2)
    return flat_conv(
        stacked.flatten(0, 1), kernel, bias, x.shape[0], stride=stride[1:], padding=0
    )


def flat_conv(
    frames: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    count: int,
    stride: tuple[int, int] = (1, 1),
    padding: int = 1,
) -> Tensor:
    """A convolution within frames (count · frames, h, w, channels)."""
    made = F.conv2d(frames.permute(0, 3, 1, 2), kernel, bias, stride, padding)
    return made.permute(0, 2, 3, 1).unflatten(0, (count, -1)).permute(0, 4, 1, 2, 3)
