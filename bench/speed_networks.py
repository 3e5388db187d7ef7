"""The transformers of 1.3 to 14 billion parameters with random weights, made on the
GPU, and inputs of the sizes that the tables are about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

TEXT_TOKENS, REAL_TOKENS = 256, 77
"""Of a prompt as diffusers pads it, and without the padding."""

TEXT = {"d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_heads": 64}
"""Of the text encoders that Wan and LTX Video have."""
TINY_TEXT = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2}


@dataclass(frozen=True)
class Case:
    """A transformer and the size of a video."""

    title: str
    kind: str
    """Diffusers' class."""
    sizes: dict[str, Any]
    tiny: dict[str, Any]
    frames: int
    height: int
    width: int
    """All three of the latents."""
    inputs: Callable[[Case, Any], dict[str, Any]]
    ours: Callable[[Any, dict[str, Any]], dict[str, Any]] = lambda _, inputs: inputs
    """What the app gives the network, and does to it, where it cuts the padding of
    prompts off."""


def make(case: Case, *, tiny: bool) -> Any:
    """Normal weights of deviation 0.02, bfloat16 but for the modules that diffusers
    keeps in float32 when it reads a real file."""
    import diffusers
    import torch

    torch.manual_seed(0)
    kind = getattr(diffusers, case.kind)
    with on_gpu_in_bfloat16():
        network = kind(**{**case.sizes, **(case.tiny if tiny else {})})
    draw_weights(network)
    kept = set(kind._keep_in_fp32_modules or ())
    for name, parameter in network.named_parameters():
        if kept & set(name.split(".")):
            parameter.data = parameter.data.float()
    return network.eval().requires_grad_(False)


@contextmanager
def on_gpu_in_bfloat16() -> Iterator[None]:
    """What is made here lies there; on the CPU where there is no GPU."""
    import torch

    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            yield
    finally:
        torch.set_default_dtype(torch.float32)


def draw_weights(*networks: Any) -> None:
    """Normal ones of deviation 0.02."""
    for network in networks:
        for parameter in network.parameters():
            parameter.data.normal_(std=0.02)


def _wan(case: Case, network: Any) -> dict[str, Any]:
    import torch

    size = (1, network.config.in_channels, case.frames, case.height, case.width)
    return {
        "hidden_states": torch.randn(size),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, 512, network.config.text_dim),
    }


def _ltx(case: Case, network: Any) -> dict[str, Any]:
    import torch

    tokens = case.frames * case.height * case.width
    return {
        "hidden_states": torch.randn(1, tokens, network.config.in_channels),
        "timestep": torch.tensor([500.0]),
        **_masked_text(network.config.caption_channels),
        "num_frames": case.frames,
        "height": case.height,
        "width": case.width,
        "rope_interpolation_scale": (8 / 24, 32, 32),
    }


def _hunyuan(case: Case, network: Any) -> dict[str, Any]:
    import torch

    size = (1, network.config.in_channels, case.frames, case.height, case.width)
    return {
        "hidden_states": torch.randn(size),
        "timestep": torch.tensor([500]),
        **_masked_text(network.config.text_embed_dim),
        "pooled_projections": torch.randn(1, network.config.pooled_projection_dim),
        "guidance": torch.tensor([6000.0]),
    }


def _masked_text(width: int) -> dict[str, Any]:
    import torch

    mask = torch.zeros(1, TEXT_TOKENS, dtype=torch.long)
    mask[:, :REAL_TOKENS] = 1
    return {
        "encoder_hidden_states": torch.randn(1, TEXT_TOKENS, width),
        "encoder_attention_mask": mask,
    }


def _cut_ltx(_network: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    return {**_cut(inputs), "encoder_attention_mask": None}


def _cut_hunyuan(network: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    from hyvideo.attention import attend_without_mask

    attend_without_mask(network)
    return _cut(inputs)


def _cut(inputs: dict[str, Any]) -> dict[str, Any]:
    """Only the real tokens of the prompt."""
    text = ("encoder_hidden_states", "encoder_attention_mask")
    return {**inputs, **{name: inputs[name][:, :REAL_TOKENS] for name in text}}


TINY = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2}
TINY_WAN = {**TINY, "ffn_dim": 64, "text_dim": 32, "freq_dim": 32}
TINY_LTX = {**TINY, "cross_attention_dim": 32, "caption_channels": 32, "in_channels": 8}
TINY_HUNYUAN = {
    **TINY,
    "num_single_layers": 1,
    "num_refiner_layers": 1,
    "text_embed_dim": 32,
    "pooled_projection_dim": 32,
    "rope_axes_dim": (4, 6, 6),
}
WAN_14B = {
    "num_attention_heads": 40,
    "attention_head_dim": 128,
    "ffn_dim": 13824,
    "num_layers": 40,
}
WAN_1_3B = {
    "num_attention_heads": 12,
    "attention_head_dim": 128,
    "ffn_dim": 8960,
    "num_layers": 30,
}
LTX_13B = {
    "num_attention_heads": 32,
    "attention_head_dim": 128,
    "num_layers": 48,
    "cross_attention_dim": 4096,
    "caption_channels": 4096,
}

CASES = {
    "wan14b": Case(
        "Wan 14B, 832 × 480 × 81",
        "WanTransformer3DModel",
        WAN_14B,
        TINY_WAN,
        *(21, 60, 104, _wan),
    ),
    "wan1.3b": Case(
        "Wan 1.3B, 832 × 480 × 81",
        "WanTransformer3DModel",
        WAN_1_3B,
        TINY_WAN,
        *(21, 60, 104, _wan),
    ),
    "ltx13b": Case(
        "LTX Video 13B, 1280 × 704 × 81",
        "LTXVideoTransformer3DModel",
        LTX_13B,
        TINY_LTX,
        *(11, 22, 40, _ltx, _cut_ltx),
    ),
    "hunyuan13b": Case(
        "HunyuanVideo 13B, 960 × 544 × 81",
        "HunyuanVideoTransformer3DModel",
        {"guidance_embeds": True},
        TINY_HUNYUAN,
        *(21, 68, 120, _hunyuan, _cut_hunyuan),
    ),
}
