"""Which layout a class has, and what a file holds by the names in it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import replace

from engine.loading.layouts import hunyuan, ltx, text, wan
from engine.loading.layouts.layout import Layout, nothing, whole

LAYOUTS = {**wan.LAYOUTS, **ltx.LAYOUTS, **hunyuan.LAYOUTS, **text.LAYOUTS}
"""By the name of the class; of those that share a mark the special one first."""

UNKNOWN = Layout(
    title="",
    family="",
    component="",
    mark="",
    own_mark="",
    rename=whole,
    config=nothing,
)

FOREIGN = (
    *(prefix for each in LAYOUTS.values() for prefix in each.prefixes),
    *("text_encoders.", "cond_stage_model.", "first_stage_model.", "model_ema."),
    *("audio_vae.", "vocoder.", "clip_vision."),
)
"""Before the names of other networks in files that hold several."""

LORA_PART = re.compile(
    r"\.lora_(A|B|down|up)(\.|$)|\.lora\.(A|B|down|up)\.|\.lora_linear_layer\."
    r"|\.(hada|lokr)_w[12]|\.diff(_b|_m)?$"
)
"""In names of tensors that change a weight instead of being one."""


def layout_of(kind: str) -> Layout:
    """The layout of the class called ``kind``. Of a class that isn't in the table only
    its own names are known, and nothing of its size."""
    return LAYOUTS.get(kind) or replace(UNKNOWN, title=kind)


def own_names(layout: Layout, names: Collection[str]) -> dict[str, str]:
    """Those of ``names`` that are of this network, without their prefix → as they are
    in the file. A file without prefixes holds one network."""
    own: dict[str, str] = {}
    for prefix in layout.prefixes:
        own = {n.removeprefix(prefix): n for n in names if n.startswith(prefix)}
        if own:
            break
    own |= {name: name for name in names if not name.startswith(FOREIGN)}
    return {new: old for new, old in own.items() if not new.startswith(layout.left_out)}


def prefix_of(own: dict[str, str]) -> str:
    """What stands before the names in the file, by what ``own_names`` returned."""
    new, old = next(iter(own.items()), ("", ""))
    return old.removesuffix(new)


def is_in_authors_names(layout: Layout, names: Iterable[str]) -> bool:
    return bool(layout.mark) and any(layout.mark in name for name in names)


def networks_in(names: Collection[str]) -> dict[str, Layout]:
    """The networks that a file with these names holds, by the names of their classes;
    of classes that share a mark the first."""
    found: dict[str, Layout] = {}
    if is_lora(names):
        return found
    for kind, layout in LAYOUTS.items():
        marks = [mark for mark in (layout.mark, layout.own_mark) if mark]
        taken = {each.component for each in found.values()}
        if layout.component in taken:
            continue
        if any(mark in name for name in names for mark in marks):
            found[kind] = layout
    return found


def is_lora(names: Iterable[str]) -> bool:
    """Whether these are the names of a LoRA's tensors."""
    return any(LORA_PART.search(name) for name in names)


def described(names: Collection[str]) -> str:
    """What a file with these names holds, in words."""
    if is_lora(names):
        return "LoRA"
    titles = [layout.title for layout in networks_in(names).values()]
    return " and ".join(titles) if titles else "something unknown"
