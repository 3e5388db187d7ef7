"""Where the form's components stand on the page."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

from app.ui import sizes
from app.ui.form import (
    MEDIA_LABELS,
    NO_CACHE,
    PLAIN,
    Form,
    PinRow,
    model_choices,
    scheduler_choices,
)
from app.ui.form_notes import (
    CONTROL_NOTE,
    PINS_NOTE,
    SHOW_FIRST_PROBLEM,
    guidance_label,
    guidance_note,
    length_note,
    memory_note,
    model_note,
    prompt_examples,
    source_label,
    source_note,
)
from app.ui.licence_card import licence_card
from app.ui.lora_form import build_loras
from app.ui.lora_rows import takes_loras
from app.ui.markup import ON_ACTION
from engine.family import ModelVariant
from engine.request import MOST_CONDITIONS


class ImageFile(gr.Image):
    """Hands on the file as it was uploaded. ``gr.Image`` would write another one, with
    losses, and fail without a word about a file that is no picture."""

    is_template = True  # drawn as its base is

    def preprocess(self, payload: ImageData | None) -> Any:
        if payload is None or payload.path is None:
            return super().preprocess(payload)
        return payload.path


def build_form(form: Form, variant: ModelVariant) -> None:
    """Create the components of ``form``, showing the defaults of ``variant``."""
    values = variant.defaults
    with gr.Row(elem_classes=["pair"]):
        form.fields["model"] = gr.Dropdown(
            choices=model_choices(form.settings),
            value=variant.id,
            label="Model",
            min_width=220,
            scale=3,
            **_named("model"),
        )
        form.chosen = gr.State(variant.id)
        form.preset = gr.Dropdown(
            choices=[],
            value=None,
            label="Preset",
            min_width=140,
            scale=2,
            elem_id="preset",
            elem_classes=["field"],
            visible=False,
        )
    form.model_note = gr.HTML(model_note(variant, form.missing(variant)))
    form.licence = gr.HTML(
        licence_card(variant, form.settings), js_on_load=ON_ACTION, elem_id="licence"
    )
    form.fields["prompt"] = gr.Textbox(
        label="Prompt",
        lines=3,
        max_lines=12,
        placeholder=f"{variant.prompt_hint}\n\nCtrl+Enter generates.",
        **_named("prompt"),
    )
    form.examples = gr.HTML(prompt_examples(variant), js_on_load=ON_ACTION)
    _build_media(form, variant)
    _build_size(form, variant)
    with gr.Row(elem_classes=["pair"]):
        form.fields["num_inference_steps"] = gr.Slider(
            1,
            100,
            value=values["num_inference_steps"],
            step=1,
            label="Steps",
            min_width=200,
            **_named("num_inference_steps"),
        )
        with gr.Column(min_width=200):
            _build_seed(form)
    form.loras = gr.Accordion(
        "LoRAs", open=False, visible=takes_loras(variant), elem_id="loras"
    )
    with form.loras:
        form.fields["loras"] = build_loras(variant, form.settings)
    form.advanced = gr.Accordion("More settings", open=False, elem_id="advanced")
    with form.advanced:
        _build_advanced(form, variant)
        _build_saving(form)
    form.problems = gr.HTML("", js_on_load=SHOW_FIRST_PROBLEM, elem_id="problems")


def _build_saving(form: Form) -> None:
    with gr.Row(elem_id="save-preset"):
        form.preset_name = gr.Textbox(
            label="Keep all of this as a preset",
            placeholder="Its name",
            max_length=80,
            min_width=140,
            scale=3,
            elem_id="preset-name",
            elem_classes=["field"],
        )
        form.save_preset = gr.Button("Save preset", size="sm", min_width=100, scale=0)


def _named(name: str) -> dict[str, Any]:
    return {"elem_id": f"field-{name}", "elem_classes": ["field"]}


def _build_media(form: Form, variant: ModelVariant) -> None:
    form.media_group = gr.Column(visible=bool(variant.media), elem_id="media")
    with form.media_group:
        with gr.Row(elem_classes=["pair"]):
            for name in MEDIA_LABELS:
                if name not in ("source_video", "conditions"):
                    _build_medium(form, variant, name)
        form.control_note = gr.HTML(
            CONTROL_NOTE, visible="control_video" in variant.media
        )
        form.continuing = gr.Accordion(
            source_label(variant),
            open=False,
            visible="source_video" in variant.media,
            elem_id="continuing",
        )
        with form.continuing:
            _build_source(form, variant)
        form.pinning = gr.Accordion(
            "Pinned media",
            open=False,
            visible="conditions" in variant.media,
            elem_id="pinning",
        )
        with form.pinning:
            _build_medium(form, variant, "conditions")
            _build_pins(form)
            gr.HTML(PINS_NOTE)


def _build_source(form: Form, variant: ModelVariant) -> None:
    _build_medium(form, variant, "source_video")
    form.fields["overlap_frames"] = gr.Number(
        value=variant.defaults.get("overlap_frames"),
        label="Overlap",
        precision=0,
        step=variant.limits.frames_multiple,
        visible="overlap_frames" in variant.defaults,
        **_named("overlap_frames"),
    )
    form.fields["strength"] = gr.Slider(
        0.05,
        1,
        value=variant.defaults.get("strength"),
        step=0.05,
        label="Strength",
        visible="strength" in variant.defaults,
        **_named("strength"),
    )
    form.source_note = gr.HTML(source_note(variant))


def _build_pins(form: Form) -> None:
    form.pinned = gr.State([])
    for _ in range(MOST_CONDITIONS):
        with gr.Row(visible=False, elem_classes=["pair", "pin"]) as row:
            frame = gr.Number(
                label="Frame",
                precision=0,
                min_width=120,
                scale=3,
                elem_classes=["field"],
            )
            strength = gr.Number(
                label="Strength",
                step=0.05,
                min_width=80,
                scale=1,
                elem_classes=["field"],
            )
        form.pins.append(PinRow(row, frame, strength))


def _build_medium(form: Form, variant: ModelVariant, name: str) -> None:
    shared = {
        "label": MEDIA_LABELS[name],
        "visible": name in variant.media,
        **_named(name),
    }
    if name in ("image_start", "image_end"):
        component: Any = ImageFile(
            type="filepath", sources=["upload", "clipboard"], height=180, **shared
        )
    elif name in ("image_refs", "conditions", "control_mask"):
        kinds = ["image"] if name == "image_refs" else ["image", "video"]
        count: Any = "single" if name == "control_mask" else "multiple"
        component = gr.File(file_count=count, file_types=kinds, height=140, **shared)
    else:
        component = gr.Video(sources=["upload"], height=180, **shared)
    form.fields[name] = component


def _build_size(form: Form, variant: ModelVariant) -> None:
    values, limits = variant.defaults, variant.limits
    with gr.Row(elem_classes=["pair"]):
        form.size = gr.Dropdown(
            choices=sizes.size_choices(variant),
            value=sizes.choice_of(variant, values["width"], values["height"]),
            label="Size",
            min_width=130,
            scale=2,
            elem_id="size",
            elem_classes=["field"],
        )
        for name in ("width", "height"):
            form.fields[name] = gr.Number(
                value=values[name],
                label=name.capitalize(),
                precision=0,
                step=limits.size_multiple,
                min_width=76,
                scale=1,
                **_named(name),
            )
    form.fields["num_frames"] = gr.Slider(
        limits.min_frames,
        limits.max_frames,
        value=values["num_frames"],
        step=limits.frames_multiple,
        label="Length in frames",
        **_named("num_frames"),
    )
    form.length_note = gr.HTML(
        length_note(form.settings, values["num_frames"], values["fps"], variant.id)
    )
    size = (values[name] for name in ("width", "height", "num_frames"))
    form.memory_note = gr.HTML(
        memory_note(form.settings, variant.id, *size), elem_id="memory"
    )


def _build_seed(form: Form) -> None:
    with gr.Row(elem_id="seed-row"):
        form.fields["seed"] = gr.Number(
            value=-1, label="Seed", precision=0, min_width=110, **_named("seed")
        )
        form.dice = gr.Button(
            "Random", size="sm", min_width=60, scale=0, elem_id="seed-random"
        )
        form.reuse = gr.Button(
            "Last", size="sm", min_width=60, scale=0, elem_id="seed-last"
        )


def _build_step_cache(form: Form) -> None:
    form.fields["step_cache"] = gr.Dropdown(
        choices=[("Off", NO_CACHE), ("Forecast", "forecast")],
        value=NO_CACHE,
        label="Step cache",
        min_width=170,
        **_named("step_cache"),
    )
    form.fields["step_cache_threshold"] = gr.Number(
        value=None,
        label="Error that forecasts may make",
        min_width=170,
        **_named("step_cache_threshold"),
    )


def _build_advanced(form: Form, variant: ModelVariant) -> None:
    values = variant.defaults
    form.fields["negative_prompt"] = gr.Textbox(
        value=values.get("negative_prompt"),
        label="Negative prompt",
        lines=2,
        max_lines=6,
        placeholder="What the video should not show",
        **_named("negative_prompt"),
    )
    with gr.Row(elem_classes=["pair"]):
        for name, label in (
            ("guidance_scale", guidance_label(variant)),
            ("true_cfg_scale", "Real guidance"),
            ("guidance_scale_2", "Guidance of the second transformer"),
            ("flow_shift", "Flow shift"),
            ("fps", "Frames per second"),
            ("ar_step", "Steps between blocks of frames"),
        ):
            form.fields[name] = gr.Number(
                value=values.get(name),
                label=label,
                min_width=170,
                visible=name in PLAIN or name in values,
                **_named(name),
            )
        form.fields["scheduler"] = gr.Dropdown(
            choices=scheduler_choices(variant),
            value=values["scheduler"],
            label="Scheduler",
            min_width=170,
            **_named("scheduler"),
        )
        form.fields["vae_tile_size"] = gr.Dropdown(
            choices=sizes.tile_choices(variant),
            value=sizes.AUTOMATIC_TILES,
            label="VAE tiling",
            min_width=170,
            visible=variant.limits.min_vae_tile > 0,
            **_named("vae_tile_size"),
        )
        _build_step_cache(form)
    numbers = [
        values.get(name)
        for name in ("negative_prompt", "guidance_scale", "true_cfg_scale")
    ]
    form.guidance_note = gr.HTML(guidance_note(form.settings, variant.id, *numbers))
