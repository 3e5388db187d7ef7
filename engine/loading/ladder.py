"""What is tried when memory runs out, one rung after the other, before a job fails.

Free what is cached; place the model deeper; compute feed-forward layers in chunks;
decode in smaller tiles. A video's latents aren't made again once they are done. But for
tiles, which blend where they overlap, no rung changes the result by more than rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from engine.family import ModelVariant
from engine.loading.memory import empty_caches, free_memory_told
from engine.loading.resident import ResidentModel
from engine.progress import Progress
from engine.request import GenerationRequest

CHUNKS = 8
"""Of the tokens in a feed-forward layer."""

LARGEST_TILE = 512
"""The first that is tried where none was asked for."""

TILE_MULTIPLE = 32


@dataclass(frozen=True)
class Rung:
    """How a job is made."""

    told: str = ""
    """What is tried, in words."""
    freed: bool = False
    """Whether caches were freed."""
    profile: int | None = None
    """The deeper memory profile that the model is placed in."""
    chunks: int = 1
    tile: int | None = None
    """Pixels; ``None`` is what the request says."""


class Ladder:
    """Where one job stands. ``latents`` are kept from one rung to the next."""

    def __init__(
        self, request: GenerationRequest, variant: ModelVariant, resident: ResidentModel
    ) -> None:
        self._request = request
        self._least_tile = variant.limits.min_vae_tile
        self._resident = resident
        self.rung = Rung()
        self.latents: Any = None

    @property
    def decoded_as(self) -> GenerationRequest:
        """The request, in the tiles of this rung."""
        if self.rung.tile is None:
            return self._request
        return self._request.with_values(vae_tile_size=self.rung.tile)

    def next_rung(self) -> Rung | None:
        """What could help against what just happened; ``None`` when nothing is left."""
        now = self.rung
        if not now.freed:
            return replace(now, freed=True, told="with what was cached freed")
        deeper = self._resident.deeper_profile
        if deeper is not None:
            told = f"with memory profile {deeper}"
            return replace(now, profile=deeper, told=told)
        if self.latents is None:
            if now.chunks == 1:
                return replace(now, chunks=CHUNKS, told="with its layers in chunks")
            return None
        tile = smaller_tile(self.decoded_as.vae_tile_size, self._least_tile)
        if tile is not None:
            return replace(now, tile=tile, told=f"decoding in tiles of {tile} pixels")
        return None

    def climb(self, rung: Rung, progress: Progress) -> None:
        """Onto ``rung``; says so. No frame of what failed may be alive any more."""
        device = self._resident.device
        empty_caches(device)
        if rung.profile != self.rung.profile and rung.profile is not None:
            self._resident.place_deeper(rung.profile)
        self.rung = rung
        free = free_memory_told(device)
        progress.warn(f"out of memory; trying again {rung.told}{free}")


def smaller_tile(tile: int | None, least: int) -> int | None:
    """The next smaller tile that a VAE can work in, in pixels; ``None`` when there is
    none. ``least`` is 0 where tiles are no choice."""
    if not least:
        return None
    if not tile:
        return max(LARGEST_TILE, least)
    half = tile // 2 // TILE_MULTIPLE * TILE_MULTIPLE
    return half if half >= least else None
