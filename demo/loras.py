"""Train a LoRA for a shipped demo model: ``python -m demo.loras train night --state
DIR``.

By peft, on rendered clips. The work is in parts, each resumed where it stopped: clips
in latents with a judge of their own, the training, the evaluation. ``--minutes`` ends a
call early; calling again goes on. ``evaluate`` measures trained ones, alone or stacked;
``ship`` puts one where the app finds it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from demo.adapt import Base, load_base
from demo.captions import full_caption, training_caption
from demo.clock import Clock
from demo.dataset import encode_all, resized, turned
from demo.denoiser import Batch, Captioner, flow_loss
from demo.evaluate import COLUMNS, JUDGE, score, strip
from demo.judge import Judge, load_judge, look, read_attributes, save_judge, train_judge
from demo.kind import get_kind
from demo.lora_tasks import TASKS, LoraTask, caption
from demo.lora_videos import make_videos
from demo.scenes import WITH_SUBJECTS, Scene, draw, label_tensor, scene_of, split_scenes
from demo.trainer import RENDER_BATCH, Trainer, replacing
from engine.settings import PROJECT, Settings

BASE = "wan"
SHIPPED = PROJECT / "ckpts" / "demo" / "loras" / BASE
RANK = 8
RATE = 1e-3
SHIFT = 8.0
"""Of the noise levels that are drawn: a sky or a shape is decided at the highest."""
MULTIPLIERS = (0.6, 1.0)
"""Drawn anew for each step: what acts in full at the lowest has something to spare at
1, where another LoRA is stacked on it."""
JUDGED = 100
LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"]
SCHEDULES: tuple[float | str, ...] = (1.0, "1,0", 0.0)
"""At which the effect is measured: always, in the first half of the steps, never."""


@dataclass(frozen=True)
class Effort:
    """How much is drawn and trained."""

    parts: int
    clips: int
    """Drawn for each part; each gives four."""
    batch: int
    warmup: int
    """Steps until the full rate."""
    seconds: float
    judge_seconds: float


EFFORTS = {
    "cuda": Effort(6, 256, 128, warmup=50, seconds=200.0, judge_seconds=60.0),
    "cpu": Effort(2, 64, 16, warmup=10, seconds=5400.0, judge_seconds=120.0),
}
"""By the kind of device: a CPU has patience for less."""


@dataclass
class Data:
    """Rendered clips."""

    latents: Tensor
    """Whitened, bfloat16 (clips, channels, frames, h, w)."""
    scenes: list[Scene]
    """What their captions ask for."""
    beside: Tensor
    """bool (clips): shown with the effect of the LoRA that is trained beside."""


@torch.no_grad()
def make_data(
    trainer: Trainer,
    task: LoraTask,
    effort: Effort,
    vae: Any,
    beside: LoraTask | None = None,
) -> Data | None:
    """The training set, and with a subject's a judge; ``None`` if time ran out."""
    folder = trainer.state / "latents"
    folder.mkdir(exist_ok=True)
    for number in range(len(list(folder.glob("*.safetensors"))), effort.parts):
        if trainer.is_over():
            return None
        part = make_part(trainer, task, effort.clips, vae, number, beside)
        with replacing(folder / f"{number:03}.safetensors") as file:
            save_file(part, file)
    files = sorted(folder.glob("*.safetensors"))
    parts = [load_file(file, device=trainer.device) for file in files]
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    trainer.log(f"{len(whole['asked'])} clips rendered and encoded")
    if task.words and not (trainer.state / "judge.safetensors").exists():
        make_judge(trainer, task, effort, whole)
    scenes = [scene_of(row, WITH_SUBJECTS) for row in whole["asked"].tolist()]
    return Data(whole["latents"], scenes, whole["beside"].cpu())


def make_judge(
    trainer: Trainer, task: LoraTask, effort: Effort, data: dict[str, Tensor]
) -> None:
    """One that knows the subject; a style is judged by the base's own."""
    with torch.enable_grad():
        judge = train_judge(
            data["seen"], data["shown"], effort.judge_seconds, WITH_SUBJECTS
        )
    rng = random.Random(2)
    drawn = draw(split_scenes()[1], RENDER_BATCH, torch.Generator().manual_seed(2))
    asked = [task.asked(scene, rng) for scene in drawn]
    figures = score(judge, trainer.render(asked, 2), asked, WITH_SUBJECTS)
    trainer.log(f"judge on held-out renders: {figures}")
    save_judge(judge, trainer.state / "judge.safetensors")


