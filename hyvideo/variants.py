"""The Hunyuan Video models that a user can choose: the rows of ``models.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from engine.catalogue import read_rows
from engine.family import FORBID_EXTRA, ModelVariant

FILE = Path(__file__).with_name("models.yaml")


@dataclass(frozen=True)
class Options:
    """What a row's files don't say."""

    __pydantic_config__ = FORBID_EXTRA

    architecture: Literal["hunyuan", "hunyuan15", "framepack"]
    """Its module in this folder."""
    template: Mapping[str, Any] | None = None
    """What is put around a prompt for the language model, and how many of its tokens
    are cut off again; ``None`` for diffusers' own."""
    order: Literal["inverted", "vanilla"] = "inverted"
    """In which FramePack makes its sections: from the end of the video back to the
    start image, or from the start image on."""


VARIANTS = read_rows(FILE, "hyvideo", Options)


def options_of(variant: ModelVariant) -> Options:
    """The row's own."""
    assert isinstance(variant.options, Options)
    return variant.options
