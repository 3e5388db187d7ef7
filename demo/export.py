"""Put a trained model into the folder that ships: ``python -m demo.export wan``."""

from __future__ import annotations

import argparse
import shutil
from hashlib import sha256
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanPipeline
from safetensors.torch import load_model

from demo import wan
from demo.denoiser import SHIFT, Denoiser
from engine.settings import PROJECT


def export(state: Path, folder: Path) -> None:
    """Write the pipeline in diffusers' layout, bfloat16, and what tells of it."""
    tokenizer = wan.make_tokenizer()
    trained = Denoiser(
        wan.make_text_encoder(len(tokenizer)),
        wan.make_transformer(),
        tokenizer,
        wan.TEXT_LENGTH,
    )
    baked = state / "baked.safetensors"
    weights = baked if baked.exists() else state / "denoiser.safetensors"
    load_model(trained.modules(), weights)
    vae = wan.AutoencoderKLWan.from_pretrained(state / "vae")
    pipeline = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=trained.text_encoder.to(torch.bfloat16),
        transformer=trained.transformer.to(torch.bfloat16),
        vae=vae.to(torch.bfloat16),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
    )
    pipeline.save_pretrained(folder)
    shutil.copy(state / "training.log", folder / "training.log")
    shutil.copy(state / "judge.safetensors", folder.parent / "judge.safetensors")
    write_sums(folder)


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
    parser.add_argument("model", choices=["wan"])
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--to", type=Path, help="default: ckpts/demo/<model>")
    options = parser.parse_args()
    folder = options.to or PROJECT / "ckpts" / "demo" / options.model
    export(options.state, folder)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
