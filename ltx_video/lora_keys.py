"""How files of LoRAs call the layers of LTX Video's transformer: Lightricks' names
(https://github.com/Lightricks/LTX-Video) beside diffusers'. Needs no torch."""

from __future__ import annotations

from engine.family import ModelVariant
from engine.lora.names import Row, row
from ltx_video.variants import config_of

BASES = {384: "demo", 2048: "2B", 4096: "13B"}
"""How many inputs most layers of a model have → its size."""


def phases(variant: ModelVariant) -> tuple[str, ...]:
    """One for each pass."""
    has_two = config_of(variant).second_pass is not None
    return ("first pass", "second pass") if has_two else ("",)


BLOCK = "transformer_blocks.{}"


def _attention(name: str) -> tuple[Row, ...]:
    attention = f"{BLOCK}.{name}"
    qkv = tuple(f"{attention}.to_{x}" for x in "qkv")
    return (
        *(row(each) for each in qkv),
        row(f"{attention}.to_out", f"{attention}.to_out.0"),
        row(f"{attention}.q_norm", f"{attention}.norm_q"),
        row(f"{attention}.k_norm", f"{attention}.norm_k"),
        row(f"{attention}.to_qkv", *qkv),
        row(f"{attention}.to_kv", *qkv[1:]),
    )


def _embedder(part: str) -> Row:
    return row(f"adaln_single.{part}", f"time_embed.{part}")


ROWS = (
    *_attention("attn1"),
    *_attention("attn2"),
    row(f"{BLOCK}.ff.net.0.proj"),
    row(f"{BLOCK}.ff.net.2"),
    row(f"{BLOCK}.scale_shift_table"),
    row("patchify_proj", "proj_in"),
    _embedder("emb.timestep_embedder.linear_1"),
    _embedder("emb.timestep_embedder.linear_2"),
    _embedder("linear"),
    row("caption_projection.linear_1"),
    row("caption_projection.linear_2"),
    row("proj_out"),
    row("scale_shift_table"),
)
