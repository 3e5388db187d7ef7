"""How a checkpoint wants to be sampled: one YAML file each under ``configs/``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from engine.errors import UnreadableFile, UserError
from engine.validate import problems_of

CONFIGS = Path(__file__).parent / "configs"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Guidance(_Strict):
    """How strongly, while the noise level is at least ``from_level``."""

    from_level: float = Field(ge=0, le=1)
    guidance_scale: float = Field(1.0, ge=0)
    """Of classifier-free guidance; 1 is none."""
    stg_scale: float = Field(0.0, ge=0)
    """Of spatio-temporal guidance (https://arxiv.org/abs/2411.18664); 0 is none."""
    stg_blocks: tuple[int, ...] = ()
    """Which blocks attend to nothing in the prediction that it leads away from."""
    rescale: float = Field(1.0, ge=0, le=1)
    """How far the contrast of the unguided prediction is restored where ``stg_scale``
    is above 0; 1 leaves it."""

    @model_validator(mode="after")
    def _blocks_are_named(self) -> Self:
        if self.stg_scale > 0 and not self.stg_blocks:
            raise ValueError("stg_scale needs stg_blocks")
        return self


class Pass(_Strict):
    """One denoising."""

    timesteps: tuple[float, ...] | None = Field(None, min_length=1)
    """Noise levels of the steps, falling; None spaces them linearly, then
    quadratically."""
    steps: int | None = Field(None, ge=1)
    """Of how many steps ``skip_initial`` and ``skip_final`` count."""
    skip_initial: int = Field(0, ge=0)
    skip_final: int = Field(0, ge=0)
    guidance: tuple[Guidance, ...] = ()
    """The first whose level is reached holds; empty: the request's scale always."""

    @model_validator(mode="after")
    def _levels_fall(self) -> Self:
        levels = self.timesteps or ()
        if any(not 0 < level <= 1 for level in levels):
            raise ValueError("timesteps are noise levels above 0, at most 1")
        if any(after >= before for before, after in zip(levels, levels[1:])):  # noqa: B905, RUF007
            raise ValueError("timesteps must fall")
        if (self.skip_initial or self.skip_final) and self.steps is None:
            raise ValueError("skipped steps need to know of how many: steps")
        if self.steps and self.skip_initial + self.skip_final >= self.steps:
            raise ValueError("all steps are skipped")
        return self


class LtxConfig(_Strict):
    """All numbers that a checkpoint was trained or tuned for."""

    checkpoint: Literal["dev", "distilled", "demo"]
    version: str
    first_pass: Pass
    second_pass: Pass | None = None
    """After the latents were doubled in width and height; None: there is one pass."""
    downscale_factor: float = Field(2 / 3, gt=0, le=1)
    """Size of the first of two passes, as a share of the video's."""
    adain_factor: float = Field(1.0, ge=0, le=1)
    tone_map_compression_ratio: float = Field(0.0, ge=0, le=1)
    """How far large latents are reduced before they are decoded; 0 leaves them."""
    stochastic_sampling: bool = False
    """Whether each step ends with new noise of its level."""
    decode_timestep: float = Field(0.05, ge=0, le=1)
    decode_noise_scale: float = Field(0.025, ge=0, le=1)
    image_cond_noise_scale: float = Field(0.15, ge=0, le=1)
    """Noise on given frames while the rest is noise."""
    cfg_star_rescale: bool = False
    """Whether the unprompted prediction is first scaled to fit the prompted one
    (https://arxiv.org/abs/2503.18886)."""


def load_config(name: str, folder: Path = CONFIGS) -> LtxConfig:
    """The config in ``<name>.yaml``.

    Raises ``UnreadableFile`` that names the file and what is wrong in it.
    """
    file = folder / f"{name}.yaml"
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UnreadableFile(f"can't read {file}: {error}") from error
    try:
        return LtxConfig.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(f"{p.field}: {p.message}" for p in problems_of(error))
        raise UnreadableFile(f"{file}: {wrong}") from error


def check_together(name: str, config: LtxConfig, checkpoint: Path) -> None:
    """Raises ``UserError`` when the name of the checkpoint says that it is another kind
    or version than the config is for: the video would be noise."""
    kind, version = kind_of(checkpoint.name), version_of(checkpoint.name)
    wrong_kind = kind is not None and kind != config.checkpoint
    wrong_version = version is not None and version != config.version
    if not wrong_kind and not wrong_version:
        return
    fitting = [
        other.stem
        for other in sorted(CONFIGS.glob("*.yaml"))
        if is_for(load_config(other.stem), kind or config.checkpoint, version)
    ]
    use = (
        f"use {' or '.join(f'{each}.yaml' for each in fitting)}"
        if fitting
        else ("there is no config for it yet")
    )
    raise UserError(
        f"{checkpoint.name} is a {kind or config.checkpoint} checkpoint"
        f"{f' of {version}' if version else ''}, and {name}.yaml is for "
        f"{config.checkpoint} of {config.version}: {use}"
    )


def is_for(config: LtxConfig, kind: str, version: str | None) -> bool:
    return config.checkpoint == kind and version in (None, config.version)


def kind_of(name: str) -> str | None:
    """``dev`` or ``distilled`` if a file's name says so."""
    words = _words(name)
    return next((kind for kind in ("distilled", "dev") if kind in words), None)


def version_of(name: str) -> str | None:
    """Such as ``0.9.7``, if a file's name says so."""
    return next((w for w in _words(name) if w.startswith("0.9.")), None)


def _words(name: str) -> list[str]:
    stem = name.removesuffix(".safetensors").lower()
    return stem.replace("_", "-").split("-")
