"""Training of a video VAE on rendered clips: single frames first, then clips.

The loss is L1 + 3·L2 + 0.5·gradient difference, with moving pixels weighted up (a
static background would drown them), noise on the latents, and a light pull of the
latents towards unit size.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from demo.clock import Clock

LATENT_NOISE = 0.06
PULL = 2e-4


@dataclass(frozen=True)
class Stage:
    """A part of the training with one shape of batch."""

    frames: int
    size: int
    batch: int
    lr: float


@dataclass
class Codec:
    """How to train one family's VAE."""

    vae: nn.Module
    encode: Callable[[Tensor], tuple[Tensor, Tensor]]
    decode: Callable[[Tensor], Tensor]


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Decibels of each clip; both uint8 (clips, frames, height, width, 3)."""
    error = (a.float() - b.float()).pow(2).flatten(1).mean(1)
    return 10 * torch.log10(255.0**2 / error.clamp(min=1e-6))


def crops(pool: Tensor, stage: Stage, generator: torch.Generator) -> Tensor:
    """A batch of random cuts from a pool of clips, float (batch, 3, frames, h, w)."""
    clips, frames, height, width, _ = pool.shape

    def pick(limit: int) -> list[int]:
        drawn = torch.randint(limit, (stage.batch,), generator=generator)
        return drawn.tolist()

    places = zip(
        pick(clips),
        pick(frames - stage.frames + 1),
        pick(height - stage.size + 1),
        pick(width - stage.size + 1),
        strict=True,
    )
    cut = torch.stack(
        [
            pool[i, t : t + stage.frames, y : y + stage.size, x : x + stage.size]
            for i, t, y, x in places
        ]
    )
    return cut.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def loss_of(video: Tensor, codec: Codec) -> Tensor:
    """Training loss of a batch, float (batch, 3, frames, height, width)."""
    with torch.autocast(video.device.type, torch.bfloat16):
        mean, log_variance = codec.encode(video)
        noisy = mean + LATENT_NOISE * torch.randn_like(mean)
        rebuilt = codec.decode(noisy)
    rebuilt, mean = rebuilt.float(), mean.float()
    difference = rebuilt - video
    moving = (video - video.mean(2, keepdim=True)).abs().mean(1, keepdim=True)
    weight = 1 + 4 * (3 * moving).clamp(max=1)
    loss = (weight * (difference.abs() + 3 * difference**2)).mean()
    for axis in (3, 4):
        loss = loss + 0.5 * torch.diff(difference, dim=axis).abs().mean()
    target = 2 * math.log(LATENT_NOISE)
    spread = (log_variance.float() - target).pow(2).mean()
    return loss + PULL * mean.pow(2).mean() + 1e-4 * spread


def make_optimizer(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0, fused=True
    )


@torch.no_grad()
def reconstruct(codec: Codec, clips: Tensor) -> Tensor:
    """uint8 clips through the codec, one by one."""
    rebuilt = []
    for clip in clips:
        video = clip[None].permute(0, 4, 1, 2, 3).float() / 127.5 - 1
        with torch.autocast(video.device.type, torch.bfloat16):
            out = codec.decode(codec.encode(video)[0]).float()
        frames = (out.permute(0, 2, 3, 4, 1) + 1) * 127.5
        rebuilt.append(frames.round().clamp(0, 255).to(torch.uint8))
    return torch.cat(rebuilt)


@torch.no_grad()
def average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the average's weights towards the model's."""
    torch._foreach_lerp_(list(ema.parameters()), list(model.parameters()), 1 - decay)


def run_stage(
    codec: Codec,
    ema: nn.Module,
    stage: Stage,
    pool: Tensor,
    *,
    clock: Clock,
    total: float,
    log: Callable[[str], None] = print,
    keep: Callable[[], None] = lambda: None,
) -> None:
    """Train what isn't frozen until the clock is over; calls ``keep`` every minute.

    The learning rate warms up over 60 steps and follows a cosine over ``total``
    seconds, of which this stage is a part.
    """
    trained = [p for p in codec.vae.parameters() if p.requires_grad]
    optimizer = make_optimizer(trained)
    generator = torch.Generator().manual_seed(int(clock.elapsed * 10))
    kept = last = time.time()
    step = 0
    while not clock.is_over():
        rate = stage.lr * min(1.0, (step + 1) / 60) * max(clock.cosine(total), 0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(crops(pool, stage, generator), codec)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # A call that goes on has an average already.
        most = 0.998 if clock.elapsed else (step + 1) / (step + 10)
        average(ema, codec.vae, min(0.998, most))
        step += 1
        if step % 200 == 0:
            now = time.time()
            log(
                f"{stage.frames} frames, step {step}: loss {loss.item():.4f}, "
                f"{200 / (now - last):.1f} steps/s"
            )
            last = now
            if now - kept > 60:
                kept = now
                keep()


def copy_of(model: nn.Module) -> nn.Module:
    """A copy to average into."""
    return copy.deepcopy(model).requires_grad_(False)
