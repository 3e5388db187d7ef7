"""The judge: reads the attributes off a video. Trained on rendered video only."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from demo.scenes import ATTRIBUTES, Attributes

SIZE = 96
FRAMES, COLOURED = 33, 3
"""The judge sees 33 frames in grey, scaled to 96 × 96: of fewer, a thing that spins can
look as one at rest. The first, the middle one and the last are also seen in colour."""
CHANNELS = FRAMES + 3 * COLOURED
BATCH = 256


class Judge(nn.Module):
    """A small convolutional network over a stack of frames."""

    def __init__(self, attributes: Attributes = ATTRIBUTES) -> None:
        super().__init__()
        widths = [CHANNELS, 64, 96, 128, 192]
        layers: list[nn.Module] = []
        for inner, outer in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(inner, outer, 3, padding=1),
                nn.GroupNorm(8, outer),
                nn.SiLU(),
                nn.Conv2d(outer, outer, 3, stride=2, padding=1),
                nn.GroupNorm(8, outer),
                nn.SiLU(),
            ]
        self.body = nn.Sequential(*layers)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(widths[-1] * 36, len(v)) for name, v in attributes.items()}
        )

    def forward(self, seen: Tensor) -> dict[str, Tensor]:
        """Scores per attribute of videos from ``look``."""
        features = self.body(seen).flatten(1)
        return {name: head(features) for name, head in self.heads.items()}


def look(clips: Tensor) -> Tensor:
    """What the judge sees of uint8 clips (clips, frames, h, w, 3).

    Returns uint8 (clips, 42, 96, 96).
    """
    return torch.cat([_look(part) for part in clips.split(32)])


def _look(clips: Tensor) -> Tensor:
    count, frames = clips.shape[:2]
    chosen = torch.linspace(0, frames - 1, FRAMES).round().long().to(clips.device)
    picked = clips[:, chosen].permute(0, 1, 4, 2, 3).flatten(0, 1).float()
    small = F.interpolate(picked, (SIZE, SIZE), mode="bilinear", antialias=True)
    small = small.unflatten(0, (count, FRAMES))
    coloured = small[:, :: (FRAMES - 1) // (COLOURED - 1)].flatten(1, 2)
    return torch.cat([small.mean(2), coloured], 1).round().to(torch.uint8)


def normalise(seen: Tensor) -> Tensor:
    return seen.float() / 127.5 - 1


def train_judge(
    seen: Tensor, labels: Tensor, seconds: float, attributes: Attributes = ATTRIBUTES
) -> Judge:
    """Train on ``look``ed-at renders with labels (clips, attributes)."""
    device, count = seen.device, min(BATCH, len(seen))
    judge = Judge(attributes).to(device)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3, weight_decay=0.02)
    start = time.time()
    while (spent := (time.time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 - spent)
        chosen = torch.randint(len(seen), (count,), device=device)
        batch = normalise(seen[chosen])
        # Generated video is softer and noisier than a render, and not as bright.
        batch = batch * (0.9 + 0.2 * torch.rand(count, 1, 1, 1, device=device))
        noise = torch.randn_like(batch)
        batch = batch + 0.06 * torch.rand(count, 1, 1, 1, device=device) * noise
        if torch.rand(()) < 0.5:
            batch = F.avg_pool2d(batch, 3, 1, 1)
        with torch.autocast(device.type, torch.bfloat16):
            scores = judge(batch)
        loss = sum(
            F.cross_entropy(scores[name].float(), labels[chosen, i])
            for i, name in enumerate(attributes)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return judge.eval()


@torch.no_grad()
def read_attributes(judge: Judge, clips: Tensor) -> Tensor:
    """Labels (clips, attributes) that the judge sees in uint8 videos."""
    scores = judge(normalise(look(clips)))
    return torch.stack([scores[name].argmax(1) for name in judge.heads], 1)


def save_judge(judge: Judge, file: Path) -> None:
    save_file({k: v.half().contiguous() for k, v in judge.state_dict().items()}, file)


def load_judge(file: Path, attributes: Attributes = ATTRIBUTES) -> Judge:
    judge = Judge(attributes)
    judge.load_state_dict({k: v.float() for k, v in load_file(file).items()})
    return judge.eval()
