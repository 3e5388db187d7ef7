"""The form: one component per field of a request, named as the field is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from app.ui import lora_rows, pins, sizes
from app.ui.form_notes import (
    guidance_label,
    guidance_note,
    length_note,
    memory_note,
    model_note,
    problem_list,
    prompt_examples,
    source_label,
    source_note,
)
from app.ui.licence_card import licence_card
from app.ui.live import Updates
from app.ui.markup import sentence
from app.ui.pins import Row
from engine.catalogue import all_models
from engine.errors import Problem
from engine.family import ModelVariant
from engine.request import GenerationRequest
from engine.settings import Settings

WHOLE = (
    "width",
    "height",
    "num_frames",
    "num_inference_steps",
    "seed",
    "overlap_frames",
    "ar_step",
)
OWN = ("true_cfg_scale", "guidance_scale_2", "ar_step", "overlap_frames", "strength")
"""Fields that only some models have: those whose defaults name them."""
ADVANCED = (
    "negative_prompt",
    "guidance_scale",
    "true_cfg_scale",
    "guidance_scale_2",
    "ar_step",
    "flow_shift",
    "scheduler",
    "fps",
    "vae_tile_size",
    "step_cache",
    "step_cache_threshold",
)
PLAIN = (
    "negative_prompt",
    "width",
    "height",
    "num_inference_steps",
    "guidance_scale",
    "flow_shift",
    "fps",
    "step_cache",
    "step_cache_threshold",
)
"""Fields of which only the value differs from model to model."""
NO_CACHE = "none"
MEDIA = GenerationRequest.MEDIA_FIELDS
MEDIA_LABELS = {
    "image_start": "Start image",
    "image_end": "End image",
    "image_refs": "Reference images",
    "control_video": "Control video",
    "control_mask": "Control mask",
    "source_video": "Source video",
    "conditions": "Images and clips",
}


@dataclass(frozen=True)
class PinRow:
    """Where one file of the field ``conditions`` is shown."""

    block: gr.Row
    frame: gr.Number
    strength: gr.Number


def model_choices(settings: Settings) -> list[tuple[str, str]]:
    """Title and id of each model, as the files of the user's own are now."""
    return [(each.title, each.id) for each in all_models(settings).values()]


