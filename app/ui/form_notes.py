"""What stands beside the fields of the form: about the model, prompts to try, the
length in seconds, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from app.ui.markup import length, sentence
from engine.errors import Problem
from engine.family import ModelVariant


def model_note(variant: ModelVariant, missing: str | None) -> str:
    """What the model is, and why it can't run yet if its files aren't here."""
    text = f'<p class="note">{escape(variant.description)}</p>'
    if missing:
        text += f'<p class="note warn" role="status">{escape(sentence(missing))}</p>'
    return text


def prompt_examples(variant: ModelVariant) -> str:
    """Up to four prompts; a click puts one into the form."""
    prompts = [prompt for prompt in (variant.prompt_hint, *variant.examples) if prompt]
    if not prompts:
        return ""
    chips = "".join(
        f'<button type="button" class="chip" data-action="example" '
        f'data-prompt="{escape(prompt)}" title="{escape(prompt)}">'
        f"{escape(prompt)}</button>"
        for prompt in prompts[:4]
    )
    return f'<div class="examples" aria-label="Prompts to try">{chips}</div>'


def length_note(num_frames: float | None, fps: float | None) -> str:
    return f'<p class="note" id="length-note">{escape(length(num_frames, fps))}</p>'


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
  if (input) input.focus({preventScroll: true});
  field.scrollIntoView({block: 'center'});
}, 100));
"""
"""For the list's ``gr.HTML(js_on_load=...)``: the button may be far from the field,
whose mark is drawn a moment after the list."""
