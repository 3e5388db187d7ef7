"""Train a demo model from nothing: ``python -m demo.train wan --state DIR``.

The work is in parts, each resumed where it stopped: the VAE, the training set in
latents (with the judge), the denoiser, guidance baked in, and a latent upsampler where
the family has one. ``--minutes`` ends a call early; calling again goes on. Needs a GPU;
the whole takes under an hour on an H100.
"""

from __future__ import annotations

import argparse
import math
import random
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from demo import codec, denoiser, upsampler, vae
from demo.captions import full_caption
from demo.clock import Clock
from demo.dataset import (
    is_saved,
    load_vae,
    make_judge_alone,
    make_latents,
    resized,
    vae_folder,
)
from demo.evaluate import scene_captions, score, strip
from demo.judge import load_judge
from demo.kind import KINDS, Kind, get_kind
from demo.scenes import split_scenes
from demo.text import make_tokenizer
from demo.trainer import Trainer, replacing

POOL, HELD_OUT, MEASURED = 1024, 32, 96
BATCH = 256
BAKE = denoiser.Schedule(batch=BATCH, lr=2e-4, seconds=50.0, warmup=20)
BAKED_GUIDANCE = 3.0
UPSAMPLER_SECONDS = 60.0
JUDGED, JUDGED_TOGETHER = 256, 64


def codec_of(kind: Kind, model: nn.Module) -> vae.Codec:
    return vae.Codec(model, partial(kind.encode, model), partial(kind.decode, model))


def train_vae(trainer: Trainer) -> bool:
    """The VAE; True when it is done."""
    kind, spent = trainer.kind, trainer.spent("vae")
    total = sum(seconds for _, seconds in kind.VAE_PARTS)
    if spent >= total and is_saved(trainer):
        return True
    torch.manual_seed(0)
    model = kind.quicken(kind.make_vae()).to(trainer.device)
    ema = vae.copy_of(model)
    trainer.load("vae", model, ema)
    train, held_out = split_scenes()
    held = resized(trainer.clips(held_out, HELD_OUT, seed=1)[0], kind.SIZES[0])
    trainer.log("renderer ready")
    pool = resized(trainer.clips(train, POOL, seed=100 + int(spent))[0], kind.SIZES[0])
    trainer.log(f"pool of {POOL} clips rendered")
    edge = 0.0
    for stage, seconds in kind.VAE_PARTS:
        edge += seconds
        if spent >= edge:
            continue
        clock = Clock(spent, edge, trainer.until)

        def keep(clock: Clock = clock) -> None:
            trainer.save("vae", model, ema)
            trainer.done("vae", clock.spent())

        vae.run_stage(
            codec_of(kind, model),
            ema,
            stage,
            pool,
            clock=clock,
            total=total,
            log=trainer.log,
            keep=keep,
        )
        spent = clock.spent()
        keep()
        trainer.log(f"held-out PSNR {quality(kind, ema, held)}")
        if spent < edge:
            return False
    measure_latents(kind, ema, pool)
    save_vae(trainer, ema, held)
    return True


def train_decoder(trainer: Trainer, seconds: float) -> bool:
    """The VAE's decoder alone, further: its latents, and what was trained on them, stay
    as they are. True when it is done."""
    kind, spent = trainer.kind, trainer.spent("decoder")
    if spent >= seconds:
        return True
    model = load_vae(trainer).requires_grad_(False)
    ema = vae.copy_of(model)
    model.decoder.requires_grad_(True)
    trainer.load("decoder", model.decoder, ema.decoder)
    train, held_out = split_scenes()
    held = resized(trainer.clips(held_out, HELD_OUT, seed=1)[0], kind.SIZES[0])
    pool = resized(trainer.clips(train, POOL, seed=200 + int(spent))[0], kind.SIZES[0])
    stage, _ = kind.VAE_PARTS[-1]
    trainer.log(f"decoder: held-out PSNR {quality(kind, ema, held)}")
    clock = Clock(spent, seconds, trainer.until)
    vae.run_stage(
        codec_of(kind, model),
        ema,
        replace(stage, lr=stage.lr / 2),
        pool,
        clock=clock,
        total=seconds,
        log=trainer.log,
    )
    trainer.save("decoder", model.decoder, ema.decoder)
    trainer.done("decoder", clock.spent())
    trainer.log(f"decoder: held-out PSNR {quality(kind, ema, held)}")
    if clock.spent() < seconds:
        return False
    save_vae(trainer, ema, held)
    return True


