"""HunyuanVideo's attention without a mask.

diffusers pads every prompt to one length and masks the padding at every step, and a
mask rules out the fast attention kernels. With one prompt its padding can be cut off
instead: what remains is all real.
"""

from __future__ import annotations

from typing import Any

from diffusers.models.transformers.transformer_hunyuan_video import (
    HunyuanVideoAttnProcessor2_0,
)
from torch import Tensor


class UnmaskedAttention(HunyuanVideoAttnProcessor2_0):
    """Joint attention of the video's tokens and the prompt's, of which each must be
    real."""

    masks = False
    """What the choice of attention kernels goes by."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,  # noqa: ARG002 - nothing is padded
        image_rotary_emb: Any = None,
    ) -> Any:
        return super().__call__(
            attn, hidden_states, encoder_hidden_states, None, image_rotary_emb
        )


def attend_without_mask(transformer: Any) -> None:
    """Let the blocks of ``transformer`` take every token as real."""
    for blocks in (
        transformer.transformer_blocks,
        transformer.single_transformer_blocks,
    ):
        for block in blocks:
            block.attn.set_processor(UnmaskedAttention())
