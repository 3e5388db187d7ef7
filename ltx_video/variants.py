"""The LTX Video models that a user can choose: the rows of ``models.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.catalogue import read_rows
from engine.family import FORBID_EXTRA, ModelVariant
from ltx_video.config import LtxConfig, load_config

FILE = Path(__file__).with_name("models.yaml")


@dataclass(frozen=True)
class Options:
    """What a row's files don't say."""

    __pydantic_config__ = FORBID_EXTRA

    config: str
    """How it is sampled: the name of a file below ``configs/``."""


VARIANTS = read_rows(FILE, "ltx_video", Options)


def options_of(variant: ModelVariant) -> Options:
    """The row's own."""
    assert isinstance(variant.options, Options)
    return variant.options


def config_of(variant: ModelVariant) -> LtxConfig:
    """How this row is sampled. Raises ``UnreadableFile``."""
    return load_config(options_of(variant).config)
