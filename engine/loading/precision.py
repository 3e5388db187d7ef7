"""Which of the precisions that a model comes in this machine should run."""

from __future__ import annotations

from engine.family import ModelVariant, WeightFile
from engine.loading.placement import WORKING_BYTES

GB = 10**9


def choose_files(
    variant: ModelVariant, free_vram: int | None, free_ram: int
) -> dict[str, WeightFile]:
    """One choice for each component in ``variant.files``; memory in bytes,
    ``free_vram`` ``None`` without a GPU.

    The rule: the best precision of which main memory holds all components (they pass
    through it) and the GPU the largest one, beside what a video needs to work, as
    every memory profile but the slow ones wants it. When none fits, the last, which
    needs least: streaming half as much is also faster. A component that comes in
    fewer precisions than others takes its last one for the rest. A CPU computes in
    full precision whatever the file holds, so only main memory counts there.
    """
    most = max((len(choices) for choices in variant.files.values()), default=1)
    for level in range(most):
        chosen = {
            component: choices[min(level, len(choices) - 1)]
            for component, choices in variant.files.items()
        }
        files = set(chosen.values())  # one file may hold several components
        sizes = [int(file.gigabytes * GB) for file in files] or [0]
        fits_ram = sum(sizes) + variant.base_gigabytes * GB <= free_ram
        fits_gpu = free_vram is None or max(sizes) + WORKING_BYTES <= free_vram
        if fits_ram and fits_gpu:
            break
    return chosen


def free_memory(device: str) -> tuple[int | None, int]:
    """Bytes free on the GPU (``None`` when ``device`` is none) and in main memory."""
    import psutil

    free_ram = int(psutil.virtual_memory().available)
    if not device.startswith("cuda"):
        return None, free_ram
    import torch

    return int(torch.cuda.mem_get_info(device)[0]), free_ram
