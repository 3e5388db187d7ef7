"""Training of a latent upsampler: small latents to those of twice the size."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from demo.clock import Clock
from demo.vae import average, make_optimizer

BATCH, LR = 64, 1e-3


def train(
    model: nn.Module,
    ema: nn.Module,
    pairs: tuple[Tensor, Tensor],
    scale: tuple[Tensor, Tensor],
    *,
    clock: Clock,
    total: float,
    log: Callable[[str], None] = print,
) -> None:
    """Train until the clock is over on ``pairs`` of whitened latents (small, large);
    ``scale`` brings them to the VAE's own scale, on which the model works."""
    mean, deviation = scale
    optimizer: Any = make_optimizer(list(model.parameters()))
    small, large = pairs
    step, last = 0, time.time()
    while not clock.is_over():
        rate = LR * min(1.0, (step + 1) / 60) * max(clock.cosine(total), 0.01)
        for group in optimizer.param_groups:
            group["lr"] = rate
        chosen = torch.randint(len(small), (BATCH,), device=small.device)
        given = small[chosen].float()
        # A video that was denoised isn't as clean as one that was encoded.
        given = given + 0.1 * torch.rand(()).item() * torch.randn_like(given)
        with torch.autocast(given.device.type, torch.bfloat16):
            made = model(given * deviation + mean)
        wrong = (made.float() - mean) / deviation - large[chosen].float()
        loss = wrong.abs().mean() + wrong.pow(2).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average(ema, model, min(0.998, (step + 1) / (step + 10)))
        step += 1
        if step % 200 == 0:
            now = time.time()
            log(
                f"upsampler, step {step}: loss {loss.item():.4f}, "
                f"{200 / (now - last):.1f} steps/s"
            )
            last = now
