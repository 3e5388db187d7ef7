"""The one request type: the form, the queue, files, HTTP and the video share it."""

from __future__ import annotations

import json
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1
SEED_LIMIT = 2**32
MOST_CONDITIONS = 16
MOST_LORAS = 100

MediaFile = Annotated[str, Field(max_length=1024)]


class Condition(BaseModel):
    """An image or a clip that the video shows at one place."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    file: MediaFile
    frame_index: int = Field(
        ge=-10_000,
        lt=10_000,
        description="Where it begins; -1 is the last frame.",
    )
    strength: float = Field(1.0, ge=0, le=1, allow_inf_nan=False)

    def first_frame(self, num_frames: int) -> int:
        """``frame_index`` counted from the start of a video of ``num_frames``."""
        from_end = self.frame_index < 0
        return self.frame_index + num_frames if from_end else self.frame_index


class Lora(BaseModel):
    """A LoRA that is put on the model."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: str = Field(
        min_length=1,
        max_length=1024,
        description="Its file below the family's folder of LoRAs.",
    )
    multiplier: float | Annotated[str, Field(max_length=4000)] = Field(
        1.0,
        description="How strongly it acts: a number, or a schedule such as 1,0.5;0.",
    )
    enabled: bool = Field(
        True, description="Whether it is used; else it is only remembered."
    )


class GenerationRequest(BaseModel):
    """What to generate. ``None`` means: what the model's row says.

    Field names are diffusers' own. Media fields name files; which folders they may
    lie in is checked by ``engine.validate``.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, populate_by_name=True
    )

    MEDIA_FIELDS: ClassVar[tuple[str, ...]] = (
        "image_start",
        "image_end",
        "image_refs",
        "control_video",
        "control_mask",
        "source_video",
        "conditions",
    )

    schema_version: int = Field(SCHEMA, alias="schema", ge=1, le=SCHEMA)
    model: str = Field(min_length=1, max_length=200)
    prompt: str = Field(min_length=1, max_length=20_000)
    negative_prompt: str | None = Field(None, max_length=20_000)
    width: int | None = Field(None, ge=16, le=8192)
    height: int | None = Field(None, ge=16, le=8192)
    num_frames: int | None = Field(None, ge=1, le=10_000)
    fps: float | None = Field(None, ge=1, le=240, allow_inf_nan=False)
    num_inference_steps: int | None = Field(None, ge=1, le=1000)
    guidance_scale: float | None = Field(None, ge=0, le=100, allow_inf_nan=False)
    guidance_scale_2: float | None = Field(None, ge=0, le=100, allow_inf_nan=False)
    true_cfg_scale: float | None = Field(None, ge=0, le=100, allow_inf_nan=False)
    flow_shift: float | None = Field(None, gt=0, le=100, allow_inf_nan=False)
    scheduler: str | None = Field(None, max_length=50)
    seed: int = Field(-1, ge=-1, lt=SEED_LIMIT, description="-1 draws one.")
    image_start: MediaFile | None = None
    image_end: MediaFile | None = None
    image_refs: list[MediaFile] = Field(default_factory=list, max_length=16)
    control_video: MediaFile | None = None
    control_mask: MediaFile | None = None
    source_video: MediaFile | None = None
    overlap_frames: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="How many of the source video's last frames the new part begins "
        "with.",
    )
    ar_step: int | None = Field(
        None,
        ge=0,
        le=1000,
        description="How many steps each block of frames is behind the one before; 0 "
        "makes all frames together.",
    )
    strength: float | None = Field(
        None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="How much of the source video is made anew.",
    )
    conditions: list[Condition] = Field(
        default_factory=list, max_length=MOST_CONDITIONS
    )
    loras: list[Lora] = Field(default_factory=list, max_length=MOST_LORAS)
    vae_tile_size: int | None = Field(
        None, ge=0, le=8192, description="Pixels; 0 is off, none is automatic."
    )
    step_cache: Literal["none", "forecast"] | None = Field(
        None, description="Whether steps that change little are forecast."
    )
    step_cache_threshold: float | None = Field(
        None,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="The error that forecasts may be expected to make.",
    )

    @property
    def enabled_loras(self) -> list[Lora]:
        return [lora for lora in self.loras if lora.enabled]

    def with_values(self, **values: object) -> Self:
        """A copy with these fields replaced, checked as a new request is."""
        merged = {**self.model_dump(), **values}
        return type(self).model_validate(merged)

    def to_json(self) -> str:
        """One line of JSON, defaults left out, as files and videos carry it."""
        values = self.model_dump(exclude_defaults=True, exclude_none=True)
        return json.dumps({"schema": self.schema_version, **values}, ensure_ascii=False)