def make_part(
    trainer: Trainer,
    task: LoraTask,
    count: int,
    vae: Any,
    number: int,
    beside: LoraTask | None,
) -> dict[str, Tensor]:
    """Clips four ways each: latents, what is asked and what is shown, and what the
    judge sees. Every second one has the effect of ``beside``, too."""
    rng, kind = random.Random(number), trainer.kind
    drawn = draw(split_scenes()[0], count, torch.Generator().manual_seed(number))
    asked = [task.asked(scene, rng) for scene in drawn]
    tasks = [[task, beside] if beside and at % 2 else [task] for at in range(count)]
    clips = trainer.render([*map(with_effects, asked, tasks)], 20_000 + number)
    clips = resized(clips, kind.SIZES[0])
    part: dict[str, list[Tensor]] = {}
    for view, scenes in turned(clips, asked):
        shown = [*map(with_effects, scenes, tasks)]
        for name, tensor in (
            ("latents", encode_all(kind, vae, view)),
            ("asked", label_tensor(scenes, WITH_SUBJECTS)),
            ("shown", label_tensor(shown, WITH_SUBJECTS).to(view.device)),
            ("seen", look(view)),
            ("beside", torch.tensor([len(each) > 1 for each in tasks])),
        ):
            part.setdefault(name, []).append(tensor)
    return {name: torch.cat(tensors) for name, tensors in part.items()}


def with_effects(asked: Scene, tasks: Sequence[LoraTask]) -> Scene:
    """What is rendered for a scene that a caption asks for."""
    shown = asked
    for task in tasks:
        shown = task.shown(shown)
    return shown


