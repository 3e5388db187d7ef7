"""Teach a shipped demo model a further task: ``python -m demo.adapt wan_i2v --state
DIR``.

The VAE and the text encoder stay as they are; the transformer begins as the one from
text. The work is in parts, each resumed where it stopped: clips in latents, the
training, a look at held-out clips. ``--minutes`` ends a call early; calling again goes
on. Needs a GPU: about six minutes on an H100.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer

from demo.captions import full_caption, sparse_caption, training_caption
from demo.clock import Clock
from demo.denoiser import SHIFT, Captioner, Denoiser, shifted
from demo.evaluate import JUDGE, score, strip
from demo.judge import load_judge
from demo.kind import Kind, Text, get_kind
from demo.pairs import Pairs, make_pairs, show_all
from demo.scenes import split_scenes
from demo.task import TASKS, Task, get_task, hole_masks
from demo.train import to_video
from demo.trainer import Trainer
from demo.vae import average, copy_of
from engine.settings import PROJECT

BATCH = 192
WARMUP = 100
EMA = 0.998
JUDGED, STEPS = 64, 20


@dataclass
class Base:
    """The shipped model that a task starts from, in float32."""

    vae: Any
    denoiser: Denoiser


@dataclass
class Student:
    """What is trained, and its average."""

    task: Task
    model: Any
    average: Any


def load_base(kind: Kind, folder: Path, device: str) -> Base:
    """Files in diffusers' layout to networks that are not trained."""
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")

    def network(made: nn.Module, name: str) -> Any:
        loaded = type(made).from_pretrained(folder / name)  # type: ignore[attr-defined]
        return loaded.float().to(device).eval().requires_grad_(False)

    vae = kind.quicken(network(kind.make_vae(), "vae"))
    encoder = network(kind.make_text_encoder(len(tokenizer)), "text_encoder")
    transformer = network(kind.make_transformer(), "transformer")
    return Base(vae, Denoiser(kind, encoder, transformer, tokenizer))


def make_student(trainer: Trainer, task: Task, base: Base) -> Student:
    """As far as it was trained in earlier calls."""
    torch.manual_seed(0)
    model: Any = task.make_transformer(base.denoiser.transformer).to(trainer.device)
    student = Student(task, model, copy_of(model))
    trainer.load("transformer", model, student.average)
    return student


def flow_loss(student: Student, text: Text, pairs: Pairs) -> Tensor:
    """Mean squared error of the predicted velocity."""
    x0 = pairs.latents
    levels = shifted(torch.sigmoid(torch.randn(len(x0), device=x0.device)), SHIFT)
    noise = torch.randn_like(x0)
    noisy = torch.lerp(x0, noise, levels.view(-1, 1, 1, 1, 1))
    with torch.autocast(x0.device.type, torch.bfloat16):
        made = student.task.velocity(student.model, noisy, levels, text, pairs.shown)
    return (made.float() - (noise - x0)).pow(2).mean()


class Batches:
    """Draws what each training step sees: always as many clips of one way."""

    def __init__(
        self, task: Task, data: dict[str, Pairs], base: Denoiser, seed: int
    ) -> None:
        self.task, self.data, self.base = task, data, base
        self.captioner = Captioner(base, seed)
        self.rng = random.Random(seed)

    def draw(self) -> tuple[Pairs, Text]:
        ways = [*self.data]
        shares = [self.task.WAYS[way] for way in ways]
        (way,) = self.rng.choices(ways, shares)
        latents = self.data[way].latents
        chosen = torch.randint(len(latents), (BATCH,)).to(latents.device)
        pairs = self.data[way].take(chosen)
        wording = sparse_caption if way in self.task.SPARSE else training_caption
        ids, mask = self.captioner(pairs.scenes, wording)
        with torch.no_grad():
            text = self.base.embed(ids.to(latents.device), mask.to(latents.device))
        return pairs, text


