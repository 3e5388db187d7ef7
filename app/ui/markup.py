"""Pieces of HTML that several parts of the page share. Everything from outside is
escaped here."""

from __future__ import annotations

from html import escape
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from engine.request import GenerationRequest


def action(name: str, label: str, *, title: str = "", job: str = "") -> str:
    """A small button; a click on it reaches the handler as ``{"action", "job"}``."""
    described = escape(title or label)
    kind = "icon" if title else "text"
    return (
        f'<button type="button" class="act {kind}" data-action="{escape(name)}" '
        f'data-job="{escape(job)}" title="{described}" aria-label="{described}">'
        f"{escape(label)}</button>"
    )


ON_ACTION = """
element.addEventListener('click', event => {
  const button = event.target.closest('[data-action]');
  if (!button || !element.contains(button)) return;
  if (button.dataset.confirm && !window.confirm(button.dataset.confirm)) return;
  trigger('act', {...button.dataset});
});
"""
"""For ``gr.HTML(js_on_load=...)``: clicks on actions become its ``act`` event."""


def empty(title: str, text: str) -> str:
    """What stands where there is nothing yet."""
    return (
        f'<div class="empty"><strong>{escape(title)}</strong>'
        f"<span>{escape(text)}</span></div>"
    )


def one_line(prompt: str, most: int = 160) -> str:
    """A prompt on one line, cut short, escaped."""
    line = " ".join(prompt.split())
    return escape(line if len(line) <= most else line[: most - 1] + "…")


def video_url(path: Path) -> str:
    """Where the browser finds a video of the output folder, relative to the page."""
    return f"gradio_api/file={quote(str(path))}"


def facts(request: GenerationRequest) -> str:
    """Size, length and steps on one line."""
    parts = []
    if request.width and request.height:
        parts.append(f"{request.width} \u00d7 {request.height}")
    if request.num_frames:
        parts.append(length(request.num_frames, request.fps))
    if request.num_inference_steps:
        parts.append(f"{request.num_inference_steps} steps")
    return " · ".join(parts)


MEDIA_WORDS = {
    "image_start": "start image",
    "image_end": "end image",
    "image_refs": "reference images",
    "control_video": "control video",
    "control_mask": "control mask",
    "source_video": "source video",
}


def media_words(request: GenerationRequest) -> str:
    """Which media the request uses: ``start image, 2 pinned``."""
    words = [word for name, word in MEDIA_WORDS.items() if getattr(request, name)]
    if request.conditions:
        words.append(f"{len(request.conditions)} pinned")
    return ", ".join(words)


def lora_words(request: GenerationRequest) -> str:
    """``night 0.8, outlines 1,0.5``."""
    return ", ".join(
        f"{PurePosixPath(lora.name).stem} {lora.multiplier}"
        for lora in request.enabled_loras
    )


def length(num_frames: float | None, fps: float | None) -> str:
    """``33 frames (2.1 s)``."""
    if not num_frames:
        return ""
    frames = f"{num_frames:g} frame{'s' if num_frames != 1 else ''}"
    return f"{frames} ({num_frames / fps:.1f} s)" if fps and fps > 0 else frames


def sentence(text: str | None, subject: str = "This") -> str:
    """A message as a sentence of its own, about ``subject`` where it names none."""
    if not text:
        return ""
    if text.startswith(("is ", "must ", "has ", "contains ")):
        text = f"{subject} {text}"
    end = "" if text.endswith((".", "!", "?")) else "."
    return f"{text[:1].upper()}{text[1:]}{end}"
