"""The Wan models that a user can choose: the rows of ``models.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.catalogue import read_rows
from engine.family import FORBID_EXTRA, ModelVariant

FILE = Path(__file__).with_name("models.yaml")


@dataclass(frozen=True)
class Options:
    """What a row's files are, where their configurations don't say it."""

    __pydantic_config__ = FORBID_EXTRA

    task: Literal["text", "image", "vace", "forcing"] = "text"
    """What its transformer was trained for. "image" takes the start image's latents as
    further channels."""
    boundary_ratio: float | None = None
    """From this noise level down the second transformer works; ``None`` with one."""
    expand_timesteps: bool = False
    """Whether each token has a timestep of its own, so that a given first frame is
    kept free of noise."""
    vae_dtype: Literal["float16", "float32"] = "float16"
    """What its VAE computes in on a GPU. float16 takes half the time and memory, but
    numbers may outgrow it."""


VARIANTS = read_rows(FILE, "wan", Options)


def options_of(variant: ModelVariant) -> Options:
    """The row's own."""
    assert isinstance(variant.options, Options)
    return variant.options