@dataclass
class Form:
    """The components, made by ``form_layout``, and how values pass through them."""

    missing: Callable[[ModelVariant], str | None]
    """Why a model can't run yet; ``None`` when its files are here."""
    settings: Settings
    fields: dict[str, Any] = field(default_factory=dict)
    """Components by the field of a request that they show; gradio binds their events
    as attributes, which types can't tell."""
    chosen: gr.State = field(init=False)
    """The model whose values the form was filled with."""
    preset: gr.Dropdown = field(init=False)
    size: gr.Dropdown = field(init=False)
    dice: gr.Button = field(init=False)
    reuse: gr.Button = field(init=False)
    model_note: gr.HTML = field(init=False)
    licence: gr.HTML = field(init=False)
    examples: gr.HTML = field(init=False)
    length_note: gr.HTML = field(init=False)
    memory_note: gr.HTML = field(init=False)
    guidance_note: gr.HTML = field(init=False)
    media_group: gr.Column = field(init=False)
    continuing: gr.Accordion = field(init=False)
    source_note: gr.HTML = field(init=False)
    control_note: gr.HTML = field(init=False)
    pinning: gr.Accordion = field(init=False)
    pinned: gr.State = field(init=False)
    """Names of the files of the field ``conditions``, which ``pins`` stand for."""
    pins: list[PinRow] = field(default_factory=list)
    loras: gr.Accordion = field(init=False)
    preset_name: gr.Textbox = field(init=False)
    save_preset: gr.Button = field(init=False)
    advanced: gr.Accordion = field(init=False)
    problems: gr.HTML = field(init=False)

    @property
    def inputs(self) -> set[Component]:
        return {*self.fields.values(), *self.pin_inputs}

    @property
    def pin_inputs(self) -> list[Component]:
        numbers = [[row.frame, row.strength] for row in self.pins]
        return [self.pinned, *chain.from_iterable(numbers)]

    @property
    def pin_outputs(self) -> list[Block]:
        return [*self.pin_inputs, *(row.block for row in self.pins)]

    @property
    def outputs(self) -> list[Block]:
        """Everything that ``fill`` and ``mark`` may change."""
        return [
            *self.fields.values(),
            self.chosen,
            self.preset,
            self.size,
            self.model_note,
            self.licence,
            self.examples,
            self.length_note,
            self.memory_note,
            self.guidance_note,
            self.media_group,
            self.continuing,
            self.source_note,
            self.control_note,
            self.pinning,
            *self.pin_outputs,
            self.loras,
            self.preset_name,
            self.advanced,
            self.problems,
        ]

    def read(self, values: Mapping[Component, Any]) -> dict[str, Any]:
        """What the form holds, as ``engine.validate.accept`` takes it: media only
        where the model takes them, empty fields left out."""
        variant = all_models(self.settings).get(values[self.fields["model"]])
        data: dict[str, Any] = {}
        for name, component in self.fields.items():
            value = values[component]
            if name in MEDIA and (variant is None or name not in variant.media):
                continue
            if name in OWN and (variant is None or name not in variant.defaults):
                continue
            if value is None or value == []:
                continue
            data[name] = _whole(value) if name in WHOLE else value
        loras = lora_rows.in_request(data.pop("loras", None))
        if loras and variant is not None and lora_rows.takes_loras(variant):
            data["loras"] = loras
        if "conditions" in data:
            data["conditions"] = pins.conditions(
                data["conditions"], self.pin_table(values)
            )
        if "source_video" not in data:
            data.pop("overlap_frames", None)
            data.pop("strength", None)
        tiled = variant is not None and variant.limits.min_vae_tile > 0
        if not tiled or data.get("vae_tile_size") == sizes.AUTOMATIC_TILES:
            data.pop("vae_tile_size", None)
        if data.get("step_cache") == NO_CACHE:
            del data["step_cache"]
            data.pop("step_cache_threshold", None)
        return data

    def fill(
        self, variant: ModelVariant, values: Mapping[str, Any], *, media: bool = True
    ) -> Updates:
        """Updates that make the form show ``values``, and what ``variant`` says where
        they are silent. The form's prompt stays when they have none; without
        ``media`` its media stay too, and so do its LoRAs when ``values`` have none."""
        shown = {"step_cache": NO_CACHE, **variant.defaults, **values}
        models = model_choices(self.settings)
        updates: Updates = {
            self.fields["model"]: gr.update(value=variant.id, choices=models),
            self.chosen: variant.id,
            self.fields["seed"]: gr.update(value=shown.get("seed", -1)),
        }
        if "prompt" in shown:
            updates[self.fields["prompt"]] = gr.update(value=shown["prompt"])
        for name in PLAIN:
            updates[self.fields[name]] = gr.update(value=shown.get(name))
        for name in OWN:
            updates[self.fields[name]] = gr.update(
                value=shown.get(name), visible=name in variant.defaults
            )
        updates[self.fields["num_frames"]] = gr.update(
            value=shown["num_frames"],
            minimum=variant.limits.min_frames,
            maximum=variant.limits.max_frames,
            step=variant.limits.frames_multiple,
        )
        updates[self.fields["guidance_scale"]]["label"] = guidance_label(variant)
        updates[self.guidance_note] = guidance_note(
            self.settings,
            variant.id,
            shown.get("negative_prompt"),
            shown.get("guidance_scale"),
            shown.get("true_cfg_scale"),
        )
        updates[self.fields["scheduler"]] = gr.update(
            value=shown["scheduler"], choices=scheduler_choices(variant)
        )
        updates[self.size] = gr.update(
            choices=sizes.size_choices(variant),
            value=sizes.choice_of(variant, shown["width"], shown["height"]),
        )
        updates[self.fields["vae_tile_size"]] = gr.update(
            value=shown.get("vae_tile_size", sizes.AUTOMATIC_TILES),
            choices=sizes.tile_choices(variant, shown.get("vae_tile_size")),
            visible=variant.limits.min_vae_tile > 0,
        )
        updates |= self._fill_media(variant, shown if media else None)
        updates[self.loras] = gr.update(visible=lora_rows.takes_loras(variant))
        if media or "loras" in values:
            chosen = shown.get("loras", ())
            listed = lora_rows.shown_loras(chosen, variant, self.settings)
            updates[self.fields["loras"]] = gr.update(value=listed)
            if chosen:
                updates[self.loras]["open"] = True
        updates[self.model_note] = model_note(variant, self.missing(variant))
        updates[self.licence] = licence_card(variant, self.settings)
        updates[self.examples] = prompt_examples(variant)
        updates |= self._size_notes(variant, shown)
        return updates

    def _size_notes(self, variant: ModelVariant, shown: Mapping[str, Any]) -> Updates:
        size = (shown[name] for name in ("width", "height", "num_frames"))
        return {
            self.length_note: length_note(
                self.settings, shown["num_frames"], shown["fps"], variant.id
            ),
            self.memory_note: memory_note(self.settings, variant.id, *size),
        }

    def pin_table(self, values: Mapping[Component, Any]) -> list[Row]:
        """Which file is shown where, as ``app.ui.pins`` takes it."""
        names = values[self.pinned]
        return [
            [name, values[row.frame], values[row.strength]]
            for name, row in zip(names, self.pins, strict=False)
        ]

    def show_pins(self, rows: Sequence[Row]) -> Updates:
        """Updates that make the table show ``rows``, as many as it can."""
        updates: Updates = {self.pinned: [row[0] for row in rows]}
        for place, shown in enumerate(self.pins):
            name, frame, strength = (
                rows[place] if place < len(rows) else ("", None, None)
            )
            updates[shown.block] = gr.update(visible=place < len(rows))
            updates[shown.frame] = gr.update(value=frame, label=f"Frame of {name}")
            updates[shown.strength] = gr.update(value=strength)
        return updates

    def _fill_media(
        self, variant: ModelVariant, shown: Mapping[str, Any] | None
    ) -> Updates:
        """Show the media that ``variant`` takes; their files stay without ``shown``."""
        takes = variant.media
        updates: Updates = {
            self.fields[name]: gr.update(visible=name in takes) for name in MEDIA
        }
        updates[self.media_group] = gr.update(visible=bool(takes))
        updates[self.continuing] = gr.update(
            visible="source_video" in takes, label=source_label(variant)
        )
        updates[self.source_note] = source_note(variant)
        updates[self.control_note] = gr.update(visible="control_video" in takes)
        updates[self.pinning] = gr.update(visible="conditions" in takes)
        updates[self.fields["overlap_frames"]] = gr.update(
            value=(shown or variant.defaults).get("overlap_frames"),
            step=variant.limits.frames_multiple,
            visible="overlap_frames" in variant.defaults,
        )
        if shown is None:
            return updates
        for name in MEDIA:
            updates[self.fields[name]]["value"] = shown.get(name) or None
        files, rows = pins.files_and_rows(shown.get("conditions", ()))
        updates[self.fields["conditions"]]["value"] = files or None
        updates |= self.show_pins(rows)
        updates[self.continuing]["open"] = "source_video" in shown
        updates[self.pinning]["open"] = bool(rows)
        return updates

    def mark(self, updates: Updates, problems: list[Problem]) -> Updates:
        """``updates``, with each field that ``problems`` name marked with the reason,
        and every other mark taken away."""
        reasons = {problem.field: problem.message for problem in problems}
        labels = {
            name: str(component.label or name)
            for name, component in self.fields.items()
        }
        marked = dict(updates)
        for name, component in self.fields.items():
            reason = reasons.get(name)
            change: dict[str, Any] = {
                "elem_classes": ["field", "invalid"] if reason else ["field"]
            }
            if name not in (*MEDIA, "loras"):
                change["info"] = sentence(reason, labels[name])
            marked[component] = {**marked.get(component, gr.update()), **change}
        marked[self.problems] = problem_list(problems, labels)
        if reasons.keys() & set(ADVANCED):
            marked[self.advanced] = gr.update(open=True)
        if reasons.keys() & {"source_video", "overlap_frames", "strength"}:
            marked[self.continuing] = gr.update(open=True)
        if "conditions" in reasons:
            marked[self.pinning] = gr.update(open=True)
        if "loras" in reasons:
            marked[self.loras] = gr.update(open=True)
        return marked


def scheduler_choices(variant: ModelVariant) -> list[tuple[str, str]]:
    return [(title, name) for name, title in variant.schedulers.items()]


def _whole(value: Any) -> Any:
    """A browser sends 33.0 for 33."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    return value
