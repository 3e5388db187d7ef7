"""What a LoRA file is and which of its tensors are used, in words and numbers. Needs no
torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import UnreadableFile
from engine.family import get_family
from engine.loading.header import Header, read_header
from engine.lora.names import all_names, names_of
from engine.lora.parts import place_of
from engine.lora.plan import Alphas, Plan, Shapes, Which, make_plan, read_alphas

LEAST_SHARE = 0.5
"""Of its tensors, that a network must know."""

OTHERS = {
    "flux": "Flux",
    "sdxl": "Stable Diffusion XL",
    "stable-diffusion": "Stable Diffusion",
    "sd_v1": "Stable Diffusion",
    "qwen-image": "Qwen-Image",
    "z-image": "Z-Image",
    "cogvideox": "CogVideoX",
    "mochi": "Mochi",
}
"""Words in a file's metadata that name a model of another kind, some of whose layers
are called as ours are."""

ARCHITECTURE_KEYS = ("modelspec.architecture", "ss_base_model_version")


@dataclass(frozen=True)
class LoraReport:
    """Of one file for one family, or one of its networks."""

    file: str
    family: str | None
    """Whose layers it changes; ``None`` when no family knows them."""
    kinds: tuple[str, ...]
    """``LoRA``, ``DoRA``, ``LoHa``, ``LoKr``, ``difference``."""
    styles: tuple[str, ...]
    """Whose names its tensors have."""
    matched: int
    """Tensors that are used."""
    unmatched: tuple[str, ...]
    """Tensors of layers that the model doesn't have."""
    dropped: dict[str, str] = field(default_factory=dict)
    """Tensors that can't be used → why."""
    ranks: tuple[int, ...] = ()
    trigger_words: str = ""
    refusal: str = ""
    """Why it can't be used; empty when it can."""

    @property
    def total(self) -> int:
        return self.matched + len(self.unmatched) + len(self.dropped)

    def warning(self) -> str:
        """What isn't used, in words; empty when all is."""
        left = [*self.unmatched, *self.dropped]
        if self.refusal or not left:
            return ""
        reasons: Counter[str] = Counter(self.dropped.values())
        if self.unmatched:
            reasons["the model has no such layer"] = len(self.unmatched)
        said = "; ".join(f"{count}: {reason}" for reason, count in reasons.items())
        return (
            f"{self.file}: {len(left)} of {self.total} tensors aren't used ({said}), "
            f"such as {left[0]}"
        )


def describe(file: Path, family: str | None = None, which: Which = "any") -> LoraReport:
    """What ``file`` is for ``family``, or for the family that knows most of it, by its
    header alone. ``which`` is "only" for a model that has one transformer.

    Raises ``UnreadableFile`` for a file that isn't a LoRA in safetensors.
    """
    header = read_header(file)
    alphas = read_alphas(file, header)
    if family is not None:
        names = names_of(family)
        if names is None:
            title = get_family(family).title
            raise UnreadableFile(f"{title} takes no LoRAs")
        plan = make_plan(header, names, which=which, alphas=alphas)
        return report_of(file, header, plan, family)
    plans = {
        each: make_plan(header, names, alphas=alphas)
        for each, names in all_names().items()
    }
    best = max(plans, key=lambda each: len(plans[each].matched))
    found = best if plans[best].matched else None
    return report_of(file, header, plans[best], found)


def report_of(file: Path, header: Header, plan: Plan, family: str | None) -> LoraReport:
    """What ``plan`` found."""
    parts = {part for layer in plan.layers for part in layer.parts}
    ranks = {
        header.tensors[layer.parts["down"]].shape[0]
        for layer in plan.layers
        if "down" in layer.parts
    }
    return LoraReport(
        file=file.name,
        family=family,
        kinds=tuple(_kinds(parts)),
        styles=tuple(sorted(plan.styles)),
        matched=len(plan.matched),
        unmatched=tuple(plan.unmatched),
        dropped=dict(plan.dropped),
        ranks=tuple(sorted(ranks)),
        trigger_words=trigger_words(header),
        refusal=_refusal(file, header, plan, family),
    )


def plan_for(
    file: Path, family: str, shapes: Shapes, which: Which
) -> tuple[Plan, LoraReport]:
    """The same for one network, whose parameters have these ``shapes``."""
    header = read_header(file)
    names = names_of(family)
    assert names is not None  # validate refused it
    alphas: Alphas = read_alphas(file, header)
    plan = make_plan(header, names, shapes, which=which, alphas=alphas)
    return plan, report_of(file, header, plan, family)


def width_of(header: Header) -> int:
    """How many inputs most of the changed layers have; 0 when none is known."""
    widths = Counter(
        info.shape[1]
        for name, info in header.tensors.items()
        if place_of(name).part == "down" and len(info.shape) == 2
    )
    return widths.most_common(1)[0][0] if widths else 0


def _kinds(parts: set[str]) -> list[str]:
    kinds = []
    if "down" in parts:
        kinds.append("DoRA" if "magnitude" in parts else "LoRA")
    if "hada_w1_a" in parts:
        kinds.append("LoHa")
    if any(part.startswith("lokr_") for part in parts):
        kinds.append("LoKr")
    if {"weight", "bias"} & parts:
        kinds.append("difference")
    return kinds


def trigger_words(header: Header) -> str:
    """As its author wrote them, if so."""
    for key in ("modelspec.trigger_phrase", "trigger_words", "trained_words"):
        if text := header.metadata.get(key):
            return str(text)[:1000]
    return ""


def _refusal(file: Path, header: Header, plan: Plan, family: str | None) -> str:
    told = " ".join(str(header.metadata.get(k, "")) for k in ARCHITECTURE_KEYS).lower()
    other = next((title for word, title in OTHERS.items() if word in told), "")
    title = get_family(family).title if family else ""
    if other:
        return f"{file.name} says that it was made for {other}"
    encoders = sum("text encoder" in reason for reason in plan.dropped.values())
    matched = len(plan.matched)
    total = matched + len(plan.unmatched) + len(plan.dropped) - encoders
    if not header.tensors:
        return f"{file.name} is empty"
    if not matched and not any((plan.unmatched, plan.for_other, encoders)):
        reason = next(iter(plan.dropped.values()), "it has no change of a layer")
        return f"{file.name} isn't a LoRA that can be used: {reason}"
    if matched >= total * LEAST_SHARE and (matched or plan.for_other):
        return ""
    whose = _better_family(header, family)
    hint = f"it was made for {whose}" if whose else _first_reason(plan)
    return (
        f"{file.name} doesn't fit {title or 'any model here'}: only {matched} of its "
        f"{total} tensors do; {hint}"
    )


def _better_family(header: Header, family: str | None) -> str:
    for each, names in all_names().items():
        if each == family:
            continue
        matched = len(make_plan(header, names).matched)
        if matched >= len(header.tensors) * LEAST_SHARE:
            return get_family(each).title
    return ""


def _first_reason(plan: Plan) -> str:
    reasons = Counter(plan.dropped.values())
    if reasons:
        return f"for most, {reasons.most_common(1)[0][0]}"
    unknown: Sequence[str] = plan.unmatched
    return f"it has {unknown[0]}, for example" if unknown else "nothing is known of it"
