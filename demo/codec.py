"""Wan's causal VAE over whole clips, for training: the same numbers, much faster.

``AutoencoderKLWan`` encodes the first frame alone and then four frames at a time, with
the end of each chunk cached for the next. Here all frames after the first are one
chunk. Its 3 × 3 × 3 convolutions become flat ones over three stacked frames, and its
norms one kernel, both on tensors whose channels lie together in memory.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanCausalConv3d,
    WanRMS_norm,
    patchify,
    unpatchify,
)
from torch import Tensor
from torch.nn import functional as F


class StackedConv(WanCausalConv3d):
    """A causal 3 × 3 × 3 convolution as one flat convolution over stacked frames."""

    def forward(self, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
        if self.kernel_size != (3, 3, 3):
            return super().forward(x, cache_x)
        frames = x.permute(0, 2, 3, 4, 1)  # (clips, frames, h, w, channels)
        count, length = frames.shape[:2]
        if cache_x is None and length == 1:
            # The two frames before the first are zero, and so is what they add.
            flat, kernel = frames[:, 0], self.weight[:, :, 2]
        else:
            before = frames.new_zeros(count, 2, *frames.shape[2:])
            if cache_x is not None:
                cached = cache_x.permute(0, 2, 3, 4, 1)
                before = torch.cat([before[:, cached.shape[1] :], cached], 1)
            padded = torch.cat([before, frames], 1)
            stacked = [padded[:, i : i + length] for i in range(3)]
            flat = torch.cat(stacked, -1).flatten(0, 1)
            kernel = self.weight.transpose(1, 2).flatten(1, 2)
        made = F.conv2d(flat.permute(0, 3, 1, 2), kernel, self.bias, padding=1)
        return made.permute(0, 2, 3, 1).unflatten(0, (count, -1)).permute(0, 4, 1, 2, 3)


class FusedNorm(WanRMS_norm):
    """The norm over channels as PyTorch's own fused one."""

    def forward(self, x: Tensor) -> Tensor:
        gamma = self.gamma.flatten().to(x.dtype)
        return F.rms_norm(x.movedim(1, -1), gamma.shape, gamma, 1e-12).movedim(-1, 1)


def quicken(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Use the faster forms in place; weights and their names stay as they are."""
    for module in vae.modules():
        if type(module) is WanCausalConv3d:
            module.__class__ = StackedConv
        elif type(module) is WanRMS_norm:
            module.__class__ = FusedNorm
    return vae


def to_model(clips: Tensor) -> Tensor:
    """uint8 (clips, frames, h, w, 3) to float (clips, 3, frames, h, w) in -1..1."""
    return clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1


def to_uint8(video: Tensor) -> Tensor:
    """The reverse of ``to_model``."""
    return (
        ((video.permute(0, 2, 3, 4, 1) + 1) * 127.5)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
    )


def encode(vae: AutoencoderKLWan, video: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance (clips, z_dim, latent frames, h, w) of videos."""
    vae.clear_cache()
    x = patchify(video, patch_size=vae.config.patch_size)
    chunks = [x[:, :, :1], x[:, :, 1:]] if x.shape[2] > 1 else [x]
    encoded = []
    for chunk in chunks:
        vae._enc_conv_idx = [0]
        encoded.append(
            vae.encoder(chunk, feat_cache=vae._enc_feat_map, feat_idx=vae._enc_conv_idx)
        )
    vae.clear_cache()
    return vae.quant_conv(torch.cat(encoded, 2)).chunk(2, dim=1)


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Videos (clips, 3, frames, height, width), not clamped."""
    vae.clear_cache()
    z = vae.post_quant_conv(latents)
    chunks = [z[:, :, :1], z[:, :, 1:]] if z.shape[2] > 1 else [z]
    decoded = []
    for first, chunk in zip((True, False), chunks, strict=False):
        vae._conv_idx = [0]
        decoded.append(
            vae.decoder(
                chunk,
                feat_cache=vae._feat_map,
                feat_idx=vae._conv_idx,
                first_chunk=first,
            )
        )
    vae.clear_cache()
    return unpatchify(torch.cat(decoded, 2), patch_size=vae.config.patch_size)


def latent_scale(vae: AutoencoderKLWan, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each latent channel, (1, z_dim, 1, 1, 1)."""
    mean = torch.tensor(vae.config.latents_mean, device=like.device).view(
        1, -1, 1, 1, 1
    )
    deviation = torch.tensor(vae.config.latents_std, device=like.device)
    return mean, deviation.view(1, -1, 1, 1, 1)
