"""What a family's demo model is to the trainer: a module with these names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from torch import Tensor, nn

from demo.vae import Stage

KINDS = ("wan", "ltx_video", "hyvideo")


class Text(NamedTuple):
    """Prompt embeddings (clips, tokens, width), their mask, and where a family has
    them, embeddings (clips, width) of the whole."""

    states: Tensor
    mask: Tensor
    pooled: Tensor | None = None


@dataclass
class Pin:
    """Clean latents (clips, channels, frames, h, w) shown beside the noisy ones, and
    the frame of the video (clips,) at which they stand."""

    latents: Tensor
    frame: Tensor


@dataclass(frozen=True)
class Given:
    """Frames that are given in training, so that the model learns to keep them."""

    first: float = 0.0
    """Share of the batches in which the first frames are given."""
    counts: tuple[int, ...] = (1,)
    """Of which one is drawn: so many latent frames are then given."""
    others: float = 0.0
    """Share of the batches with frames of any other place, as a ``Pin``."""
    noise: float = 0.0
    """On given frames at the highest level, as the family's pipeline adds it."""


class Kind(Protocol):
    """One family. Sizes are of square pictures, the first is the default."""

    SIZES: tuple[int, ...]
    TEXT_LENGTH: int
    VAE_PARTS: tuple[tuple[Stage, float], ...]
    DENOISER_SECONDS: float
    GIVEN: Given
    FLEXIBLE: bool
    """Whether its batches differ in shape, so that it's compiled for any."""
    make_upsampler: Callable[[], nn.Module] | None
    """From latents of the second of ``SIZES`` to those of the third."""

    def make_vae(self) -> nn.Module: ...
    def make_transformer(self) -> nn.Module: ...
    def make_text_encoder(self, words: int) -> nn.Module: ...
    def embed(self, text_encoder: Any, ids: Tensor, mask: Tensor) -> Text:
        """Embeddings of tokens (clips, tokens)."""

    def quicken(self, vae: Any) -> Any:
        """Use faster forms of its parts for training; the numbers stay."""

    def encode(self, vae: Any, video: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of videos (clips, 3, frames, h, w) in -1..1."""

    def decode(self, vae: Any, latents: Tensor) -> Tensor:
        """Videos of latents on the VAE's own scale, not clamped."""

    def set_latent_scale(self, vae: Any, clips: list[Tensor]) -> None:
        """Measure the latents of ``clips`` (1, 3, frames, h, w) and note their scale in
        the VAE itself."""

    def latent_scale(self, vae: Any) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each latent channel, (1, channels, 1, 1, 1)."""

    def velocity(
        self,
        transformer: nn.Module,
        noisy: Tensor,
        levels: Tensor,
        text: Text,
        pin: Pin | None = None,
    ) -> Tensor:
        """Predicted noise − latents; ``levels`` (clips, frames) are the noise levels,
        0 where a frame is given."""

    def save_pipeline(
        self, folder: Path, tokenizer: Any, text_encoder: Any, networks: dict[str, Any]
    ) -> None:
        """Write diffusers' pipeline of these parts."""


def get_kind(name: str) -> Kind:
    """The module of the family called ``name``, one of ``KINDS``."""
    return cast(Kind, import_module(f"demo.{name}"))
