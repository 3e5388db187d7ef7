"""Fit a family's previews to its demo VAE: ``python -m demo.preview wan``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from demo.clips import sample_clips
from demo.codec import to_model
from demo.kind import KINDS, Kind, get_kind
from demo.render import render
from demo.scenes import draw, split_scenes
from engine.sampling.preview import fit_factors, save_factors
from engine.settings import PROJECT

CLIPS, FRAMES, SIZE = 32, 17, 128


@torch.no_grad()
def fit_preview(kind: Kind, vae: Any) -> torch.Tensor:
    """Factors from latents of rendered clips to their colours."""
    scenes = draw(split_scenes()[0], CLIPS, torch.Generator().manual_seed(0))
    drawn = sample_clips(scenes, FRAMES, torch.Generator().manual_seed(0))
    clips = to_model(render(drawn, SIZE, SIZE, samples=1))
    mean, deviation = kind.latent_scale(vae)
    encoded = [kind.encode(vae, clip[None])[0] for clip in clips.to(vae.dtype)]
    latents = (torch.cat(encoded).float() - mean) / deviation
    _, _, length, height, width = latents.shape
    # The first latent frame stands for the first frame alone.
    first = F.adaptive_avg_pool3d(clips[:, :, :1], (1, height, width))
    rest = F.adaptive_avg_pool3d(clips[:, :, 1:], (length - 1, height, width))
    return fit_factors(latents, torch.cat([first, rest], 2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=KINDS)
    parser.add_argument("--vae", type=Path, help="default: that of the shipped model")
    options = parser.parse_args()
    kind = get_kind(options.model)
    folder = options.vae or PROJECT / "ckpts" / "demo" / options.model / "vae"
    vae = type(kind.make_vae()).from_pretrained(folder, dtype=torch.float32)
    file = PROJECT / options.model / "previews" / "demo.json"
    save_factors(file, fit_preview(kind, vae), "fitted to the demo model's own VAE")
    print(file)


if __name__ == "__main__":
    main()
