"""From the transformer's predictions to the one that is followed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ltx_video.config import Guidance, LtxConfig


def is_guided(config: LtxConfig, guidance_scale: float) -> bool:
    """Whether any step asks the transformer with the negative prompt, too."""
    passes = [each for each in (config.first_pass, config.second_pass) if each]
    return any(
        scale > 1
        for each in passes
        for scale in [g.guidance_scale for g in each.guidance] or [guidance_scale]
    )


def guidance_at(
    schedule: Sequence[Guidance], level: float, guidance_scale: float, usual: float
) -> Guidance:
    """What holds at this noise level.

    The schedule's own scales hold while the request leaves ``guidance_scale`` as
    ``usual``; another one takes the place of those that guide at all. Without a
    schedule it holds throughout.
    """
    if not schedule:
        return Guidance(from_level=0.0, guidance_scale=guidance_scale)
    found = next((g for g in schedule if g.from_level <= level), schedule[-1])
    if guidance_scale == usual or found.guidance_scale <= 1:
        return found
    return found.model_copy(update={"guidance_scale": guidance_scale})


def combine(
    guidance: Guidance,
    prompted: Tensor,
    unprompted: Tensor | None,
    perturbed: Tensor | None,
    *,
    cfg_star: bool,
) -> Tensor:
    """The prediction to follow, each (1, tokens, channels)."""
    result = prompted
    if unprompted is not None:
        if cfg_star:
            unprompted = unprompted * fit_of(unprompted, prompted)
        result = unprompted + guidance.guidance_scale * (prompted - unprompted)
    if perturbed is not None:
        result = result + guidance.stg_scale * (prompted - perturbed)
    if guidance.rescale != 1 and perturbed is not None:
        share = guidance.rescale * prompted.std() / result.std() + 1 - guidance.rescale
        result = result * share
    return result


def fit_of(unprompted: Tensor, prompted: Tensor) -> Tensor:
    """The factor that brings the first nearest to the second."""
    return (prompted * unprompted).sum() / (unprompted**2).sum().clamp(min=1e-8)


class _ValuesOnly:
    """Self-attention in which each token attends to itself alone."""

    def __call__(self, attn: Any, hidden_states: Tensor, *_: Any) -> Tensor:
        values: Tensor = attn.to_out[0](attn.to_v(hidden_states))
        result: Tensor = attn.to_out[1](values)
        return result


@contextmanager
def attention_to_nothing(transformer: Any, blocks: Sequence[int]) -> Iterator[None]:
    """While it lasts, these blocks don't look at other tokens."""
    chosen = [transformer.transformer_blocks[index].attn1 for index in blocks]
    before = [attention.processor for attention in chosen]
    for attention in chosen:
        attention.processor = _ValuesOnly()
    try:
        yield
    finally:
        for attention, processor in zip(chosen, before, strict=True):
            attention.processor = processor


def parts_mask(mask: Tensor, seconds: Tensor, length: float, parts: int) -> Tensor:
    """Which words each token may look at: those of the part of the prompt that its
    time is in.

    ``mask`` is (1, words of all parts), ``seconds`` the tokens' times, ``length`` the
    video's. With one part it stays as it is, else it is what is added to the
    attention's scores, (1, tokens, words).
    """
    if parts == 1:
        return mask
    words = mask.shape[1] // parts
    of_word = torch.arange(parts, device=mask.device).repeat_interleave(words)
    of_token = (seconds / length * parts).long().clamp(0, parts - 1)
    visible = (of_token[:, None] == of_word) & mask.bool()
    return torch.where(visible, 0.0, -10_000.0)[None]