def quality(kind: Kind, model: nn.Module, held: Tensor) -> str:
    """How well a VAE keeps clips that it wasn't trained on."""
    decibels = vae.psnr(vae.reconstruct(codec_of(kind, model), held), held)
    return f"{decibels.mean():.2f} dB, worst {decibels.min():.2f} dB"


def save_vae(trainer: Trainer, model: Any, held: Tensor) -> None:
    """In diffusers' layout and bfloat16, with a picture of what it makes of clips."""
    with replacing(vae_folder(trainer)) as folder:
        model.to(torch.bfloat16).save_pretrained(folder)
    rebuilt = vae.reconstruct(codec_of(trainer.kind, model.float()), held[:6])
    strip(torch.cat([held[:6], rebuilt], 2), trainer.state / "vae.png")


@torch.no_grad()
def measure_latents(kind: Kind, model: nn.Module, pool: Tensor) -> None:
    """Note the scale of the latents in the VAE itself."""
    clips = [codec.to_model(clip[None]) for clip in pool[:MEASURED]]
    kind.set_latent_scale(model, clips)


def make_denoiser(kind: Kind, device: str, *, fast: bool = False) -> denoiser.Denoiser:
    """A new one; ``fast`` compiles it, which costs a minute."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(kind.TEXT_LENGTH)
    made = denoiser.Denoiser(
        kind,
        kind.make_text_encoder(len(tokenizer)).to(device),
        kind.make_transformer().to(device),
        tokenizer,
    )
    if fast:
        # Sizes of pictures and given frames are further forms of a block; beyond the
        # limit nothing is compiled any more, silently.
        torch._dynamo.config.recompile_limit = 32
        made.transformer.compile_repeated_blocks(dynamic=kind.FLEXIBLE)
    return made


def train_denoiser(trainer: Trainer, model: Any, data: denoiser.Latents) -> bool:
    """The text encoder and the transformer, then guidance baked in; True when done.

    ``model`` is the VAE.
    """
    kind, device = trainer.kind, trainer.device
    spent, baked = trainer.spent("denoiser"), trainer.spent("bake")
    if baked >= BAKE.seconds:
        return True
    student = make_denoiser(kind, device, fast=True)
    ema = make_denoiser(kind, device)
    trainer.load("denoiser", student.modules(), ema.modules())
    if spent == 0.0:
        start_from(student, ema)
    ema.modules().requires_grad_(False)
    judged = partial(judge_denoiser, trainer, ema, model, data)
    schedule = denoiser.Schedule(batch=BATCH, lr=1.2e-3, seconds=kind.DENOISER_SECONDS)
    if spent < schedule.seconds:
        run_denoiser(trainer, "denoiser", student, ema, data, schedule)
        judged(((8, 3.0), (8, 1.0)))
    if trainer.is_over():
        return False
    if trainer.spent("denoiser") >= schedule.seconds:
        teacher = denoiser.Teacher(make_denoiser(kind, device), BAKED_GUIDANCE)
        start_from(ema, teacher.denoiser, student)
        if trainer.spent("bake"):
            trainer.load("bake", student.modules(), ema.modules())
        run_denoiser(trainer, "bake", student, ema, data, BAKE, teacher)
        judged(((4, 1.0), (8, 1.0), (12, 1.0), (20, 1.0)))
    return trainer.spent("bake") >= BAKE.seconds


def run_denoiser(
    trainer: Trainer,
    part: str,
    student: denoiser.Denoiser,
    ema: denoiser.Denoiser,
    data: denoiser.Latents,
    schedule: denoiser.Schedule,
    teacher: denoiser.Teacher | None = None,
) -> None:
    """Train for what is left of ``schedule``; saved every minute and at the end."""
    clock = Clock(trainer.spent(part), schedule.seconds, trainer.until)

    def keep() -> None:
        trainer.save(part, student.modules(), ema.modules())
        trainer.done(part, clock.spent())

    denoiser.train(
        student,
        ema,
        data,
        schedule,
        clock=clock,
        teacher=teacher,
        log=trainer.log,
        keep=keep,
    )
    keep()


def start_from(source: denoiser.Denoiser, *others: denoiser.Denoiser) -> None:
    """Copy the source's weights into the others."""
    for other in others:
        other.modules().load_state_dict(source.modules().state_dict())