def train(
    trainer: Trainer, student: Student, base: Base, data: dict[str, Pairs]
) -> None:
    """Train until the task's seconds are over; saved every minute and at the end."""
    task, model = student.task, student.model
    clock = Clock(trainer.spent("transformer"), task.SECONDS, trainer.until)
    drawn = Batches(task, data, base.denoiser, seed=int(clock.elapsed))
    weights = task.trained(model)
    optimizer = torch.optim.AdamW(
        weights, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )

    def keep() -> None:
        trainer.save("transformer", model, student.average)
        trainer.done("transformer", clock.spent())

    model.compile_repeated_blocks(dynamic=False)
    kept = last = time.time()
    step, running = 0, 0.0
    while not clock.is_over():
        rate = task.RATE * min(1.0, (step + 1) / WARMUP) * clock.cosine(task.SECONDS)
        for group in optimizer.param_groups:
            group["lr"] = rate
        pairs, text = drawn.draw()
        loss = flow_loss(student, text, pairs)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        decay = 1.0 if clock.elapsed else (step + 1) / (step + 10)
        average(student.average, model, min(EMA, decay))
        running = running + loss.detach()
        step += 1
        if step % 100 == 0:
            now, seen = time.time(), float(running) / 100
            trainer.log(
                f"step {step}: loss {seen:.4f}, {100 / (now - last):.1f} steps/s"
            )
            last, running = now, 0.0
            if now - kept > 60:
                kept = now
                keep()
    keep()


@torch.no_grad()
def sample(student: Student, pairs: Pairs, text: Text) -> Tensor:
    """Whitened latents of the video by Euler steps, without guidance; as the
    pipeline's "euler"."""
    device = pairs.latents.device
    generator = torch.Generator(device).manual_seed(0)
    x = torch.randn(pairs.latents.shape, generator=generator, device=device)
    levels = shifted(torch.linspace(1, 0, STEPS + 1, device=device), SHIFT)
    for here, there in itertools.pairwise(levels):
        with torch.autocast(device.type, torch.bfloat16):
            v = student.task.velocity(
                student.average, x, here.expand(len(x)), text, pairs.shown
            )
        x = x + (there - here) * v.float()
    return x[:, :, pairs.shown.pictures :]


@torch.no_grad()
def look(trainer: Trainer, student: Student, base: Base) -> None:
    """What becomes of held-out clips that are given in each way, and pictures."""
    kind, task, denoiser = trainer.kind, student.task, base.denoiser
    judge = load_judge(JUDGE).to(trainer.device)
    clips, scenes = trainer.clips(split_scenes()[1], JUDGED, seed=3)
    rng = random.Random(3)
    ids, mask = denoiser.tokens([full_caption(scene, rng) for scene in scenes])
    text = denoiser.embed(ids.to(trainer.device), mask.to(trainer.device))
    for way in task.WAYS:
        shown = show_all(kind, task, base.vae, way, clips, rng)
        length = shown.condition.shape[2]
        room = [len(clips), base.vae.config.z_dim, length, *shown.condition.shape[3:]]
        pairs = Pairs(torch.empty(room, device=trainer.device), shown, scenes)
        pairs = pairs.take(torch.arange(len(clips), device=trainer.device))
        made = to_video(kind, base.vae, sample(student, pairs, text))
        kept = kept_decibels(made, clips, shown.holes)
        trainer.log(f"{way}: kept {kept}, {score(judge, made, scenes)}")
        strip(torch.cat([clips[:6], made[:6]], 2), trainer.state / f"{way}.png")


def kept_decibels(made: Tensor, wanted: Tensor, holes: Tensor) -> str:
    """PSNR of what is outside of the holes, its mean over uint8 clips and the worst."""
    frames = torch.arange(made.shape[1], device=made.device)
    stays = ~hole_masks(holes, frames, *made.shape[2:4])
    error = (made.float() - wanted.float()).pow(2).mean(-1)
    kept = stays.flatten(1).sum(1)
    if not kept.all():
        return "nothing"
    wrong = (error * stays).flatten(1).sum(1) / kept
    decibels = 10 * torch.log10(255.0**2 / wrong.clamp(min=1e-6))
    return f"{decibels.mean():.1f} dB, worst {decibels.min():.1f} dB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument(
        "--state", type=Path, required=True, help="folder to resume from"
    )
    parser.add_argument("--base", type=Path, help="default: ckpts/demo/<family>")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    task = get_task(options.task)
    trainer = Trainer(
        get_kind(task.BASE), options.state, options.minutes, options.device
    )
    folder = options.base or PROJECT / "ckpts" / "demo" / task.BASE
    base = load_base(trainer.kind, folder, options.device)
    student = make_student(trainer, task, base)
    if trainer.spent("transformer") < task.SECONDS:
        data = make_pairs(trainer, task, base.vae)
        if data is None:
            return
        train(trainer, student, base, data)
    if trainer.spent("transformer") >= task.SECONDS and not trainer.spent("look"):
        look(trainer, student, base)
        trainer.done("look", 1.0)


if __name__ == "__main__":
    main()
