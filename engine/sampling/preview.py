"""Small pictures of a video that is still being denoised, without its VAE.

A latent's colour is close to a linear function of its channels. The factors are data:
a JSON file in the family's ``previews`` folder, which a row of ``models.yaml`` names.
Where a VAE encodes its first frame alone, that frame can have factors of its own.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

FRAMES = 4


@lru_cache(maxsize=8)
def load_factors(folder: Path, name: str) -> torch.Tensor:
    """What ``<folder>/<name>.json`` holds, (2, channels + 1, 3): for the first frame
    and for the others, latents in the transformer's scale to RGB in [-1, 1], the last
    row being the constant."""
    found = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return torch.tensor([found.get("first", found["rest"]), found["rest"]])


def save_factors(file: Path, factors: torch.Tensor, source: str) -> None:
    """Write what ``load_factors`` reads; ``source`` says where they are from."""
    parts = {"first": factors[0], "rest": factors[1]}
    tables = [
        f'  "{name}": [\n    ' + ",\n    ".join(map(_row, part.tolist())) + "\n  ]"
        for name, part in parts.items()
    ]
    text = ",\n".join([f'{{\n  "source": {json.dumps(source)}', *tables])
    file.parent.mkdir(exist_ok=True)
    file.write_text(text + "\n}\n", encoding="utf-8")


def _row(values: list[float]) -> str:
    return json.dumps([round(value, 4) for value in values])


def linear_preview(factors: torch.Tensor, latents: torch.Tensor) -> np.ndarray:
    """Up to four frames of ``latents`` (1, channels, frames, height, width) at their
    own size, uint8 (frames, height, width, 3)."""
    count = latents.shape[2]
    chosen = np.linspace(0, count - 1, min(count, FRAMES)).round().astype(int).tolist()
    frames = latents[:, :, chosen].float().cpu()
    which = factors[[int(index > 0) for index in chosen]]
    colours = torch.einsum("bcfhw,fcr->bfhwr", frames, which[:, :-1])
    colours = colours + which[:, None, None, -1]
    pixels = (colours[0] / 2 + 0.5).clamp(0, 1).mul(255).round()
    small: np.ndarray = pixels.to(torch.uint8).numpy()
    return small


def fit_factors(latents: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """What ``linear_preview`` takes, by least squares: ``latents`` (clips, channels,
    frames, height, width) and the mean ``colours`` (clips, 3, frames, height, width)
    in [-1, 1] of what each stands for."""
    return torch.stack(
        [
            _fit(latents[:, :, part], colours[:, :, part])
            for part in (slice(0, 1), slice(1, None))
        ]
    )


def _fit(latents: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    samples = latents.movedim(1, -1).flatten(0, -2)
    samples = torch.cat([samples, torch.ones(len(samples), 1)], dim=1)
    # Some weight decay, because few pictures use every channel.
    normal = samples.T @ samples + 1e-1 * torch.eye(samples.shape[1])
    factors: torch.Tensor = torch.linalg.solve(
        normal, samples.T @ colours.movedim(1, -1).flatten(0, -2)
    )
    return factors
