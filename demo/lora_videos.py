"""Videos with LoRAs, by the way that the app takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.family import get_family, get_variant
from engine.loading.resident import ResidentModel
from engine.lora.apply import loras_applied
from engine.progress import Progress
from engine.settings import Settings
from engine.validate import accept

MODEL = "wan-demo"
VALUES: Mapping[str, object] = {}
"""Instead of the model's own."""


def make_videos(
    captions: Sequence[str],
    loras: Sequence[tuple[str, float | str]],
    folder: Path,
    settings: Settings,
) -> Tensor:
    """uint8 (captions, frames, height, width, 3), each with the next seed. ``loras``
    are names of files in ``folder`` with their multipliers."""
    # With the folder's name, or a shipped one of the same name would be found first.
    settings = settings.model_copy(update={"lora_dir": folder.parent})
    progress = Progress("evaluation")
    listed = [
        {"name": f"{folder.name}/{name}", "multiplier": value} for name, value in loras
    ]
    family = get_family(get_variant(MODEL).family)
    resident = ResidentModel(settings)
    model = resident.get(get_variant(MODEL), progress)
    made = []
    for seed, prompt in enumerate(captions):
        request = accept(
            {**VALUES, "model": MODEL, "prompt": prompt, "seed": seed, "loras": listed},
            folder=None,
            settings=settings,
        )
        conditioning = family.encode(model, request)
        with loras_applied(model, request, settings, progress) as follow:
            latents = family.denoise(
                model,
                conditioning,
                request,
                follow(lambda *_: None),
                lambda _: None,
            )
        frames = list(family.decode(model, latents, request))
        made.append(torch.from_numpy(np.concatenate(frames)))
        print(f"\r{len(made)} of {len(captions)}", end="", flush=True)
    print()
    resident.release()
    return torch.stack(made)
