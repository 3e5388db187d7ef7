"""From a VAE's numbers to pixels."""

from __future__ import annotations

import numpy as np
import torch


def to_uint8(chunk: torch.Tensor) -> np.ndarray:
    """(1, 3, frames, height, width) in [-1, 1] to uint8 (frames, height, width, 3)."""
    pixels = (chunk[0].float() / 2 + 0.5).clamp(0, 1).mul(255).round()
    frames: np.ndarray = pixels.to(torch.uint8).permute(1, 2, 3, 0).cpu().numpy()
    return frames
