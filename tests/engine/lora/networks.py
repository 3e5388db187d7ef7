"""Tiny networks of each family with inputs for them, and one LoRA for each."""

import re
from dataclasses import dataclass
from typing import Any

import torch

from tests import authors_names, tiny_hunyuan15, tiny_hyvideo, tiny_ltx, tiny_wan

RANK = 4


@dataclass
class Change:
    """Of one linear layer."""

    down: torch.Tensor
    up: torch.Tensor


def wan():
    torch.manual_seed(0)
    network = tiny_wan.make_transformer(cross_attn_norm=True)

    def compute(network):
        latents, text = torch.randn(1, 48, 2, 4, 4), torch.randn(1, 5, 32)
        return network(latents, torch.tensor([500.0]), text).sample

    return network, compute


def ltx():
    torch.manual_seed(0)
    network = tiny_ltx.make_transformer()

    def compute(network):
        latents, text = torch.randn(1, 8, 128), torch.randn(1, 4, 32)
        times, mask = torch.tensor([500.0]), torch.ones(1, 4)
        return network(latents, text, times, mask, 2, 2, 2).sample

    return network, compute


def hunyuan():
    torch.manual_seed(0)
    network = tiny_hyvideo.make_transformer(None, guidance_embeds=True)

    def compute(network):
        return network(
            hidden_states=torch.randn(1, 16, 2, 4, 4),
            timestep=torch.tensor([500.0]),
            encoder_hidden_states=torch.randn(1, 5, 32),
            encoder_attention_mask=torch.ones(1, 5),
            pooled_projections=torch.randn(1, 16),
            guidance=torch.tensor([6000.0]),
        ).sample

    return network, compute


def hunyuan15():
    torch.manual_seed(0)
    network = tiny_hunyuan15.make_transformer(step_distilled=False)

    def compute(network):
        return network(
            hidden_states=torch.randn(1, 9, 2, 4, 4),
            timestep=torch.tensor([500.0]),
            encoder_hidden_states=torch.randn(1, 5, 32),
            encoder_attention_mask=torch.ones(1, 5),
            encoder_hidden_states_2=torch.randn(1, 3, 32),
            encoder_attention_mask_2=torch.ones(1, 3),
            image_embeds=torch.randn(1, 4, 32),
        ).sample

    return network, compute


NETWORKS = {
    "wan": (wan, "wan-demo"),
    "ltx_video": (ltx, "ltxv-demo"),
    "hyvideo": (hunyuan, "hyvideo-demo"),
    "hyvideo-1.5": (hunyuan15, "hunyuan-video-1.5-t2v-480p"),
}


@torch.no_grad()
def run(network, compute) -> torch.Tensor:
    """What the network makes of the same inputs each time."""
    torch.manual_seed(7)
    return compute(network)


def make_lora(network) -> dict[str, Change]:
    """Of every linear layer in a block. Layers that some files have as one share their
    ``down``, which such a file has only once."""
    torch.manual_seed(3)
    shared: dict[str, torch.Tensor] = {}
    changes = {}
    for name, layer in network.named_modules():
        if not isinstance(layer, torch.nn.Linear) or "blocks." not in name:
            continue
        group = re.sub(r"(to_[qkv]|add_[qkv]_proj)$", "qkv", name)
        group = re.sub(r"(attn\.qkv|proj_mlp)$", "qkvm", group)
        key = f"{group} {layer.in_features}"
        down = torch.randn(RANK, layer.in_features) * 0.3
        down = shared.setdefault(key, down)
        changes[name] = Change(down, torch.randn(layer.out_features, RANK) * 0.3)
    return changes


class _Named:
    """A network of which only the state dict is asked."""

    def __init__(self, tensors: dict[str, Any]) -> None:
        self._tensors = tensors

    def state_dict(self):
        return self._tensors


def in_authors_names(family: str, changes: dict[str, Change]) -> dict[str, Change]:
    """The same under the names that the family's authors use, fused where they do."""
    rename = {
        "wan": authors_names.wan_transformer,
        "ltx_video": authors_names.ltx_transformer,
        "hyvideo": authors_names.hunyuan_transformer,
    }[family]
    ups = rename(_Named({f"{n}.weight": c.up for n, c in changes.items()}))
    downs = rename(
        _Named(
            {
                f"{n}.weight": torch.full((len(c.up), 1), float(index))
                for index, (n, c) in enumerate(changes.items())
            }
        )
    )
    by_number = list(changes.values())
    return {
        name.removesuffix(".weight"): Change(by_number[int(downs[name][0, 0])].down, up)
        for name, up in ups.items()
    }


OLD, NEW = r"double_blocks.\1.", r"^transformer_blocks\.(\d+)\."
HUNYUAN15 = [
    (NEW + r"attn\.to_([qkv])$", OLD + r"img_attn_\2"),
    (NEW + r"attn\.add_([qkv])_proj$", OLD + r"txt_attn_\2"),
    (NEW + r"attn\.to_out\.0$", OLD + "img_attn_proj"),
    (NEW + r"attn\.to_add_out$", OLD + "txt_attn_proj"),
    (NEW + r"ff\.net\.0\.proj$", OLD + "img_mlp.fc1"),
    (NEW + r"ff\.net\.2$", OLD + "img_mlp.fc2"),
    (NEW + r"ff_context\.net\.0\.proj$", OLD + "txt_mlp.fc1"),
    (NEW + r"ff_context\.net\.2$", OLD + "txt_mlp.fc2"),
    (NEW + r"norm1\.linear$", OLD + "img_mod.linear"),
    (NEW + r"norm1_context\.linear$", OLD + "txt_mod.linear"),
]


def in_hunyuan15s_names(changes: dict[str, Change]) -> dict[str, Change]:
    """Tencent's names since 1.5, where nothing is fused; those that only 1.0 has are
    left as they are."""
    renamed = {}
    for name, change in changes.items():
        new = name
        for pattern, target in HUNYUAN15:
            new = re.sub(pattern, target, new)
        renamed[new] = change
    return renamed
