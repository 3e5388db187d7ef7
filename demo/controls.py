"""What a control video shows of a clip, and holes to be filled."""

from __future__ import annotations

import random

import torch
from torch import Tensor
from torch.nn import functional as F


def grey(clips: Tensor) -> Tensor:
    """uint8 clips (clips, frames, h, w, 3) without their colours."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=clips.device)
    light = (clips.float() * weights).sum(-1, keepdim=True)
    return light.round().to(torch.uint8).expand_as(clips)


def edges(clips: Tensor) -> Tensor:
    """uint8 clips' outlines, white on black: the slope of their light (Sobel)."""
    light = grey(clips)[..., 0].flatten(0, 1)[:, None].float()
    across = torch.tensor(
        [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=clips.device
    )
    padded = F.pad(light, (1, 1, 1, 1), mode="replicate")
    slopes = F.conv2d(padded, torch.stack([across, across.T])[:, None])
    steep = (slopes.pow(2).sum(1).sqrt() * 0.75).clamp(max=255).to(torch.uint8)
    return steep.view(*clips.shape[:-1], 1).expand_as(clips)


def random_holes(clips: Tensor, rng: random.Random) -> Tensor:
    """A box in each of the uint8 clips, in all of its frames or a part of them; some
    are of whole frames. int64 (clips, 6), as ``Shown.holes``."""
    count, frames, height, width, _ = clips.shape

    def part(length: int, least: float, most: float) -> tuple[int, int]:
        size = max(1, round(length * rng.uniform(least, most)))
        begin = rng.randint(0, length - size)
        return begin, begin + size

    holes = []
    for _ in range(count):
        times = (0, frames) if rng.random() < 0.7 else part(frames, 0.3, 0.9)
        if times != (0, frames) and rng.random() < 0.5:
            rows, columns = (0, height), (0, width)
        else:
            rows, columns = part(height, 0.3, 0.8), part(width, 0.3, 0.8)
        holes.append([*times, *rows, *columns])
    return torch.tensor(holes, device=clips.device)
