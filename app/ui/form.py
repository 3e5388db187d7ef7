"""The form: one component per field of a request, named as the field is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from app.ui import sizes
from app.ui.form_notes import length_note, model_note, problem_list, prompt_examples
from app.ui.live import Updates
from app.ui.markup import sentence
from engine.errors import Problem
from engine.family import ModelVariant, all_variants
from engine.request import GenerationRequest

WHOLE = ("width", "height", "num_frames", "num_inference_steps", "seed")
ADVANCED = ("negative_prompt", "guidance_scale", "flow_shift", "scheduler", "fps")
PLAIN = (
    "negative_prompt",
    "width",
    "height",
    "num_inference_steps",
    "guidance_scale",
    "flow_shift",
    "fps",
)
"""Fields of which only the value differs from model to model."""
MEDIA = tuple(name for name in GenerationRequest.MEDIA_FIELDS if name != "conditions")
MEDIA_LABELS = {
    "image_start": "Start image",
    "image_end": "End image",
    "image_refs": "Reference images",
    "control_video": "Control video",
    "control_mask": "Control mask",
    "source_video": "Source video",
}


@dataclass
class Form:
    """The components, made by ``form_layout``, and how values pass through them."""

    missing: Callable[[ModelVariant], str | None]
    """Why a model can't run yet; ``None`` when its files are here."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Components by the field of a request that they show; gradio binds their events
    as attributes, which types can't tell."""
    preset: gr.Dropdown = field(init=False)
    size: gr.Dropdown = field(init=False)
    dice: gr.Button = field(init=False)
    reuse: gr.Button = field(init=False)
    model_note: gr.HTML = field(init=False)
    examples: gr.HTML = field(init=False)
    length_note: gr.HTML = field(init=False)
    media_group: gr.Row = field(init=False)
    advanced: gr.Accordion = field(init=False)
    problems: gr.HTML = field(init=False)

    @property
    def inputs(self) -> set[Component]:
        return set(self.fields.values())

    @property
    def outputs(self) -> list[Block]:
        """Everything that ``fill`` and ``mark`` may change."""
        return [
            *self.fields.values(),
            self.preset,
            self.size,
            self.model_note,
            self.examples,
            self.length_note,
            self.media_group,
            self.advanced,
            self.problems,
        ]

    def read(self, values: Mapping[Component, Any]) -> dict[str, Any]:
        """What the form holds, as ``engine.validate.accept`` takes it: media only
        where the model takes them, empty fields left out."""
        variant = all_variants().get(values[self.fields["model"]])
        data: dict[str, Any] = {}
        for name, component in self.fields.items():
            value = values[component]
            if name in MEDIA and (variant is None or name not in variant.media):
                continue
            if value is None or value == []:
                continue
            data[name] = _whole(value) if name in WHOLE else value
        return data

    def fill(self, variant: ModelVariant, values: Mapping[str, Any]) -> Updates:
        """Updates that make the form show ``values``, and what ``variant`` says where
        they are silent. The form's prompt stays when they have none."""
        shown = {**variant.defaults, **values}
        updates: Updates = {
            self.fields["model"]: gr.update(value=variant.id),
            self.fields["seed"]: gr.update(value=shown.get("seed", -1)),
        }
        if "prompt" in shown:
            updates[self.fields["prompt"]] = gr.update(value=shown["prompt"])
        for name in PLAIN:
            updates[self.fields[name]] = gr.update(value=shown.get(name))
        updates[self.fields["num_frames"]] = gr.update(
            value=shown["num_frames"],
            maximum=variant.limits.max_frames,
            step=variant.limits.frames_multiple,
        )
        updates[self.fields["scheduler"]] = gr.update(
            value=shown["scheduler"], choices=scheduler_choices(variant)
        )
        updates[self.size] = gr.update(
            choices=sizes.size_choices(variant),
            value=sizes.choice_of(variant, shown["width"], shown["height"]),
        )
        for name in MEDIA:
            updates[self.fields[name]] = gr.update(
                value=shown.get(name) or None, visible=name in variant.media
            )
        updates[self.media_group] = gr.update(visible=bool(variant.media))
        updates[self.model_note] = model_note(variant, self.missing(variant))
        updates[self.examples] = prompt_examples(variant)
        updates[self.length_note] = length_note(shown["num_frames"], shown["fps"])
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
            if name not in MEDIA:
                change["info"] = sentence(reason, labels[name])
            marked[component] = {**marked.get(component, gr.update()), **change}
        marked[self.problems] = problem_list(problems, labels)
        if reasons.keys() & set(ADVANCED):
            marked[self.advanced] = gr.update(open=True)
        return marked


def scheduler_choices(variant: ModelVariant) -> list[tuple[str, str]]:
    return [(title, name) for name, title in variant.schedulers.items()]


def shown_values(request: GenerationRequest) -> dict[str, Any]:
    """What a form shows of ``request``; media that are gone are left out."""
    values = request.model_dump(exclude_none=True)
    values.pop("schema_version", None)
    for name in MEDIA:
        value = values.get(name)
        if isinstance(value, list):
            values[name] = [file for file in value if Path(file).is_file()]
        elif isinstance(value, str) and not Path(value).is_file():
            del values[name]
    return values


def _whole(value: Any) -> Any:
    """A browser sends 33.0 for 33."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        return int(value)
    return value
