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
from demo.kind import Kind, Pin, Text
from demo.scenes import Scene
from demo.vae import average

SHIFT = 3.0
EMPTY = 0.1
UNKNOWN = 0.04
"""How often a word is replaced by the unknown word, so that free text does no harm."""


ALIKE = {"still": 2.0, "spinning": 2.0}
"""Motions that are taken for one another are drawn so many times as often."""

WORDS = 32
"""So many tokens are read; no caption has more."""


@dataclass
class Denoiser:
    """A text encoder and a transformer, as one family's pipeline uses them."""

    kind: Kind
    text_encoder: nn.Module
    transformer: nn.Module
    tokenizer: PreTrainedTokenizerFast

    def modules(self) -> nn.ModuleDict:
        return nn.ModuleDict({"text": self.text_encoder, "video": self.transformer})

    def tokens(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask (captions, 32)."""
        made = self.tokenizer(
            captions,
            padding="max_length",
            max_length=WORDS,
            truncation=True,
            return_tensors="pt",
        )
        return made["input_ids"], made["attention_mask"]

    def embed(self, ids: Tensor, mask: Tensor) -> Text:
        """Prompt embeddings, as long as the pipeline's."""
        return self.kind.embed(self.text_encoder, ids, mask)

    def velocity(
        self, noisy: Tensor, levels: Tensor, text: Text, pin: Pin | None = None
    ) -> Tensor:
        return self.kind.velocity(self.transformer, noisy, levels, text, pin)


@dataclass
class Latents:
    """The training set: whitened latents with their scenes."""

    sizes: dict[int, Tensor]
    """By size of picture: (clips, channels, frames, h, w), bfloat16."""
    pins: dict[str, Pin]
    """Given frames of the same clips, by name and size, such as "clip 256"."""
    scenes: list[Scene]


@dataclass
class Batch:
    """What one training step sees."""

    latents: Tensor
    ids: Tensor
    mask: Tensor
    first: int = 0
    """So many latent frames at the start are given."""
    pin: Pin | None = None


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """Noise levels moved towards noise, as the sampler does."""
    return shift * sigma / (1 + (shift - 1) * sigma)


class Captioner:
    """Draws captions for scenes, as token ids."""

    def __init__(self, denoiser: Denoiser, seed: int) -> None:
        self.denoiser = denoiser
        self.rng = random.Random(seed)
        self.unknown = denoiser.tokenizer.unk_token_id

    def __call__(
        self,
        scenes: list[Scene],
        wording: Callable[[Scene, random.Random], str] = training_caption,
    ) -> tuple[Tensor, Tensor]:
        captions = [
            "" if self.rng.random() < EMPTY else wording(scene, self.rng)
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
    denoiser: Denoiser,
    batch: Batch,
    teacher: Teacher | None = None,
    *,
    shift: float = SHIFT,
) -> Tensor:
    """Mean squared error of the predicted velocity of the frames that aren't given;
    ``shift`` moves the drawn noise levels towards noise."""
    x0 = batch.latents
    count = x0.shape[0]
    sigma = shifted(torch.sigmoid(torch.randn(count, device=x0.device)), shift)
    noise = torch.randn_like(x0)
    noisy = torch.lerp(x0, noise, sigma.view(-1, 1, 1, 1, 1))
    levels = sigma[:, None]
    blur = denoiser.kind.GIVEN.noise * sigma.view(-1, 1, 1, 1, 1) ** 2
    if batch.first:
        given = x0[:, :, : batch.first]
        given = given + blur * torch.randn_like(given)
        noisy = torch.cat([given, noisy[:, :, batch.first :]], 2)
        levels = levels.repeat(1, x0.shape[2])
        levels[:, : batch.first] = 0.0
    pin = batch.pin
    if pin is not None:
        shown = pin.latents + blur * torch.randn_like(pin.latents)
        pin = Pin(shown, pin.frame)
    target = noise - x0
    with torch.autocast(x0.device.type, torch.bfloat16):
        text = denoiser.embed(batch.ids, batch.mask)
        if teacher is not None:
            target = guided(teacher, noisy, levels, batch, pin)
        predicted = denoiser.velocity(noisy, levels, text, pin)
    wrong = (predicted.float() - target.float())[:, :, batch.first :]
    return wrong.pow(2).mean()


@torch.no_grad()
def guided(
    teacher: Teacher, noisy: Tensor, levels: Tensor, batch: Batch, pin: Pin | None
) -> Tensor:
    """The teacher's guided velocity; unguided where the caption is empty."""
    model = teacher.denoiser
    nothing = torch.zeros_like(batch.ids)
    nothing[:, 0] = model.tokenizer.eos_token_id
    only = torch.zeros_like(batch.mask)
    only[:, 0] = 1
    told = model.embed(batch.ids, batch.mask)
    with_text = model.velocity(noisy, levels, told, pin)
    without = model.velocity(noisy, levels, model.embed(nothing, only), pin)
    return without + teacher.guidance * (with_text - without)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast."""

    batch: int
    lr: float
    seconds: float
    warmup: int = 200
    ema: float = 0.999


class Batches:
    """Draws what each training step sees."""

    def __init__(
        self, denoiser: Denoiser, data: Latents, count: int, seed: int
    ) -> None:
        self.data, self.count = data, count
        self.given = denoiser.kind.GIVEN
        self.captioner = Captioner(denoiser, seed)
        self.rng = random.Random(seed)
        self.weights = torch.tensor([ALIKE.get(s.motion, 1.0) for s in data.scenes])

    def draw(self) -> Batch:
        """Two thirds at the default size, the rest at the others."""
        default, *others = self.data.sizes
        at_default = not others or self.rng.random() < 0.67
        size = default if at_default else self.rng.choice(others)
        latents = self.data.sizes[size]
        # As many pixels whatever the size.
        count = round(self.count * (default / size) ** 2)
        chosen = torch.multinomial(self.weights, count, replacement=True)
        ids, mask = self.captioner([self.data.scenes[i] for i in chosen.tolist()])
        device = latents.device
        chosen = chosen.to(device)
        batch = Batch(latents[chosen].float(), ids.to(device), mask.to(device))
        if self.given.first and self.rng.random() < self.given.first:
            batch.first = self.rng.choice(self.given.counts)
        if self.given.others and self.rng.random() < self.given.others:
            pin = self.data.pins[f"{self.rng.choice(('frame', 'clip'))} {size}"]
            batch.pin = Pin(pin.latents[chosen].float(), pin.frame[chosen])
        return batch


def train(
    denoiser: Denoiser,
    ema: Denoiser,
    data: Latents,
    schedule: Schedule,
    *,
    clock: Clock,
    teacher: Teacher | None = None,
    log: Callable[[str], None] = print,
    keep: Callable[[], None] = lambda: None,
) -> None:
    """Train until the clock is over, the average in ``ema``; calls ``keep`` every
    minute."""
    drawn = Batches(denoiser, data, schedule.batch, seed=int(clock.elapsed))
    modules, averaged = denoiser.modules(), ema.modules()
    optimizer = torch.optim.AdamW(
        modules.parameters(), betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )
    kept = last = time.time()
    step, running = 0, 0.0
    while not clock.is_over():
        warm = min(1.0, (step + 1) / schedule.warmup)
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr * warm * clock.cosine(schedule.seconds)
        loss = flow_loss(denoiser, drawn.draw(), teacher)
        loss.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # The average of an earlier call is worth more than a few new steps.
        decay = 1.0 if clock.elapsed else (step + 1) / (step + 10)
        average(averaged, modules, min(schedule.ema, decay))
        running = running + loss.detach()
        step += 1
        if step % 200 == 0:
            now = time.time()
            speed = 200 / (now - last)
            log(f"step {step}: loss {float(running) / 200:.4f}, {speed:.1f} steps/s")
            last, running = now, 0.0
            if now - kept > 60:
                kept = now
                keep()


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    captions: list[str],
    shape: tuple[int, ...],
    *,
    steps: int,
    guidance: float,
    seed: int = 0,
    start: Tensor | None = None,
) -> Tensor:
    """Whitened latents (captions, *shape) by Euler steps; as the pipeline's "euler".

    ``start`` are first frames (captions, channels, frames, h, w) to keep.
    """
    device = next(denoiser.transformer.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    x = torch.randn((len(captions), *shape), generator=generator, device=device)
    ids, mask = (part.to(device) for part in denoiser.tokens(captions))
    batch = Batch(x, ids, mask)
    levels = shifted(torch.linspace(1, 0, steps + 1, device=device), SHIFT)
    teacher = Teacher(denoiser, guidance)
    kept = 0 if start is None else start.shape[2]
    with torch.autocast(device.type, torch.bfloat16):
        for here, there in itertools.pairwise(levels):
            each = here.expand(len(captions), 1)
            if start is not None:
                x = torch.cat([start, x[:, :, kept:]], 2)
                each = each.repeat(1, x.shape[2])
                each[:, :kept] = 0.0
            v = guided(teacher, x, each, batch, None).float()
            v[:, :, :kept] = 0.0
            x = x + (there - here) * v
    return x