@torch.no_grad()
def judge_denoiser(
    trainer: Trainer,
    model: denoiser.Denoiser,
    decoder: Any,
    data: denoiser.Latents,
    settings: tuple[tuple[int, float], ...],
) -> None:
    """Accuracy over held-out captions, and pictures, at each (steps, guidance); and
    over clips that were trained on, from their first frame."""
    kind = trainer.kind
    judge = load_judge(trainer.state / "judge.safetensors").to(trainer.device)
    trained = data.sizes[kind.SIZES[0]]
    scenes, captions = scene_captions(JUDGED, full_caption, seed=3)
    for steps, guidance in settings:
        clips = []
        for i in range(0, len(captions), JUDGED_TOGETHER):
            latents = denoiser.sample(
                model,
                captions[i : i + JUDGED_TOGETHER],
                tuple(trained.shape[1:]),
                steps=steps,
                guidance=guidance,
                seed=i,
            )
            clips.append(to_video(kind, decoder, latents))
        made = torch.cat(clips)
        trainer.log(f"{steps} steps, guidance {guidance}: {score(judge, made, scenes)}")
        strip(made[:8], trainer.state / f"samples-{steps}-{guidance:g}.png")
    trainer.log("pictures of: " + " | ".join(captions[:8]))
    if kind.GIVEN.first:
        known, rng = data.scenes[:JUDGED_TOGETHER], random.Random(3)
        latents = denoiser.sample(
            model,
            [full_caption(scene, rng) for scene in known],
            tuple(trained.shape[1:]),
            steps=8,
            guidance=1.0,
            start=trained[: len(known), :, :1].float(),
        )
        made = to_video(kind, decoder, latents)
        trainer.log(f"from first frames: {score(judge, made, known)}")
        strip(made[:8], trainer.state / "samples-start.png")


def to_video(kind: Kind, decoder: Any, latents: Tensor) -> Tensor:
    """uint8 clips of whitened latents; ``decoder`` is the VAE."""
    mean, deviation = kind.latent_scale(decoder)
    clips = []
    for latent in (latents * deviation + mean).split(8):
        with torch.autocast(latent.device.type, torch.bfloat16):
            video = kind.decode(decoder, latent)
        clips.append(codec.to_uint8(video.float()))
    return torch.cat(clips)


def train_upsampler(trainer: Trainer, model: Any, data: denoiser.Latents) -> None:
    """From the first pass's latents to the second's; ``model`` is the VAE."""
    make, spent = trainer.kind.make_upsampler, trainer.spent("upsampler")
    if make is None or spent >= UPSAMPLER_SECONDS:
        return
    torch.manual_seed(0)
    network = make().to(trainer.device)
    ema = vae.copy_of(network)
    trainer.load("upsampler", network, ema)
    clock = Clock(spent, UPSAMPLER_SECONDS, trainer.until)
    _, small, large = trainer.kind.SIZES
    upsampler.train(
        network,
        ema,
        (data.sizes[small], data.sizes[large]),
        trainer.kind.latent_scale(model),
        clock=clock,
        total=UPSAMPLER_SECONDS,
        log=trainer.log,
    )
    trainer.save("upsampler", network, ema)
    trainer.done("upsampler", clock.spent())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=KINDS)
    parser.add_argument(
        "--state", type=Path, required=True, help="folder to resume from"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--only", choices=["vae", "judge"], help="this part alone")
    parser.add_argument(
        "--decoder",
        type=float,
        metavar="SECONDS",
        help="only train the decoder of a trained VAE on, for so long in all",
    )
    options = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    kind = get_kind(options.model)
    trainer = Trainer(kind, options.state, options.minutes, options.device)
    if options.decoder is not None:
        train_decoder(trainer, options.decoder)
        return
    if options.only == "judge":
        make_judge_alone(trainer)
        return
    if not train_vae(trainer) or options.only == "vae":
        return
    model = load_vae(trainer)
    data = make_latents(trainer, model)
    if data is not None and train_denoiser(trainer, model, data):
        train_upsampler(trainer, model, data)


if __name__ == "__main__":
    main()
