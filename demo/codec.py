"""What the families' VAEs share while they are trained: pixels and convolutions."""

from __future__ import annotations

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


def flat_conv(
    frames: Tensor, kernel: Tensor, bias: Tensor | None, count: int
) -> Tensor:
    """A convolution within frames (count · frames, h, w, channels)."""
    made = F.conv2d(frames.permute(0, 3, 1, 2), kernel, bias, padding=1)
    return made.permute(0, 2, 3, 1).unflatten(0, (count, -1)).permute(0, 4, 1, 2, 3)
