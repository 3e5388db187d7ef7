"""HunyuanVideo 1.5's attention without a mask.

diffusers pads a prompt to 1256 tokens and masks them at every step with a mask as
large as all tokens squared (2.4 GB at 848 × 480 × 121), which no fast attention kernel
takes. With one prompt its padding can be cut off instead.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_hunyuan_video15 import (
    HunyuanVideo15AttnProcessor2_0,
)
from torch import Tensor


class UnmaskedAttention(HunyuanVideo15AttnProcessor2_0):
    """Joint attention of the video's tokens and those of its conditions, of which
    each must be real."""

    masks = False
    """What the choice of attention kernels goes by."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,  # noqa: ARG002 - nothing is padded
        image_rotary_emb: Any = None,
    ) -> tuple[Tensor, Tensor]:
        assert encoder_hidden_states is not None

        def heads(layer: Any, states: Tensor) -> Tensor:
            split: Tensor = layer(states).unflatten(2, (attn.heads, -1))
            return split

        query = attn.norm_q(heads(attn.to_q, hidden_states))
        key = attn.norm_k(heads(attn.to_k, hidden_states))
        value = heads(attn.to_v, hidden_states)
        if image_rotary_emb is not None:
            query = apply_rotary_emb(query, image_rotary_emb, sequence_dim=1)
            key = apply_rotary_emb(key, image_rotary_emb, sequence_dim=1)
        added_query = attn.norm_added_q(heads(attn.add_q_proj, encoder_hidden_states))
        added_key = attn.norm_added_k(heads(attn.add_k_proj, encoder_hidden_states))
        added_value = heads(attn.add_v_proj, encoder_hidden_states)
        attended = dispatch_attention_fn(
            torch.cat([query, added_query], dim=1),
            torch.cat([key, added_key], dim=1),
            torch.cat([value, added_value], dim=1),
            backend=self._attention_backend,
            parallel_config=self._parallel_config,
        )
        attended = attended.flatten(2, 3).to(query.dtype)
        lengths = [hidden_states.shape[1], encoder_hidden_states.shape[1]]
        video, conditions = attended.split(lengths, dim=1)
        return attn.to_out[1](attn.to_out[0](video)), attn.to_add_out(conditions)


def attend_without_mask(transformer: Any) -> None:
    """Let the blocks of ``transformer`` take every token as real."""
    for block in transformer.transformer_blocks:
        block.attn.set_processor(UnmaskedAttention())
