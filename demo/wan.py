"""The Wan demo model: its sizes, in diffusers' own classes, and how it is trained.

``AutoencoderKLWan`` encodes the first frame alone and then four frames at a time, with
the end of each chunk cached for the next. Here all frames after the first are one
chunk: the same numbers, much faster.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanCausalConv3d,
    WanRMS_norm,
    patchify,
    unpatchify,
)
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import UMT5Config, UMT5EncoderModel

from demo.axes import moments
from demo.codec import flat_conv, stacked_conv
from demo.kind import Given, Pin, Text
from demo.text import TEXT_WIDTH, embed_padded
from demo.vae import Stage

LATENT_CHANNELS = 48
SIZES = (256,)
TEXT_LENGTH = 512
"""Padded prompt length: the default of diffusers' WanPipeline."""
VAE_PARTS = (
    (Stage(1, 128, 128, 2e-3), 60.0),
    (Stage(17, 128, 24, 1.5e-3), 400.0),
    (Stage(33, 256, 3, 8e-4), 180.0),
)
DENOISER_SECONDS = 1400.0
GIVEN = Given()
FLEXIBLE = False
make_upsampler = None


def make_vae() -> AutoencoderKLWan:
    """As Wan 2.2's: residual, 48 channels, 16 × 16 × 4 compression; 4 × 4 patches."""
    return AutoencoderKLWan(
        base_dim=48,
        decoder_base_dim=72,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        attn_scales=[],
        temperal_downsample=[True, True],
        in_channels=48,
        out_channels=48,
        patch_size=4,
        is_residual=True,
        scale_factor_spatial=16,
        scale_factor_temporal=4,
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
    )


def make_transformer() -> WanTransformer3DModel:
    """A token for each 32 × 32 pixels of four frames."""
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=6,
        attention_head_dim=64,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_WIDTH,
        freq_dim=256,
        ffn_dim=1536,
        num_layers=7,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=1024,
    )


def make_text_encoder(words: int) -> UMT5EncoderModel:
    """Two layers, trained together with the transformer."""
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=words,
            d_model=TEXT_WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
        )
    )


def embed(text_encoder: Any, ids: Tensor, mask: Tensor) -> Text:
    return embed_padded(text_encoder, ids, mask, TEXT_LENGTH)


class StackedConv(WanCausalConv3d):
    """A causal 3 × 3 × 3 convolution as one flat convolution over stacked frames."""

    def forward(self, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
        if self.kernel_size != (3, 3, 3):
            return super().forward(x, cache_x)
        frames = x.permute(0, 2, 3, 4, 1)  # (clips, frames, h, w, channels)
        count, length = frames.shape[:2]
        if cache_x is None and length == 1:
            # The two frames before the first are zero, and so is what they add.
            return flat_conv(frames[:, 0], self.weight[:, :, 2], self.bias, count)
        before = frames.new_zeros(count, 2, *frames.shape[2:])
        if cache_x is not None:
            cached = cache_x.permute(0, 2, 3, 4, 1)
            before = torch.cat([before[:, cached.shape[1] :], cached], 1)
        return stacked_conv(torch.cat([before, frames], 1), self.weight, self.bias)


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


def set_latent_scale(vae: Any, clips: list[Tensor]) -> None:
    mean, deviation = moments(lambda clip: encode(vae, clip)[0], clips)
    vae.register_to_config(latents_mean=mean.tolist(), latents_std=deviation.tolist())


def latent_scale(vae: Any) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each latent channel, (1, z_dim, 1, 1, 1)."""
    mean = torch.tensor(vae.config.latents_mean, device=vae.device)
    deviation = torch.tensor(vae.config.latents_std, device=vae.device)
    return mean.view(1, -1, 1, 1, 1), deviation.view(1, -1, 1, 1, 1)


def velocity(
    transformer: nn.Module,
    noisy: Tensor,
    levels: Tensor,
    text: Text,
    pin: Pin | None = None,
) -> Tensor:
    """Predicted noise − latents; it knows one noise level for all frames."""
    assert pin is None, "it isn't trained on given frames"
    return transformer(
        hidden_states=noisy,
        timestep=levels[:, 0] * 1000,
        encoder_hidden_states=text.states,
        return_dict=False,
    )[0]


def save_pipeline(
    folder: Path, tokenizer: Any, text_encoder: Any, networks: dict[str, Any]
) -> None:
    """Write diffusers' pipeline of these parts."""
    WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        **networks,
    ).save_pretrained(folder)
