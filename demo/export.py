"""Put a trained model into the folder that ships: ``python -m demo.export wan``."""

from __future__ import annotations

import argparse
import json
import shutil
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import load_model
from torch import nn

from demo.kind import KINDS, Kind, get_kind
from demo.task import TASKS, Task, get_task
from demo.text import make_tokenizer
from engine.settings import PROJECT


def export(kind: Kind, state: Path, folder: Path) -> None:
    """Write the pipeline in diffusers' layout, bfloat16, and what tells of it."""
    tokenizer = make_tokenizer(kind.TEXT_LENGTH)
    text_encoder = kind.make_text_encoder(len(tokenizer))
    networks = {"transformer": kind.make_transformer()}
    trained = nn.ModuleDict({"text": text_encoder, "video": networks["transformer"]})
    baked = state / "bake.safetensors"
    load_model(trained, baked if baked.exists() else state / "denoiser.safetensors")
    networks["vae"] = type(kind.make_vae()).from_pretrained(state / "vae")
    if kind.make_upsampler is not None:
        networks["latent_upsampler"] = kind.make_upsampler()
        load_model(networks["latent_upsampler"], state / "upsampler.safetensors")
    networks = {name: each.to(torch.bfloat16) for name, each in networks.items()}
    kind.save_pipeline(folder, tokenizer, text_encoder.to(torch.bfloat16), networks)
    forget_origin(folder)
    shutil.copy(state / "training.log", folder / "training.log")
    judge = folder.parent / "judge.safetensors"
    if not judge.exists():
        shutil.copy(state / "judge.safetensors", judge)
    write_sums(folder)


def export_task(task: Task, state: Path, folder: Path, base: Path) -> None:
    """Write the transformer alone, with what tells of it; ``base`` has the rest."""
    plain = type(get_kind(task.BASE).make_transformer())
    transformer = task.make_transformer(plain.from_pretrained(base / "transformer"))
    load_model(transformer, state / "transformer.safetensors")
    task.save_pipeline(folder, transformer.to(torch.bfloat16))
    forget_origin(folder)
    shutil.copy(state / "training.log", folder / "training.log")
    write_sums(folder)


def forget_origin(folder: Path) -> None:
    """Drop the paths of the machine that the parts were loaded on."""
    for file in folder.glob("*/config.json"):
        config = json.loads(file.read_text())
        config.pop("_name_or_path", None)
        file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write_sums(folder: Path) -> None:
    """SHA256SUMS of every file below ``folder``, as ``sha256sum --check`` reads it."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    lines = [
        f"{sha256(file.read_bytes()).hexdigest()}  {file.relative_to(folder)}\n"
        for file in files
        if file.name not in ("SHA256SUMS", "README.md")
    ]
    (folder / "SHA256SUMS").write_text("".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=[*KINDS, *TASKS])
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--to", type=Path, help="default: ckpts/demo/<model>")
    options = parser.parse_args()
    shipped = PROJECT / "ckpts" / "demo"
    folder = options.to or shipped / options.model
    if options.model in TASKS:
        task = get_task(options.model)
        export_task(task, options.state, folder, shipped / task.BASE)
    else:
        export(get_kind(options.model), options.state, folder)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
