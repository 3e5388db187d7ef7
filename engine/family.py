"""The seam between the engine and a model family, and the table of families.

A family is a folder with the same file names as its twins. Its ``__init__`` holds
``FAMILY``; ``variants.py`` reads its models. Neither imports torch, so that the page
can draw itself without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import ConfigDict

from engine.errors import Problem, RequestError
from engine.request import GenerationRequest

if TYPE_CHECKING:
    import numpy as np
    import torch

FAMILIES = {
    "wan": "wan:FAMILY",
    "ltx_video": "ltx_video:FAMILY",
    "hyvideo": "hyvideo:FAMILY",
}

FORBID_EXTRA = ConfigDict(extra="forbid")
"""For what is read from a file: unknown keys are errors."""


@dataclass(frozen=True)
class Limits:
    """Which sizes a model can make. Sizes in pixels, lengths in frames."""

    __pydantic_config__ = FORBID_EXTRA

    size_multiple: int
    min_size: int
    max_size: int
    frames_multiple: int
    """A video has ``frames_multiple * k + 1`` frames."""
    max_frames: int
    min_vae_tile: int = 0
    """The smallest tile in pixels that the VAE can work in; 0 when tiling is no
    choice."""
    in_sections: bool = False
    """Whether a video is made in sections of ``frames_multiple`` frames each: at least
    one."""

    @property
    def min_frames(self) -> int:
        return self.frames_multiple + 1 if self.in_sections else 1

    def snap_frames(self, num_frames: int) -> int:
        """The nearest frame count that the model can make."""
        steps = round((num_frames - 1) / self.frames_multiple)
        most = (self.max_frames - 1) // self.frames_multiple
        least = 1 if self.in_sections else 0
        return min(max(steps, least), most) * self.frames_multiple + 1

    def near_frames(self, num_frames: int) -> list[int]:
        """The frame counts next to one that the model can't make."""
        below = num_frames - (num_frames - 1) % self.frames_multiple
        above = below + self.frames_multiple
        return sorted({self.snap_frames(below), self.snap_frames(above)})

    def sections_told(self, fps: float) -> str:
        """What a video is made of, in words."""
        seconds = self.frames_multiple / fps
        return (
            f"sections of {self.frames_multiple} frames ({seconds:.2g} s at {fps:g} "
            "fps) and one frame more"
        )

    def snap_size(self, pixels: int) -> int:
        """The nearest width or height that the model can make."""
        least = -(-self.min_size // self.size_multiple)
        most = self.max_size // self.size_multiple
        return min(max(round(pixels / self.size_multiple), least), most) * (
            self.size_multiple
        )


@dataclass(frozen=True)
class WeightFile:
    """One choice of files for one component of a model."""

    __pydantic_config__ = FORBID_EXTRA

    repository: str = ""
    """On the hub, e.g. ``Lightricks/LTX-Video``; empty for a file of the user's."""
    path: str = ""
    """In the repository, or below a weights folder: a file, or a folder (a path without
    a suffix) of which all files belong to the component; empty for the whole
    repository."""
    gigabytes: float = 0.0
    precision: str = "bf16"
    """``bf16``, ``int8``, ...: how its weights are stored."""
    sha256: str | None = None
    """Of the file; ``None`` takes the hub's own word for it."""
    url: str = ""
    """Where it is instead, if it isn't on the hub: ``https://...``."""
    without: frozenset[str] = frozenset()
    """Of a whole repository: components whose weights come from elsewhere, and of which
    only the configuration is wanted."""

    @property
    def is_folder(self) -> bool:
        return not PurePosixPath(self.path).suffix

    @property
    def is_published(self) -> bool:
        """Whether it can be downloaded."""
        return bool(self.repository or self.url)

    @property
    def name(self) -> str:
        """Of the file, folder or repository itself."""
        return PurePosixPath(self.path or self.repository).name


@dataclass(frozen=True)
class ModelVariant:
    """One model that a user can choose: a row of a family's ``models.yaml``."""

    id: str
    family: str
    title: str
    description: str
    defaults: Mapping[str, Any]
    """Values for every field that a request may leave to the model."""
    limits: Limits
    folder: str
    """Where its files lie below a weights folder, e.g. ``demo/wan``; empty when it
    needs none."""
    base_folder: str = ""
    """Another model's ``folder``, which has the components that its own lacks."""
    hub: str | None = None
    """Hub repository in diffusers layout, e.g. ``Wan-AI/Wan2.1-T2V-1.3B-Diffusers``."""
    files: Mapping[str, tuple[WeightFile, ...]] = field(default_factory=dict)
    """Component → its choices, the best precision first; empty when all components
    lie in one folder or hub repository of diffusers layout."""
    gigabytes: float = 0.0
    """What the files take on disk."""
    licence: str = ""
    guidance: Literal["cfg", "embedded", "guider"] = "cfg"
    """What ``guidance_scale`` means: classifier-free guidance above 1; a number that
    the denoiser was trained to take, beside which ``true_cfg_scale`` is the other kind;
    or classifier-free guidance by a component of its own, which only 1 turns off."""
    max_sequence_length: int = 512
    """How many tokens a prompt is cut or padded to."""
    media: frozenset[str] = frozenset()
    """Which media fields of a request it takes."""
    required_media: frozenset[str] = frozenset()
    """Which of them it can't do without."""
    source_video_use: Literal["continue", "transform"] = "continue"
    """What becomes of a ``source_video``: its last ``overlap_frames`` begin the new
    part, or all of it is made anew by ``strength``."""
    window_frames: int = 0
    """How many frames it makes at a time; 0 makes all. Longer videos are made in
    windows, each of which begins with the last frames of the one before."""
    causal_block_size: int = 0
    """How many latent frames go together where ``ar_step`` makes blocks one after the
    other; 0 when it can't."""
    prompt_parts: bool = False
    """Whether the parts of a prompt that ``|`` separates follow one another."""
    schedulers: Mapping[str, str] = field(default_factory=dict)
    """Name in a request → title in the form."""
    preview: str = ""
    """How previews are made of latents: a JSON file of linear factors, by its stem, in
    the family's ``previews`` folder."""
    prompt_hint: str = ""
    """One example prompt that the model does well."""
    examples: tuple[str, ...] = ()
    """More prompts that the model does well, to choose from in the form."""
    options: Any = None
    """What its family alone knows of it: see the family's ``variants.py``."""

    @property
    def base_gigabytes(self) -> float:
        """Of the files that it has from its base."""
        if not self.base_folder:
            return 0.0
        own = {choices[0] for choices in self.files.values()}
        return max(self.gigabytes - sum(file.gigabytes for file in own), 0.0)


@dataclass
class LoadedModel:
    """A model in memory. ``pipeline`` is diffusers' own object for this family."""

    variant: ModelVariant
    pipeline: Any
    device: str = "cpu"
    """As torch names it, e.g. ``cuda:0``."""
    release: Callable[[], None] = lambda: None
    """Gives back what the memory profile holds."""
    lora_slots: Any = None
    """Where mmgp takes LoRAs; ``None`` without it."""
    streamer: Any = None
    """Holds the weights that are streamed, if any are."""
    profile: int | None = None
    """The memory profile that it is placed in, if it is in one."""
    working: float = math.inf
    """Bytes of the GPU that it leaves to a video; infinite where none of its weights
    could make room for more."""

    def make_room(self) -> None:
        """Free what only the networks before the VAE need."""
        if self.streamer is not None:
            self.streamer.free_slots()


OnComponent = Callable[[str], None]
"""``on_component("vae")`` before each is loaded; raises ``Cancelled`` to stop."""

OnStep = Callable[[int, int, "torch.Tensor"], None]
"""``on_step(done, total, latents)``; raises ``Cancelled`` to stop."""

OnPhase = Callable[[str], None]
"""``on_phase("second pass")`` before a part of the denoising that has a name; raises
``Cancelled`` to stop."""


class Family(Protocol):
    """What every family answers. The engine calls these in this order."""

    name: str
    title: str

    def variants(self) -> Sequence[ModelVariant]:
        """Its models. Loads no torch."""

    def load(
        self,
        variant: ModelVariant,
        weights: Mapping[str, Path],
        dtype: str,
        on_component: OnComponent,
    ) -> Any:
        """The diffusers pipeline, on the CPU. ``weights`` has for each component its
        folder in diffusers layout, or its single file.

        ``dtype`` is torch's name for the denoiser's precision, e.g. ``bfloat16``.
        Raises ``UnreadableFile`` that names the component.
        """

    def encode(self, model: LoadedModel, request: GenerationRequest) -> Any:
        """What the denoiser is conditioned on."""

    def denoise(
        self,
        model: LoadedModel,
        conditioning: Any,
        request: GenerationRequest,
        on_step: OnStep,
        on_phase: OnPhase,
    ) -> torch.Tensor:
        """Latents of the finished video; calls ``on_step`` after each step."""

    def decode(
        self, model: LoadedModel, latents: torch.Tensor, request: GenerationRequest
    ) -> Iterator[np.ndarray]:
        """Chunks of frames, uint8 (frames, height, width, 3), in order; together as
        many and as large as the request asks for."""

    def preview(self, model: LoadedModel, latents: torch.Tensor) -> np.ndarray:
        """A few small frames of ``latents``, uint8 (frames, height, width, 3)."""


def get_family(name: str) -> Family:
    """The family called ``name``, a key of ``FAMILIES``."""
    module, attribute = FAMILIES[name].split(":")
    family: Family = getattr(import_module(module), attribute)
    return family


def all_variants() -> dict[str, ModelVariant]:
    """The app's own models by their ids, in the order of the families."""
    return {
        variant.id: variant
        for name in FAMILIES
        for variant in get_family(name).variants()
    }


NO_MORE: Mapping[str, ModelVariant] = {}


def get_variant(model: str, more: Mapping[str, ModelVariant] = NO_MORE) -> ModelVariant:
    """The row with this id, among ``more`` rows too; raises ``RequestError`` that says
    which could be meant."""
    variants = {**all_variants(), **more}
    if model not in variants:
        near = get_close_matches(model, variants)
        hint = f"did you mean {' or '.join(map(repr, near))}?"
        message = f"no model is called {model[:100]!r}; "
        message += hint if near else f"known are: {', '.join(variants)}"
        raise RequestError([Problem("model", message)])
    return variants[model]