def add_lora(transformer: Any, name: str, file: Path) -> list[nn.Parameter]:
    """Give the transformer a LoRA, new or as it is in ``file``; returns its weights."""
    torch.manual_seed(0)
    config = LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LAYERS)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`", UserWarning)
        transformer.add_adapter(config, adapter_name=name)
    if file.exists():
        set_peft_model_state_dict(transformer, load_file(file), adapter_name=name)
    return [
        weight for key, weight in transformer.named_parameters() if f".{name}." in key
    ]


def train(
    trainer: Trainer, effort: Effort, base: Base, data: Data, beside: str = ""
) -> None:
    """Train until the seconds are over; saved every minute and at the end. With
    ``beside``, the name of a LoRA trained before, that one acts in half of the
    steps."""
    transformer, denoiser = base.denoiser.transformer, base.denoiser
    transformer.requires_grad_(False)
    weights = add_lora(transformer, "demo", raw_file(trainer.state))
    fixed = []
    if beside:
        fixed = add_lora(transformer, beside, raw_file(trainer.state.parent / beside))
    pools = [torch.nonzero(data.beside == has).flatten() for has in (False, True)]
    clock = Clock(trainer.spent("lora"), effort.seconds, trainer.until)
    captioner = Captioner(denoiser, seed=int(clock.elapsed))
    wording = partial(caption, wording=training_caption)
    optimizer = torch.optim.AdamW(weights, betas=(0.9, 0.95), weight_decay=0.01)
    kept, step, running = clock.spent(), 0, 0.0
    while not clock.is_over():
        warm = min(1.0, (step + 1) / effort.warmup)
        rate = RATE * warm * clock.cosine(effort.seconds)
        for group in optimizer.param_groups:
            group["lr"] = rate
        meets = bool(beside) and step % 2 == 1
        names = ["demo", beside] if meets else ["demo"]
        transformer.set_adapters(names, [random.uniform(*MULTIPLIERS) for _ in names])
        for weight in fixed:  # made trainable along with those that act
            weight.requires_grad_(False)
        pool = pools[meets]
        chosen = pool[torch.randint(len(pool), (effort.batch,))]
        ids, mask = captioner([data.scenes[i] for i in chosen.tolist()], wording)
        device = data.latents.device
        latents = data.latents[chosen.to(device)].float()
        batch = Batch(latents, ids.to(device), mask.to(device))
        loss = flow_loss(denoiser, batch, shift=SHIFT)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        running = running + loss.detach()
        step += 1
        if step % 20 == 0:
            trainer.log(f"step {step}: loss {float(running) / 20:.4f}")
            running = 0.0
        if clock.spent() - kept > 60:
            kept = clock.spent()
            keep(trainer, transformer, clock)
    keep(trainer, transformer, clock)


def keep(trainer: Trainer, transformer: Any, clock: Clock) -> None:
    """Save the LoRA as far as it is; the file is whole at any moment."""
    tensors = get_peft_model_state_dict(transformer, adapter_name="demo")
    part = trainer.state / "lora.part"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
    part.replace(raw_file(trainer.state))
    trainer.done("lora", clock.spent())


def raw_file(state: Path) -> Path:
    """The weights to go on from."""
    return state / "lora.raw.safetensors"


def export(state: Path, name: str, folder: Path) -> Path:
    """The trained LoRA in half precision, under diffusers' names, with what the page
    shows of it."""
    task = TASKS[name]
    tensors = {
        f"transformer.{key}": tensor.half().cpu()
        for key, tensor in load_file(raw_file(state)).items()
    }
    about = {"transformer.r": RANK, "transformer.lora_alpha": RANK}
    metadata = {
        "format": "pt",
        "lora_adapter_metadata": json.dumps(about),
        "modelspec.title": task.title,
        "modelspec.description": task.notes,
        "modelspec.trigger_phrase": task.words,
        "modelspec.license": "Apache-2.0",
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.safetensors"
    save_file(tensors, file, metadata)
    return file


def ship(state: Path, name: str) -> Path:
    """The trained LoRA where the app finds it, with a picture that its list shows: a
    frame of the first video of the evaluation."""
    file = export(state, name, SHIPPED)
    with Image.open(trained(state.parent) / f"{name} at 1.0.png") as strips:
        side = strips.width // COLUMNS
        at = COLUMNS // 2 * side
        strips.crop((at, 0, at + side, side)).save(file.with_suffix(".png"))
    return file


def evaluate(names: Sequence[str], state: Path, settings: Settings) -> dict[str, float]:
    """Percent of videos of held-out scenes that have the effects of all LoRAs with
    these ``names`` at once, by their multiplier. What a call before this one found is
    taken from its file in ``state``, the folder of all LoRAs."""
    tasks = [TASKS[name] for name in names]
    folder, judge = trained(state), judge_of(names, state)
    captions = captions_for(tasks)
    kept = figures_file(state, names)
    figures = json.loads(kept.read_text()) if kept.exists() else {}
    for schedule in SCHEDULES:
        if str(schedule) in figures:
            continue
        loras = [(f"{name}.safetensors", schedule) for name in names]
        clips = make_videos(captions, loras, folder, settings)
        found = torch.cat([read_attributes(judge, part) for part in clips.split(32)])
        right = torch.ones(len(clips), dtype=torch.bool)
        for task in tasks:
            at = [*WITH_SUBJECTS].index(task.attribute)
            right &= found[:, at] == WITH_SUBJECTS[task.attribute].index(task.value)
        figures[str(schedule)] = round(100 * float(right.float().mean()), 1)
        print(f"{schedule}: {figures[str(schedule)]} %", flush=True)
        kept.write_text(json.dumps(figures, indent=1))
        strip(clips[:8], folder / f"{'-'.join(names)} at {schedule}.png")
    return figures


def judge_of(names: Sequence[str], state: Path) -> Judge:
    """The base's, or the one that knows the subject among the LoRAs."""
    for name in names:
        if TASKS[name].words:
            return load_judge(state / name / "judge.safetensors", WITH_SUBJECTS)
    return load_judge(JUDGE)


def trained(state: Path) -> Path:
    """Where the trained files lie, and what their evaluation found."""
    return state / "loras"


def figures_file(state: Path, names: Sequence[str]) -> Path:
    return trained(state) / f"{'-'.join(names)}.json"


def captions_for(tasks: list[LoraTask]) -> list[str]:
    """Of held-out scenes that have no effect of a style by themselves, with the words
    of a subject."""
    rng = random.Random(5)
    scenes = draw(split_scenes()[1], 4 * JUDGED, torch.Generator().manual_seed(5))
    made = []
    for scene in scenes:
        asked = scene
        for task in tasks:
            if task.words:
                asked = Scene(**{**vars(asked), task.attribute: task.value})
        if any(t.value == getattr(asked, t.attribute) for t in tasks if not t.words):
            continue
        made.append(caption(asked, rng, full_caption))
    return made[:JUDGED]


def run_training(
    name: str, trainer: Trainer, settings: Settings, beside: str = ""
) -> None:
    """All parts, as far as the time goes."""
    effort = EFFORTS[torch.device(trainer.device).type]
    folder = settings.weights[0] / "demo" / BASE
    base = load_base(trainer.kind, folder, trainer.device)
    if trainer.spent("lora") < effort.seconds:
        data = make_data(trainer, TASKS[name], effort, base.vae, TASKS.get(beside))
        if data is None:
            return
        figures_file(trainer.state.parent, [name]).unlink(missing_ok=True)
        train(trainer, effort, base, data, beside)
    if trainer.spent("lora") < effort.seconds:
        return
    file = export(trainer.state, name, trained(trainer.state.parent))
    trainer.log(f"{file} has {file.stat().st_size / 1e3:.0f} kB")
    if trainer.is_over():
        return
    figures = evaluate([name], trainer.state.parent, settings)
    trainer.log(f"videos with the effect, in percent by multiplier: {figures}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=["train", "evaluate", "ship"])
    parser.add_argument("name", choices=TASKS)
    parser.add_argument("--state", type=Path, required=True, help="folder to go on in")
    parser.add_argument("--stacked", choices=TASKS, help="a second one, beside it")
    parser.add_argument(
        "--beside", choices=TASKS, default="", help="a trained one that it will meet"
    )
    parser.add_argument("--root", type=Path, default=PROJECT, help="ckpts is below it")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    torch.set_float32_matmul_precision("high")
    state = options.state / options.name
    settings = Settings(root=options.root, gpu=options.device)
    if options.work == "train":
        kind = get_kind(BASE)
        trainer = Trainer(kind, state, options.minutes, options.device)
        if options.beside and not raw_file(options.state / options.beside).exists():
            parser.error(f"--beside {options.beside}: train {options.beside} first")
        run_training(options.name, trainer, settings, options.beside)
    elif options.work == "evaluate":
        names = [options.name, *([options.stacked] if options.stacked else [])]
        for name in names:
            export(options.state / name, name, trained(options.state))
        print(evaluate(names, options.state, settings))
    else:
        print(ship(state, options.name))


if __name__ == "__main__":
    main()
