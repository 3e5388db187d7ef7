"""How the denoiser computes: its attention backend, and compilation."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from engine.errors import UserError

SDPA = "native"
"""Diffusers' name of torch's own attention, which runs everywhere."""

ALIASES = {"sdpa": SDPA, "sage2": "sage"}

DENOISERS = ("transformer", "transformer_2")


@dataclass(frozen=True)
class Backend:
    """An attention backend of diffusers that needs a package and a GPU."""

    name: str
    package: str
    oldest: tuple[int, ...]
    """The first version of the package that diffusers takes."""
    capabilities: frozenset[tuple[int, int]]
    """CUDA compute capabilities that it has kernels for."""
    takes_masks: bool


AMPERE_ON = frozenset({(8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (12, 0)})

BACKENDS = (
    # SageAttention 1 has a package of the same name, which diffusers 0.42 refuses.
    Backend(
        "sage",
        "sageattention",
        (2, 1, 1),
        frozenset({(8, 0), (8, 6), (8, 9), (9, 0), (12, 0)}),
        takes_masks=False,
    ),
    Backend("flash", "flash-attn", (2, 6, 3), AMPERE_ON, takes_masks=False),
    Backend("xformers", "xformers", (0, 0, 29), AMPERE_ON, takes_masks=True),
)

PREFERRED = ("sage",)
"""Better than SDPA where they run: what ``auto`` tries, in this order."""


def available_attention(
    capability: tuple[int, int] | None, installed: Mapping[str, str], *, masks: bool
) -> list[str]:
    """The backends that run here, SDPA last.

    ``capability`` is the GPU's, ``None`` without one; ``installed`` has versions of
    packages by name; ``masks`` says whether the model masks its attention.
    """
    names = [
        each.name
        for each in BACKENDS
        if capability in each.capabilities
        and each.package in installed
        and _numbers(installed[each.package]) >= each.oldest
        and (each.takes_masks or not masks)
    ]
    return [*names, SDPA]


def choose_attention(
    capability: tuple[int, int] | None, installed: Mapping[str, str], *, masks: bool
) -> str:
    """What ``auto`` means here: SageAttention 2 if it runs, else SDPA."""
    available = available_attention(capability, installed, masks=masks)
    return next((name for name in PREFERRED if name in available), SDPA)


def use_attention(pipeline: Any, asked: str, device: str = "cpu") -> None:
    """Let each denoiser of ``pipeline`` use the backend ``asked`` for: ``auto`` or
    one of diffusers' names.

    It is always set: diffusers would otherwise take the one that another model was
    given last. Raises ``UserError`` that lists those that run here.
    """
    denoisers = [getattr(pipeline, name, None) for name in DENOISERS]
    for denoiser in denoisers:
        if denoiser is not None:
            _use(denoiser, ALIASES.get(asked, asked), device)


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


def _use(denoiser: Any, asked: str, device: str) -> None:
    here = (_capability(device), _installed())
    masks = masks_attention(denoiser)
    available = available_attention(*here, masks=masks)
    if asked == "auto":
        asked = choose_attention(*here, masks=masks)
    known = {each.name for each in BACKENDS}
    if asked in known and asked not in available:
        raise _refused(asked, _why_not(asked, *here, masks=masks), available)
    logger = logging.getLogger("diffusers.models.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it says that the feature is experimental
    try:
        denoiser.set_attention_backend(asked)
    except (ValueError, RuntimeError, ImportError) as error:
        raise _refused(asked, str(error), available) from error
    finally:
        logger.setLevel(level)


def _why_not(
    name: str,
    capability: tuple[int, int] | None,
    installed: Mapping[str, str],
    *,
    masks: bool,
) -> str:
    backend = next(each for each in BACKENDS if each.name == name)
    oldest = ".".join(str(number) for number in backend.oldest)
    found = installed.get(backend.package)
    if found is None or _numbers(found) < backend.oldest:
        has = f", and {found} is installed" if found else ""
        return f"it needs the package {backend.package} {oldest} or later{has}"
    if masks and not backend.takes_masks:
        return "it takes no attention masks, which this model needs"
    if capability is None:
        return "it needs a CUDA device"
    return "it has no kernels for a GPU of compute capability {}.{}".format(*capability)


def _refused(asked: str, why: str, available: list[str]) -> UserError:
    return UserError(
        f"attention {asked!r} can't be used: {why.rstrip('.')}. Here there is "
        f"{', '.join(available)}; auto chooses among them"
    )


def _capability(device: str) -> tuple[int, int] | None:
    if not device.startswith("cuda"):
        return None
    import torch

    major, minor = torch.cuda.get_device_capability(device)
    return major, minor


def _installed() -> dict[str, str]:
    versions = {}
    for backend in BACKENDS:
        try:
            versions[backend.package] = version(backend.package)
        except PackageNotFoundError:
            continue
    return versions


def _numbers(text: str) -> tuple[int, ...]:
    """``2.1.1.post1+cu128`` → (2, 1, 1)."""
    numbers: list[int] = []
    for part in text.split("+", maxsplit=1)[0].split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def compile_blocks(pipeline: Any) -> None:
    """Compile the denoisers' repeated blocks at their first use, which takes a while
    once and makes every step faster."""
    for name in DENOISERS:
        denoiser = getattr(pipeline, name, None)
        if denoiser is not None:
            denoiser.compile_repeated_blocks()
