"""The gallery: finished videos as tiles, and one of them in full, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from app.reporters import duration
from app.ui.markup import empty, facts, lora_words, media_words, one_line, video_url
from engine.events import Saved
from engine.outputs import Output
from engine.request import GenerationRequest
from engine.timing import timing_told

PAGE = 24
"""Tiles that a page shows before it offers more."""

LABELS = {
    "model": "Model",
    "negative_prompt": "Negative prompt",
    "width": "Width",
    "height": "Height",
    "num_frames": "Frames",
    "fps": "Frames per second",
    "num_inference_steps": "Steps",
    "guidance_scale": "Guidance",
    "true_cfg_scale": "Real guidance",
    "guidance_scale_2": "Guidance of the second transformer",
    "flow_shift": "Flow shift",
    "scheduler": "Scheduler",
    "seed": "Seed",
    "overlap_frames": "Overlap",
    "vae_tile_size": "VAE tiling",
    "step_cache": "Step cache",
    "step_cache_threshold": "Error of forecasts",
}

GO_ON = {
    "source_video": "Continue this video",
    "image_start": "Use last frame as start image",
}
NO_MODEL = "No model whose files are here takes it"


def tiles(outputs: Sequence[Output], shown: int) -> str:
    if not outputs:
        return empty("No videos yet", "Write a prompt under Create and press Generate.")
    grid = "".join(_tile(output) for output in outputs[:shown])
    more = ""
    if len(outputs) > shown:
        rest = len(outputs) - shown
        more = (
            '<button type="button" class="act text more" data-action="more">'
            f"Show more ({rest})</button>"
        )
    return f'<div class="tiles">{grid}</div>{more}'


def detail(
    output: Output, saved: Saved | None, ways: frozenset[str] = frozenset()
) -> str:
    """One video with everything known about it, and what can be done with it.
    ``saved`` tells how long making it took, where the queue still knows; ``ways``
    are the keys of ``GO_ON`` that some model takes."""
    name = escape(output.path.name)
    prompt = output.request.prompt if output.request else output.path.stem
    use = (
        f'<button type="button" class="act text main" data-action="use" '
        f'data-name="{name}">Use these settings</button>'
        if output.request
        else '<p class="facts">This file carries no settings.</p>'
    )
    return (
        f'<article class="detail" data-name="{name}">'
        f'<video src="{video_url(output.path)}" autoplay loop muted playsinline '
        f'controls></video><div class="sheet"><p class="prompt">{escape(prompt)}</p>'
        f"<dl>{_settings(output.request)}{_file_facts(output, saved)}</dl>"
        f'<p class="path"><code>{escape(str(output.path))}</code>'
        f'<button type="button" class="act text" '
        f'data-copy="{escape(str(output.path))}">Copy path</button></p>'
        f'<div class="row">{use}{_go_on(name, ways)}'
        f'<a class="act text" href="{video_url(output.path)}" '
        f'download="{name}">Download</a>'
        f'<button type="button" class="act text danger" data-action="delete" '
        f'data-name="{name}" data-confirm="Delete this video for good?">Delete'
        '</button><button type="button" class="act text" data-action="close">Close'
        "</button></div></div></article>"
    )


def _go_on(name: str, ways: frozenset[str]) -> str:
    """A button for each way to go on from the video; ``name`` is escaped."""
    return "".join(
        f'<button type="button" class="act text" data-action="go-on" '
        f'data-how="{how}" data-name="{name}"'
        + ("" if how in ways else f' disabled title="{NO_MODEL}"')
        + f">{label}</button>"
        for how, label in GO_ON.items()
    )


def _tile(output: Output) -> str:
    name = escape(output.path.name)
    caption = one_line(output.request.prompt, 90) if output.request else name
    below = facts(output.request) if output.request else ""
    return (
        f'<button type="button" class="tile" data-action="open" data-name="{name}">'
        f'<video src="{video_url(output.path)}#t=0.01" preload="metadata" muted loop '
        f'playsinline tabindex="-1"></video><span class="caption">{caption}</span>'
        f'<span class="facts">{below}</span></button>'
    )


def _settings(request: GenerationRequest | None) -> str:
    if request is None:
        return ""
    values = request.model_dump(exclude_none=True)
    facts = [
        _fact(label, _written(values[name]))
        for name, label in LABELS.items()
        if values.get(name) not in (None, "")
    ]
    if media := media_words(request):
        facts.append(_fact("Media", media))
    if loras := lora_words(request):
        facts.append(_fact("LoRAs", loras, wide=True))
    return "".join(facts)


def _file_facts(output: Output, saved: Saved | None) -> str:
    made = output.created_at.astimezone().strftime("%d %b %Y, %H:%M")
    size = f"{output.bytes / 1e6:.1f} MB" if output.bytes > 1e5 else "under 0.1 MB"
    facts = _fact("Made", made) + _fact("File", size)
    if saved is None:
        return facts
    facts += _fact("Took", duration(saved.seconds))
    if saved.timing:
        facts += _fact("Time went into", timing_told(saved.timing), wide=True)
    return facts


def _fact(label: str, value: str, *, wide: bool = False) -> str:
    kind = ' class="wide"' if wide else ""
    return f"<div{kind}><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>"


def _written(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
