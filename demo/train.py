"""Train a demo model from nothing: ``python -m demo.train wan --state DIR``.

The work is four parts, each resumed where it stopped: the VAE, the training set in
latents (with the judge), the denoiser, and guidance baked in. ``--minutes`` ends a call
early; calling again goes on. Needs a GPU; the whole takes under an hour on an H100.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from demo import codec, denoiser, vae, wan
from demo.captions import full_caption
from demo.clips import sample_clips
from demo.clock import Clock
from demo.evaluate import scene_captions, score, strip
from demo.judge import load_judge, look, save_judge, train_judge
from demo.render import render
from demo.scenes import Scene, draw, label_tensor, scene_of, split_scenes

FRAMES, SIZE = 33, 256
VAE_PARTS = (
    (vae.Stage(1, 128, 128, 2e-3), 60.0),
    (vae.Stage(17, 128, 24, 1.5e-3), 400.0),
    (vae.Stage(33, 256, 3, 8e-4), 180.0),
)
POOL, TRAINING_CLIPS, RENDER_BATCH = 1024, 6144, 64
LATENT_SECONDS = 240.0
JUDGE_PARTS = 10
"""Of the training set's parts of 256 clips, so many teach the judge."""
DENOISER = denoiser.Schedule(batch=256, lr=1.2e-3, seconds=640.0)
BAKE = denoiser.Schedule(batch=256, lr=2e-4, seconds=50.0, warmup=20)
BAKED_GUIDANCE = 3.0
LATENT_SHAPE = (wan.LATENT_CHANNELS, 9, SIZE // 16, SIZE // 16)


class Trainer:
    """The state folder and the clock."""

    def __init__(self, state: Path, minutes: float, device: str) -> None:
        self.state = state
        self.device = device
        self.until = time.time() + minutes * 60
        self.start = time.time()
        state.mkdir(parents=True, exist_ok=True)
        self.progress_file = state / "progress.json"
        self.progress: dict[str, float] = (
            json.loads(self.progress_file.read_text())
            if self.progress_file.exists()
            else {}
        )

    def log(self, message: str) -> None:
        line = f"[{time.time() - self.start:6.1f} s] {message}"
        print(line, flush=True)
        with (self.state / "training.log").open("a") as file:
            file.write(line + "\n")

    def done(self, part: str, seconds: float) -> None:
        self.progress[part] = seconds
        self.progress_file.write_text(json.dumps(self.progress, indent=1))

    def save(self, name: str, model: nn.Module, ema: nn.Module) -> None:
        """The weights to go on from, and the averaged ones to use (bfloat16)."""
        save_model(model, str(self.state / f"{name}.raw.safetensors"))
        averaged = vae.copy_of(ema).bfloat16()
        save_model(averaged, str(self.state / f"{name}.safetensors"))

    def load(self, name: str, model: nn.Module, ema: nn.Module) -> None:
        """Go on from the raw weights, or from the averaged ones if only they exist."""
        averaged = self.state / f"{name}.safetensors"
        raw = self.state / f"{name}.raw.safetensors"
        if averaged.exists():
            load_model(ema, averaged)
            load_model(model, raw if raw.exists() else averaged)

    def clips(
        self, scenes: list[Scene], count: int, seed: int
    ) -> tuple[Tensor, list[Scene]]:
        """Rendered clips, uint8 (count, 33, 256, 256, 3), with their scenes."""
        rng = torch.Generator().manual_seed(seed)
        generator = torch.Generator(self.device).manual_seed(seed)
        # Always whole batches: the renderer is compiled for one size.
        drawn = draw(scenes, math.ceil(count / RENDER_BATCH) * RENDER_BATCH, rng)
        made = [
            render(
                sample_clips(drawn[i : i + RENDER_BATCH], FRAMES, generator), SIZE, SIZE
            )
            for i in range(0, len(drawn), RENDER_BATCH)
        ]
        return torch.cat(made)[:count], drawn[:count]


def make_codec(model: nn.Module) -> vae.Codec:
    return vae.Codec(
        model,
        encode=lambda video: codec.encode(model, video),
        decode=lambda latents: codec.decode(model, latents),
    )


def train_vae(trainer: Trainer) -> bool:
    """The VAE; True when it is done."""
    spent = trainer.progress.get("vae", 0.0)
    total = sum(seconds for _, seconds in VAE_PARTS)
    if spent >= total:
        return True
    torch.manual_seed(0)
    model = codec.quicken(wan.make_vae()).to(trainer.device)
    ema = vae.copy_of(model)
    trainer.load("vae", model, ema)
    train, held_out = split_scenes()
    held, _ = trainer.clips(held_out, 32, seed=1)
    trainer.log("renderer ready")
    pool, _ = trainer.clips(train, POOL, seed=100 + int(spent))
    trainer.log(f"pool of {POOL} clips rendered")
    edge = 0.0
    for stage, seconds in VAE_PARTS:
        edge += seconds
        if spent >= edge:
            continue
        clock = Clock(spent, edge, trainer.until)
        vae.run_stage(
            make_codec(model),
            ema,
            stage,
            pool,
            clock=clock,
            total=total,
            log=trainer.log,
        )
        spent = clock.spent()
        decibels = vae.psnr(vae.reconstruct(make_codec(ema), held), held)
        trainer.log(
            f"held-out PSNR {decibels.mean():.2f} dB, worst {decibels.min():.2f} dB"
        )
        trainer.save("vae", model, ema)
        trainer.done("vae", spent)
        if spent < edge:
            return False
    measure_latents(ema, pool)
    ema.to(torch.bfloat16).save_pretrained(trainer.state / "vae")
    rebuilt = vae.reconstruct(make_codec(ema.float()), held[:6])
    strip(torch.cat([held[:6], rebuilt], 2), trainer.state / "vae.png")
    return True


@torch.no_grad()
def measure_latents(model: nn.Module, pool: Tensor) -> None:
    """Write the mean and deviation of each latent channel into the VAE's config."""
    means = [
        codec.encode(model, codec.to_model(clip[None]))[0].float() for clip in pool[:96]
    ]
    latents = torch.cat(means).transpose(0, 1).flatten(1)
    model.register_to_config(
        latents_mean=latents.mean(1).tolist(), latents_std=latents.std(1).tolist()
    )


@torch.no_grad()
def make_latents(trainer: Trainer) -> denoiser.Latents | None:
    """The training set in latents, and the judge with it; None if time ran out.

    Each rendered clip gives four: itself, its mirror image, and both run backwards.
    """
    folder = trainer.state / "latents"
    folder.mkdir(exist_ok=True)
    spent = trainer.progress.get("latents", 0.0) if any(folder.iterdir()) else 0.0
    clock = Clock(spent, LATENT_SECONDS, trainer.until)
    if not clock.is_over():
        model = wan.AutoencoderKLWan.from_pretrained(trainer.state / "vae")
        model = codec.quicken(model).to(trainer.device)
        for number in range(len(list(folder.iterdir())), TRAINING_CLIPS // 256):
            if clock.is_over():
                break
            made = make_part(trainer, model, number)
            save_file(made, folder / f"{number:03}.safetensors")
        trainer.done("latents", clock.spent())
    files = sorted(folder.iterdir())
    trainer.log(f"{len(files) * 1024} clips rendered and encoded")
    if time.time() > trainer.until:
        return None
    parts = [load_file(file, device=trainer.device) for file in files]
    if not (trainer.state / "judge.safetensors").exists():
        make_judge(trainer, parts[:JUDGE_PARTS])
    labels = torch.cat([part["labels"] for part in parts]).tolist()
    latents = torch.cat([part["latents"] for part in parts])
    return denoiser.Latents(latents, [scene_of(row) for row in labels])


def make_part(
    trainer: Trainer, model: wan.AutoencoderKLWan, part: int
) -> dict[str, Tensor]:
    """256 rendered clips, four ways each: latents, labels and what the judge sees."""
    train, _ = split_scenes()
    clips, drawn = trainer.clips(train, 256, seed=10_000 + part)
    views = list(turned(clips, drawn))
    return {
        "latents": torch.cat([encode_all(model, view) for view, _ in views]),
        "labels": label_tensor([scene for _, scenes in views for scene in scenes]),
        "seen": torch.cat([look(view) for view, _ in views]),
    }


def make_judge(trainer: Trainer, parts: list[dict[str, Tensor]]) -> None:
    seen = torch.cat([part["seen"] for part in parts])
    labels = torch.cat([part["labels"] for part in parts])
    with torch.enable_grad():
        judge = train_judge(seen, labels, seconds=25)
    save_judge(judge, trainer.state / "judge.safetensors")
    _, held_out = split_scenes()
    clips, drawn = trainer.clips(held_out, 256, seed=2)
    trainer.log(f"judge on held-out renders: {score(judge, clips, drawn)}")


def turned(clips: Tensor, scenes: list[Scene]) -> Iterator[tuple[Tensor, list[Scene]]]:
    """Clips (clips, frames, height, width, 3) and their mirror images, forwards and
    backwards, with what then moves the other way."""
    other = {"left": "right", "right": "left"}
    swapped = [replace(s, motion=other.get(s.motion, s.motion)) for s in scenes]
    yield clips, scenes
    yield clips.flip(3), swapped
    yield clips.flip(1), swapped
    yield clips.flip(1, 3), scenes


def encode_all(model: wan.AutoencoderKLWan, clips: Tensor) -> Tensor:
    """Whitened latents, bfloat16 (clips, channels, frames, h, w)."""
    mean, deviation = codec.latent_scale(model, clips)
    encoded = []
    for part in clips.split(8):
        with torch.autocast(clips.device.type, torch.bfloat16):
            latents = codec.encode(model, codec.to_model(part))[0].float()
        encoded.append(((latents - mean) / deviation).bfloat16().contiguous())
    return torch.cat(encoded)


def make_denoiser(device: str, *, fast: bool = False) -> denoiser.Denoiser:
    """A new one; ``fast`` compiles it, which costs a minute for each batch size."""
    torch.manual_seed(0)
    tokenizer = wan.make_tokenizer()
    made = denoiser.Denoiser(
        wan.make_text_encoder(len(tokenizer)).to(device),
        wan.make_transformer().to(device),
        tokenizer,
        wan.TEXT_LENGTH,
    )
    if fast:
        made.transformer.compile_repeated_blocks(dynamic=False)
    return made


def train_denoiser(trainer: Trainer) -> None:
    """The text encoder and the transformer, then guidance baked in."""
    data = make_latents(trainer)
    if data is None:
        return
    student = make_denoiser(trainer.device, fast=True)
    ema = make_denoiser(trainer.device)
    spent = trainer.progress.get("denoiser", 0.0)
    baked = trainer.progress.get("bake", 0.0)
    trainer.load("denoiser", student.modules(), ema.modules())
    if spent == 0.0:
        start_from(student, ema)
    ema.modules().requires_grad_(False)
    if spent < DENOISER.seconds:
        clock = Clock(spent, DENOISER.seconds, trainer.until)
        denoiser.train(student, ema, data, DENOISER, clock=clock, log=trainer.log)
        spent = clock.spent()
        trainer.save("denoiser", student.modules(), ema.modules())
        trainer.done("denoiser", spent)
        judge_denoiser(trainer, ema, ((8, 3.0), (8, 1.0)))
    if spent >= DENOISER.seconds and baked < BAKE.seconds:
        teacher = denoiser.Teacher(make_denoiser(trainer.device), BAKED_GUIDANCE)
        start_from(ema, teacher.denoiser, student)
        clock = Clock(baked, BAKE.seconds, trainer.until)
        denoiser.train(
            student, ema, data, BAKE, clock=clock, teacher=teacher, log=trainer.log
        )
        trainer.save("baked", student.modules(), ema.modules())
        trainer.done("bake", clock.spent())
        judge_denoiser(trainer, ema, ((4, 1.0), (8, 1.0), (12, 1.0), (20, 1.0)))


def start_from(source: denoiser.Denoiser, *others: denoiser.Denoiser) -> None:
    """Copy the source's weights into the others."""
    for other in others:
        other.modules().load_state_dict(source.modules().state_dict())


@torch.no_grad()
def judge_denoiser(
    trainer: Trainer, model: denoiser.Denoiser, settings: tuple[tuple[int, float], ...]
) -> None:
    """Accuracy over held-out captions, and pictures, at each (steps, guidance)."""
    judge = load_judge(trainer.state / "judge.safetensors").to(trainer.device)
    decoder = wan.AutoencoderKLWan.from_pretrained(trainer.state / "vae")
    decoder = codec.quicken(decoder).to(trainer.device)
    mean, deviation = codec.latent_scale(decoder, torch.empty(0, device=trainer.device))
    scenes, captions = scene_captions(256, full_caption, seed=3)
    for steps, guidance in settings:
        clips = []
        for i in range(0, len(captions), 64):
            latents = denoiser.sample(
                model,
                captions[i : i + 64],
                LATENT_SHAPE,
                steps=steps,
                guidance=guidance,
                seed=i,
            )
            for latent in (latents * deviation + mean).split(8):
                with torch.autocast(trainer.device, torch.bfloat16):
                    clips.append(codec.to_uint8(codec.decode(decoder, latent).float()))
        made = torch.cat(clips)
        trainer.log(f"{steps} steps, guidance {guidance}: {score(judge, made, scenes)}")
        strip(made[:8], trainer.state / f"samples-{steps}-{guidance:g}.png")
    trainer.log("pictures of: " + " | ".join(captions[:8]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=["wan"])
    parser.add_argument(
        "--state", type=Path, required=True, help="folder to resume from"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", choices=["vae", "denoiser"], help="this part alone")
    options = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    trainer = Trainer(options.state, options.minutes, options.device)
    if train_vae(trainer) and options.only != "vae":
        train_denoiser(trainer)


if __name__ == "__main__":
    main()
