"""Puts an attention backend on a pipeline's denoisers."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path
from typing import Any

from engine.attention.measure import (
    automatic,
    fastest,
    machine_name,
    measured,
    time_backends,
)
from engine.attention.registry import (
    Backend,
    Machine,
    available,
    find,
    installed_packages,
    prepare,
    refused,
)

DENOISERS = ("transformer", "transformer_2")

MEASUREMENTS = "attention.json"
"""In the data folder."""


def use_attention(
    pipeline: Any, asked: str, device: str = "cpu", root: Path | None = None
) -> None:
    """Let each denoiser of ``pipeline`` use the backend ``asked`` for: ``auto`` or a
    name of the registry. What ``auto`` measures is kept below ``root``.

    It is always set: diffusers would otherwise take the one that another model was
    given last. Raises ``UserError`` that lists those that run here.
    """
    for name in DENOISERS:
        denoiser = getattr(pipeline, name, None)
        if denoiser is not None:
            _use(denoiser, asked, device, root)


def masks_attention(denoiser: Any) -> bool:
    """Whether the denoiser masks its attention, as most do for the padding of prompts.

    Processors that take no mask say so: they have ``masks = False``.
    """
    if "num_frame_per_block" in getattr(denoiser, "config", ()):
        return True  # it keeps blocks of frames from seeing later ones
    if "encoder_attention_mask" not in inspect.signature(denoiser.forward).parameters:
        return False
    modules: Any = getattr(denoiser, "modules", tuple)()
    processors = [getattr(module, "processor", None) for module in modules]
    chosen = [each for each in processors if hasattr(each, "_attention_backend")]
    return not chosen or any(getattr(each, "masks", True) for each in chosen)


def machine_of(device: str) -> Machine:
    """What decides which backends run on ``device``."""
    if not device.startswith("cuda"):
        return Machine(None, installed_packages())
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    return Machine((major, minor), installed_packages())


def _use(denoiser: Any, asked: str, device: str, root: Path | None) -> None:
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    machine, masks = machine_of(device), masks_attention(denoiser)
    if asked == "auto":
        backend = _choose(denoiser, machine, device, root, masks=masks)
    else:
        backend = find(asked, machine, masks=masks)
    logger = logging.getLogger("diffusers.models.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it says that the feature is experimental
    # Diffusers also makes it the choice of every other model of the process.
    usual, _ = _AttentionBackendRegistry.get_active_backend()
    try:
        prepare(backend, machine)
        denoiser.set_attention_backend(backend.diffusers)
    except (ValueError, RuntimeError, ImportError, OSError) as error:
        raise refused(asked, str(error), machine, masks=masks) from error
    finally:
        logger.setLevel(level)
        _AttentionBackendRegistry.set_active_backend(usual)


def _choose(
    denoiser: Any, machine: Machine, device: str, root: Path | None, *, masks: bool
) -> Backend:
    """The fastest that gives what torch's own gives but for rounding."""
    candidates = automatic(available(machine, masks=masks))
    if len(candidates) == 1:
        return candidates[0]
    head_dim = int(getattr(denoiser.config, "attention_head_dim", 128))
    # Those that take no masks are timed, too: the next model may not mask.
    timed = automatic(available(machine, masks=False))
    seconds = measured(
        root / MEASUREMENTS if root else None,
        machine_name(device, head_dim, machine.installed),
        lambda: time_backends(timed, device, head_dim, machine),
    )
    return fastest(candidates, seconds)
