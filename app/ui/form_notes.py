"""What stands beside the fields of the form: about the model, prompts to try, the
length in seconds, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import psutil

from app.ui.markup import length, sentence
from engine.catalogue import get_model
from engine.errors import Problem
from engine.family import ModelVariant
from engine.footprint import footprint, footprint_told
from engine.guidance import unused_negative_prompt
from engine.loading.machine import gpu_bytes
from engine.request import GenerationRequest
from engine.settings import Settings

SOURCE_LABELS = {"continue": "Continue a video", "transform": "Remake a video"}
SOURCE_NOTES = {
    "continue": "The new part begins with so many of its last frames, and the finished "
    "video is both in one.",
    "transform": "A low strength keeps its shapes and motion and changes the surfaces; "
    "1 leaves nothing of it.",
}
CONTROL_NOTE = (
    '<p class="note">The video follows the control video. With a mask, what is black '
    "in it stays as it is, and what is white is made anew.</p>"
)
PINS_NOTE = (
    '<p class="note">Each is shown at its frame: 0 is the first, -1 the last. A '
    "strength below 1 leaves the model some freedom.</p>"
)
GUIDANCE_LABELS = {
    "cfg": "Guidance",
    "embedded": "Embedded guidance",
    "guider": "Guidance",
}
GUIDANCE_NOTES = {
    "cfg": "Guidance above 1 follows the prompt more strictly and away from the "
    "negative one; each step then takes twice as long.",
    "embedded": "Embedded guidance is a number that the model was trained to take: it "
    "costs no time. Real guidance above 1 leads away from the negative prompt; each "
    "step then takes twice as long.",
    "guider": "Guidance above 1 follows the prompt more strictly and away from the "
    "negative one; each step then takes twice as long. 1 turns it off; a model that "
    "was distilled wants that.",
}
PARTS_NOTE = '<p class="note">Parts separated by | follow one another.</p>'


def model_note(variant: ModelVariant, missing: str | None) -> str:
    """What the model is, and why it can't run yet if its files aren't here."""
    text = f'<p class="note">{escape(variant.description)}</p>'
    if missing:
        text += f'<p class="note warn" role="status">{escape(sentence(missing))}</p>'
    return text


def source_label(variant: ModelVariant) -> str:
    """What the model does with a source video."""
    return SOURCE_LABELS[variant.source_video_use]


def source_note(variant: ModelVariant) -> str:
    return f'<p class="note">{SOURCE_NOTES[variant.source_video_use]}</p>'


def prompt_examples(variant: ModelVariant) -> str:
    """How a prompt may be written, and up to four; a click puts one into the form."""
    note = PARTS_NOTE if variant.prompt_parts else ""
    prompts = [prompt for prompt in (variant.prompt_hint, *variant.examples) if prompt]
    if not prompts:
        return note
    chips = "".join(
        f'<button type="button" class="chip" data-action="example" '
        f'data-prompt="{escape(prompt)}" title="{escape(prompt)}">'
        f"{escape(prompt)}</button>"
        for prompt in prompts[:4]
    )
    shown = f'<div class="examples" aria-label="Prompts to try">{chips}</div>'
    return f"{shown}{note}"


def length_note(
    settings: Settings, num_frames: float | None, fps: float | None, model: str
) -> str:
    """How long the video is, and of what sections where it is made in sections."""
    text, limits = length(num_frames, fps), get_model(model, settings).limits
    if limits.in_sections and num_frames and fps:
        text += f", made in {limits.sections_told(fps)}"
        if limits.snap_frames(round(num_frames)) != num_frames:
            near = limits.near_frames(round(num_frames))
            text += f": {' or '.join(map(str, near))}"
    return f'<p class="note" id="length-note">{escape(text)}</p>'


def guidance_label(variant: ModelVariant) -> str:
    return GUIDANCE_LABELS[variant.guidance]


def guidance_note(
    settings: Settings,
    model: str,
    negative_prompt: str | None,
    guidance_scale: float | None,
    true_cfg_scale: float | None,
) -> str:
    """What the model's kind of guidance does, and whether the negative prompt has no
    effect."""
    variant = get_model(model, settings)
    text = f'<p class="note">{escape(GUIDANCE_NOTES[variant.guidance])}</p>'
    unused = unused_negative_prompt(
        variant, negative_prompt, guidance_scale, true_cfg_scale
    )
    if unused:
        text += f'<p class="note warn" role="status">{escape(sentence(unused))}</p>'
    return text


def memory_note(
    settings: Settings,
    model: str,
    width: float | None,
    height: float | None,
    num_frames: float | None,
) -> str:
    """About how much of the GPU's memory the video takes; nothing without a GPU, or
    for a model that nothing is known of."""
    total = gpu_bytes(settings.gpu)
    if total is None or not (width and height and num_frames):
        return ""
    variant = get_model(model, settings)
    asked = GenerationRequest.model_construct(  # it may be out of the limits just now
        model=model,
        prompt="",
        width=round(width),
        height=round(height),
        num_frames=round(num_frames),
        guidance_scale=variant.defaults.get("guidance_scale"),
    )
    free_ram = int(psutil.virtual_memory().available)
    found = footprint(variant, asked, settings.profile, total, free_ram)
    if found is None:
        return ""
    told = escape(footprint_told(found, total))
    return f'<p class="note" id="memory-note">{told}</p>'


def problem_list(problems: Sequence[Problem], labels: Mapping[str, str]) -> str:
    """Every problem by the label of its field; empty when nothing is wrong."""
    if not problems:
        return ""
    items = "".join(
        f"<li><b>{escape(labels.get(problem.field, problem.field) or 'Request')}</b> "
        f"{escape(problem.message)}</li>"
        for problem in problems
    )
    return f'<ul class="problems" role="alert">{items}</ul>'


SHOW_FIRST_PROBLEM = """
watch('value', () => setTimeout(() => {
  const field = document.querySelector('.field.invalid');
  if (!props.value || !field) return;
  const input = field.querySelector('textarea, input');
  // A list would open, over what there is to read.
  if (input && input.role !== 'combobox') input.focus({preventScroll: true});
  field.scrollIntoView({block: 'center'});
}, 100));
"""
"""For the list's ``gr.HTML(js_on_load=...)``: the button may be far from the field,
whose mark is drawn a moment after the list."""
