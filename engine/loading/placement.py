"""Which memory profile a model takes on a GPU. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GIB = 1 << 30

WORKING_BYTES = 10 * GIB
"""What a 480p video needs beside the weights, where nothing was measured of its
model."""

STREAMED = 6
"""The memory profile that needs no mmgp: the others are mmgp's."""

DEEPER = {1: 2, 3: 4, 2: 5, 4: 5}
"""Memory profile → the next one that takes less of the GPU."""


@dataclass(frozen=True)
class Placement:
    """Where the weights go. Without ``profile`` all are on the GPU."""

    profile: int | None
    reason: str


def choose_placement(
    profile: str,
    sizes: Mapping[str, int],
    free_vram: int,
    free_ram: int,
    working: float = WORKING_BYTES,
    *,
    streamable: bool = True,
) -> Placement:
    """The memory profile for weights of these ``sizes``, in bytes per component, which
    may be ``streamable`` without mmgp.

    ``profile`` is ``auto`` or a number: 1 keeps one component at a time on the GPU, 2
    streams it block by block, 3 and 4 do the same with less main memory, 5 with least;
    6 keeps the blocks that fit and streams the others while those before them compute.
    ``free_ram`` is counted after loading; ``working`` are the bytes of the GPU that the
    video needs beside the weights.
    """
    if profile != "auto":
        return Placement(int(profile), f"memory profile {profile}, as set")
    total, largest = sum(sizes.values()), max(sizes.values())
    if total + working <= free_vram:
        return Placement(
            None,
            f"the whole model ({_gib(total)}) fits into the GPU ({_gib(free_vram)} "
            "free)",
        )
    whole_component = largest + working <= free_vram
    if free_ram >= total and streamable:
        chosen = STREAMED
    elif free_ram >= total:
        chosen = 1 if whole_component else 2
    elif free_ram >= sizes.get("transformer", largest):
        chosen = 3 if whole_component else 4
    else:
        chosen = 5
    return Placement(
        chosen,
        f"memory profile {chosen} for a model of {_gib(total)}: {_gib(free_vram)} are "
        f"free on the GPU, {_gib(free_ram)} in main memory",
    )


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB"
