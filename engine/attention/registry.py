"""The attention backends, and which of them a GPU, its packages and a model allow.

All run through diffusers' own dispatcher. The module loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from engine.errors import UserError


@dataclass(frozen=True)
class Backend:
    """One way to compute attention."""

    name: str
    """In ``--attention``."""
    diffusers: str
    """Diffusers' name for it."""
    title: str
    packages: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """The first version that is taken of each package; any one of them is enough."""
    capabilities: frozenset[tuple[int, int]] | None = None
    """CUDA compute capabilities that it has kernels for; ``None`` runs everywhere."""
    takes_masks: bool = True
    is_exact: bool = True
    """Whether it computes in the precision of its inputs: all exact ones give the same
    but for rounding."""
    is_automatic: bool = True
    """Whether ``auto`` tries it."""


AMPERE_ON = frozenset(
    {(8, 0), (8, 6), (8, 7), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0), (12, 1)}
)
TURING_ON = AMPERE_ON | {(7, 5)}
HOPPER = frozenset({(9, 0)})

FLASH3 = {"fa3-fwd": (0, 0, 3), "flash-attn-3": (3,)}
"""The first is the forward pass alone, built for CUDA 13 and torch's stable ABI."""

BACKENDS = (
    Backend("sdpa", "native", "torch's own choice of its kernels"),
    Backend("sdpa-cudnn", "_native_cudnn", "cuDNN", capabilities=AMPERE_ON),
    Backend(
        "sdpa-flash",
        "_native_flash",
        "torch's FlashAttention 2",
        capabilities=AMPERE_ON,
        takes_masks=False,
    ),
    Backend(
        "sdpa-efficient",
        "_native_efficient",
        "torch's memory-efficient attention",
        capabilities=TURING_ON,
    ),
    # Slow, and it keeps all scores at once: to compare with.
    Backend("sdpa-math", "_native_math", "plain products", is_automatic=False),
    Backend(
        "flash",
        "flash",
        "FlashAttention 2",
        {"flash-attn": (2, 6, 3)},
        AMPERE_ON,
        takes_masks=False,
    ),
    # What is masked goes to torch's own; most models mask their prompts only.
    Backend("flash3", "_flash_3", "FlashAttention 3", FLASH3, HOPPER),
    Backend(
        "flash3-fp8",
        "_flash_varlen_3",
        "FlashAttention 3, in 8 bits",
        FLASH3,
        HOPPER,
        is_exact=False,
    ),
    # It is fetched from the hub at its first use, which must be asked for.
    Backend(
        "flash4",
        "flash_4_hub",
        "FlashAttention 4",
        {"kernels": (0, 12, 3)},
        HOPPER | {(10, 0), (10, 3)},
        takes_masks=False,
        is_automatic=False,
    ),
    # SageAttention 1 has a package of the same name, which diffusers 0.42 refuses.
    Backend(
        "sage",
        "sage",
        "SageAttention 2, in 8 bits",
        {"sageattention": (2, 1, 1)},
        frozenset({(8, 0), (8, 6), (8, 9), (9, 0), (12, 0)}),
        takes_masks=False,
        is_exact=False,
    ),
    Backend("xformers", "xformers", "xFormers", {"xformers": (0, 0, 29)}, TURING_ON),
)

ALIASES = {"sage2": "sage", "flash2": "flash"}
"""Other names that people know; diffusers' own are taken, too."""


@dataclass(frozen=True)
class Machine:
    """What decides which backends run."""

    capability: tuple[int, int] | None
    """Of the GPU; ``None`` without one."""
    installed: Mapping[str, str]
    """Versions of packages by name."""


def available(machine: Machine, *, masks: bool) -> list[Backend]:
    """The backends that run here; ``masks`` says whether the model masks its
    attention."""
    return [each for each in BACKENDS if not why_not(each, machine, masks=masks)]


def why_not(backend: Backend, machine: Machine, *, masks: bool) -> str:
    """Why it doesn't run, in words; empty when it does."""
    if backend.packages and package_of(backend, machine) is None:
        wanted = " or ".join(
            f"{name} {'.'.join(map(str, oldest))}"
            for name, oldest in backend.packages.items()
        )
        found = [machine.installed.get(name) for name in backend.packages]
        has = "".join(f", and {each} is installed" for each in found if each)
        return f"it needs the package {wanted} or later{has}"
    if masks and not backend.takes_masks:
        return "it takes no attention masks, which this model needs"
    if backend.capabilities is None:
        return ""
    if machine.capability is None:
        return "it needs a CUDA device"
    if machine.capability not in backend.capabilities:
        shown = "{}.{}".format(*machine.capability)
        return f"it has no kernels for a GPU of compute capability {shown}"
    return ""


def package_of(backend: Backend, machine: Machine) -> str | None:
    """The installed package that it runs by, the first that is new enough."""
    for name, oldest in backend.packages.items():
        found = machine.installed.get(name)
        if found is not None and _numbers(found) >= oldest:
            return name
    return None


def prepare(backend: Backend, machine: Machine) -> None:
    """Whatever it needs before diffusers can call it. Raises ``ImportError``,
    ``OSError`` or ``RuntimeError`` when its package doesn't fit this torch."""
    package = package_of(backend, machine)
    if package in FLASH3:
        from engine.attention.flash3 import register

        register(package)


def find(asked: str, machine: Machine, *, masks: bool) -> Backend:
    """The backend called ``asked``. Raises ``UserError`` that says why it doesn't run
    here, and which do."""
    name = ALIASES.get(asked, asked)
    found = next(
        (each for each in BACKENDS if name in (each.name, each.diffusers)), None
    )
    if found is None:
        why = "nothing is called so. There are " + ", ".join(b.name for b in BACKENDS)
        raise refused(asked, why, machine, masks=masks)
    if why := why_not(found, machine, masks=masks):
        raise refused(asked, why, machine, masks=masks)
    return found


def refused(asked: str, why: str, machine: Machine, *, masks: bool) -> UserError:
    """The sentence for a backend that can't be used."""
    here = ", ".join(each.name for each in available(machine, masks=masks))
    return UserError(
        f"attention {asked!r} can't be used: {why.rstrip('.')}. Here there is {here}; "
        "auto chooses among them"
    )


def installed_packages() -> dict[str, str]:
    """Versions of those that backends need."""
    versions = {}
    for package in {name for each in BACKENDS for name in each.packages}:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _numbers(text: str) -> tuple[int, ...]:
    """``2.1.1.post1+cu128`` → (2, 1, 1)."""
    numbers: list[int] = []
    for part in text.split("+", maxsplit=1)[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:  # 3.0.0b1
            break
    return tuple(numbers)
