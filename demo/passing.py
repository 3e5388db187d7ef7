"""How HunyuanVideo's VAE begins: as one that makes videos smaller, and large again.

The last norms of its encoder and of its decoder take the mean and the size of each
group of channels, over the whole video, away; with them go its colours. From random
numbers it takes thousands of steps to find a way around that. Here each colour begins
with a group of its own: the colour, its opposite, and two larger constants, so that
the group has no mean and nearly always the same size. After the SiLU that follows,
silu(x) - silu(-x) is x again.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLHunyuanVideo
from torch import Tensor, nn

THROUGH = ("conv_in", "samplers", "conv_shortcut", "quant_conv")
"""In the names of the convolutions that have no shortcut beside them."""
RANDOM = 0.15
"""What is left of their random numbers."""
CONSTANT = 3.0
SCALE = 0.4
"""Makes up for what they add to the decoded video."""


@torch.no_grad()
def pass_colours(vae: AutoencoderKLHunyuanVideo) -> None:
    """Set the weights in place."""
    for name, module in vae.named_modules():
        if isinstance(module, nn.Conv3d) and any(part in name for part in THROUGH):
            module.weight *= RANDOM
            channels = torch.arange(min(module.weight.shape[:2]))
            _here(module)[channels, channels] += 1
    groups = vae.config.norm_num_groups
    for part, blocks, scale in (
        (vae.encoder, vae.encoder.down_blocks, 1.0),
        (vae.decoder, vae.decoder.up_blocks, SCALE),
    ):
        size = part.conv_norm_out.num_channels // groups
        _give_groups(blocks[-1].resnets[0].conv_shortcut.conv, size)
        _take_from_groups(part.conv_out.conv, size, scale)


def _give_groups(conv: nn.Conv3d, size: int) -> None:
    """Each colour, its opposite and the constants, in groups of ``size`` channels."""
    assert conv.bias is not None
    for colour in range(3):
        first = colour * size
        conv.weight[first : first + 4] = 0
        _here(conv)[[first, first + 1], colour] = torch.tensor([1.0, -1.0])
        conv.bias[first : first + 4] = torch.tensor([0.0, 0.0, CONSTANT, -CONSTANT])


def _take_from_groups(conv: nn.Conv3d, size: int, scale: float) -> None:
    """Each colour, as large as it was before the norm."""
    assert conv.bias is not None
    conv.weight *= RANDOM
    conv.bias.zero_()
    for colour in range(3):
        first, share = colour * size, CONSTANT / 2**0.5
        _here(conv)[colour, first] += share
        _here(conv)[colour, first + 1] -= share
    conv.weight *= scale


def _here(conv: nn.Conv3d) -> Tensor:
    """The weights (out, in) for a pixel itself; the frame itself comes last."""
    _, height, width = conv.kernel_size
    return conv.weight[:, :, -1, height // 2, width // 2]
