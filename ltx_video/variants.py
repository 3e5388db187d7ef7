"""The LTX Video models that a user can choose: the rows of ``models.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.catalogue import read_rows
from engine.family import FORBID_EXTRA, ModelVariant
from ltx_video.config import LtxConfig, load_config

FILE = Path(__file__).with_name("models.yaml")

VAE_CONFIG: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 1024, 2048),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "decoder_block_out_channels": (256, 512, 1024),
    "layers_per_block": (4, 6, 6, 2, 2),
    "decoder_layers_per_block": (5, 5, 5, 5),
    "spatio_temporal_scaling": (True,) * 4,
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "decoder_inject_noise": (False,) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "upsample_residual": (True,) * 3,
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
    "decoder_causal": False,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
"""Of the VAE since 0.9.5, which its single files don't tell."""


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
