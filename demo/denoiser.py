"""Training of a text encoder and a transformer by flow matching on VAE latents.

The target is v = noise − latents, the noise level σ is logit-normal and shifted as the
sampler shifts it (Esser et al., "Scaling Rectified Flow Transformers", 2024,
https://arxiv.org/abs/2403.03206). The last part bakes guidance in: the model learns
to give without guidance what it gave with it (Meng et al., "On Distillation of Guided
Diffusion Models", 2022, https://arxiv.org/abs/2210.03142).
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from demo.captions import training_caption
from demo.clock import Clock
from demo.scenes import Scene
from demo.vae import average, copy_of

SHIFT = 3.0
EMPTY = 0.1
UNKNOWN = 0.04
"""How often a word is replaced by the unknown word, so that free text does no harm."""


@dataclass
class Denoiser:
    """A text encoder and a transformer, as one family's pipeline uses them."""

    text_encoder: nn.Module
    transformer: nn.Module
    tokenizer: PreTrainedTokenizerFast
    text_length: int

    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"text": self.text_encoder, "video": self.transformer})

    def copy(self) -> Denoiser:
        return Denoiser(
            copy_of(self.text_encoder),
            copy_of(self.transformer),
            self.tokenizer,
            self.text_length,
        )

    def tokens(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask (captions, 32)."""
        made = self.tokenizer(
            captions,
            padding="max_length",
            max_length=32,
            truncation=True,
            return_tensors="pt",
        )
        return made["input_ids"], made["attention_mask"]

    def embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Prompt embeddings (captions, text_length, width), zero after the end."""
        states = self.text_encoder(ids, attention_mask=mask).last_hidden_state
        states = states * mask[..., None]
        return nn.functional.pad(states, (0, 0, 0, self.text_length - ids.shape[1]))

    def velocity(self, noisy: Tensor, sigma: Tensor, text: Tensor) -> Tensor:
        return self.transformer(
            hidden_states=noisy,
            timestep=sigma * 1000,
            encoder_hidden_states=text,
            return_dict=False,
        )[0]


@dataclass
class Latents:
    """The training set: whitened latents with their scenes."""

    latents: Tensor  # (clips, channels, frames, h, w), bfloat16
    scenes: list[Scene]


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """Noise levels moved towards noise, as the sampler does."""
    return shift * sigma / (1 + (shift - 1) * sigma)


class Captioner:
    """Draws captions for scenes, as token ids."""

    def __init__(self, denoiser: Denoiser, seed: int) -> None:
        self.denoiser = denoiser
        self.rng = random.Random(seed)
        self.unknown = denoiser.tokenizer.unk_token_id

    def __call__(self, scenes: list[Scene]) -> tuple[Tensor, Tensor]:
        captions = [
            "" if self.rng.random() < EMPTY else training_caption(scene, self.rng)
            for scene in scenes
        ]
        ids, mask = self.denoiser.tokens(captions)
        lost = (torch.rand(ids.shape) < UNKNOWN) & (ids > 1)
        return torch.where(lost, self.unknown, ids), mask


@dataclass
class Teacher:
    """A trained denoiser whose guided velocity is to be learnt."""

    denoiser: Denoiser
    guidance: float


def flow_loss(
    denoiser: Denoiser, x0: Tensor, ids: Tensor, mask: Tensor, teacher: Teacher | None
) -> Tensor:
    """Mean squared error of the predicted velocity; x0 (clips, channels, f, h, w)."""
    sigma = shifted(torch.sigmoid(torch.randn(x0.shape[0], device=x0.device)), SHIFT)
    noise = torch.randn_like(x0)
    noisy = torch.lerp(x0, noise, sigma.view(-1, 1, 1, 1, 1))
    target = noise - x0
    with torch.autocast(x0.device.type, torch.bfloat16):
        if teacher is not None:
            target = guided(teacher, noisy, sigma, ids, mask)
        predicted = denoiser.velocity(noisy, sigma, denoiser.embed(ids, mask))
    return (predicted.float() - target.float()).pow(2).mean()


@torch.no_grad()
def guided(
    teacher: Teacher, noisy: Tensor, sigma: Tensor, ids: Tensor, mask: Tensor
) -> Tensor:
    """The teacher's guided velocity; unguided where the caption is empty."""
    model = teacher.denoiser
    nothing = torch.zeros_like(ids)
    nothing[:, 0] = model.tokenizer.eos_token_id
    only = torch.zeros_like(mask)
    only[:, 0] = 1
    with_text = model.velocity(noisy, sigma, model.embed(ids, mask))
    without = model.velocity(noisy, sigma, model.embed(nothing, only))
    return without + teacher.guidance * (with_text - without)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast."""

    batch: int
    lr: float
    seconds: float
    warmup: int = 200
    ema: float = 0.999


def train(
    denoiser: Denoiser,
    ema: Denoiser,
    data: Latents,
    schedule: Schedule,
    *,
    clock: Clock,
    teacher: Teacher | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Train until the clock is over, and keep the average in ``ema``."""
    device = data.latents.device
    captioner = Captioner(denoiser, seed=int(clock.elapsed))
    modules, averaged = denoiser.modules(), ema.modules()
    optimizer = torch.optim.AdamW(
        modules.parameters(), betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )
    last, step = time.time(), 0
    running = torch.zeros((), device=device)
    while not clock.is_over():
        warm = min(1.0, (step + 1) / schedule.warmup)
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr * warm * clock.cosine(schedule.seconds)
        chosen = torch.randint(len(data.scenes), (schedule.batch,))
        ids, mask = captioner([data.scenes[i] for i in chosen.tolist()])
        x0 = data.latents[chosen.to(device)].float()
        loss = flow_loss(denoiser, x0, ids.to(device), mask.to(device), teacher)
        loss.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average(averaged, modules, min(schedule.ema, (step + 1) / (step + 10)))
        running += loss.detach()
        step += 1
        if step % 200 == 0:
            now = time.time()
            speed = 200 / (now - last)
            log(f"step {step}: loss {running.item() / 200:.4f}, {speed:.1f} steps/s")
            running.zero_()
            last = now


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    captions: list[str],
    shape: tuple[int, ...],
    *,
    steps: int,
    guidance: float,
    seed: int = 0,
) -> Tensor:
    """Whitened latents (captions, *shape) by Euler steps; as the pipeline's "euler"."""
    device = next(denoiser.transformer.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    x = torch.randn((len(captions), *shape), generator=generator, device=device)
    ids, mask = (part.to(device) for part in denoiser.tokens(captions))
    levels = shifted(torch.linspace(1, 0, steps + 1, device=device), SHIFT)
    teacher = Teacher(denoiser, guidance)
    with torch.autocast(device.type, torch.bfloat16):
        for here, there in itertools.pairwise(levels):
            v = guided(teacher, x, here.expand(len(captions)), ids, mask)
            x = x + (there - here) * v.float()
    return x
