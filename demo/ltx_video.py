"""The LTX Video demo model: its sizes in diffusers' own classes, and its training.

Twin of ``demo.wan``. It also learns to keep given frames: the first ones in their
place, others as tokens of their own that carry their time, as diffusers'
``LTXConditionPipeline`` shows them. A latent upsampler doubles its size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXConditionPipeline,
    LTXVideoTransformer3DModel,
)
from diffusers.models.autoencoders.autoencoder_kl_ltx import LTXVideoCausalConv3d
from diffusers.models.normalization import RMSNorm
from diffusers.pipelines.ltx.modeling_latent_upsampler import LTXLatentUpsamplerModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import T5Config, T5EncoderModel

from demo.axes import moments
from demo.codec import stacked_conv
from demo.kind import Given, Pin, Text
from demo.text import TEXT_WIDTH, embed_padded
from demo.vae import Stage

LATENT_CHANNELS = 128
SIZES = (256, 160, 320)
"""A video of 256 × 256 in two passes is made at 160 × 160, then at 320 × 320."""
TEXT_LENGTH = 32
"""What comes after is masked, so that the length makes no difference."""
FRAME_RATE = 16.0
VAE_PARTS = (
    (Stage(1, 256, 48, 2e-3), 40.0),
    (Stage(17, 160, 16, 1.5e-3), 240.0),
    (Stage(33, 256, 6, 8e-4), 552.0),
)
DENOISER_SECONDS = 1050.0
GIVEN = Given(first=0.2, counts=(1, 1, 2), others=0.3, noise=0.15)
"""With noise as ``LTXConditionPipeline`` adds it."""
FLEXIBLE = True


def make_vae() -> AutoencoderKLLTXVideo:
    """As LTX 0.9.7's: 32 × 32 × 8 compression into 128 channels, 4 × 4 patches."""
    return AutoencoderKLLTXVideo(
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(48, 96, 96, 96, 192),
        down_block_types=("LTXVideo095DownBlock3D",) * 4,
        spatio_temporal_scaling=(True,) * 4,
        layers_per_block=(2, 1, 1, 1, 0),
        downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        decoder_block_out_channels=(48, 96, 192),
        decoder_layers_per_block=(3, 1, 1, 1),
        decoder_spatio_temporal_scaling=(True,) * 3,
        decoder_inject_noise=(False,) * 4,
        upsample_residual=(True,) * 3,
        upsample_factor=(1, 2, 2),
        spatial_compression_ratio=32,
        temporal_compression_ratio=8,
        decoder_causal=False,
    )


def make_transformer() -> LTXVideoTransformer3DModel:
    """A token for each 32 × 32 pixels of eight frames."""
    transformer = LTXVideoTransformer3DModel(
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_attention_heads=6,
        attention_head_dim=64,
        cross_attention_dim=384,
        num_layers=6,
        caption_channels=TEXT_WIDTH,
    )
    # Each block's tables bring tokens to whole precision; under autocast the first
    # block would get half, and be compiled for that as well.
    transformer.proj_in.register_forward_hook(_to_float)
    return transformer


def _to_float(_module: nn.Module, _given: Any, made: Tensor) -> Tensor:
    return made.float()


def make_upsampler() -> LTXLatentUpsamplerModel:
    """Twice as wide and high, in latents."""
    return LTXLatentUpsamplerModel(
        in_channels=LATENT_CHANNELS, mid_channels=64, num_blocks_per_stage=2
    )


def make_text_encoder(words: int) -> T5EncoderModel:
    """Two layers, trained together with the transformer."""
    return T5EncoderModel(
        T5Config(
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


class StackedConv(LTXVideoCausalConv3d):
    """A 3 × 3 × 3 convolution as one flat convolution over stacked frames."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        if self.kernel_size != (3, 3, 3):
            return super().forward(hidden_states)
        frames = hidden_states.permute(0, 2, 3, 4, 1)
        first, last = frames[:, :1], frames[:, -1:]
        around = [first, first, frames] if self.is_causal else [first, frames, last]
        return stacked_conv(torch.cat(around, 1), self.conv.weight, self.conv.bias)


class FusedNorm(RMSNorm):
    """The norm over channels as PyTorch's own fused one."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        return F.rms_norm(hidden_states, hidden_states.shape[-1:], None, self.eps)


def quicken(vae: AutoencoderKLLTXVideo) -> AutoencoderKLLTXVideo:
    """Use the faster forms in place; weights and their names stay as they are."""
    for module in vae.modules():
        if type(module) is LTXVideoCausalConv3d:
            module.__class__ = StackedConv
        elif type(module) is RMSNorm and module.weight is None:
            module.__class__ = FusedNorm
    return vae


def encode(vae: AutoencoderKLLTXVideo, video: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance (clips, channels, latent frames, h, w) of videos."""
    return vae.encoder(video).chunk(2, dim=1)


def decode(vae: AutoencoderKLLTXVideo, latents: Tensor) -> Tensor:
    """Videos (clips, 3, frames, height, width), not clamped."""
    return vae.decoder(latents)


def set_latent_scale(vae: Any, clips: list[Tensor]) -> None:
    mean, deviation = moments(lambda clip: encode(vae, clip)[0], clips)
    vae.latents_mean.copy_(mean)
    vae.latents_std.copy_(deviation)


def latent_scale(vae: Any) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each latent channel, (1, channels, 1, 1, 1)."""
    shape = (1, -1, 1, 1, 1)
    return vae.latents_mean.float().view(shape), vae.latents_std.float().view(shape)


def velocity(
    transformer: nn.Module,
    noisy: Tensor,
    levels: Tensor,
    text: Text,
    pin: Pin | None = None,
) -> Tensor:
    """Predicted noise − latents; the pinned tokens come first, as in the pipeline."""
    count, _, frames, height, width = noisy.shape
    tokens, where = _tokens(noisy), _coordinates(noisy, 0)
    # One level for all tokens stays one number: the pipeline then gives one, too.
    steps = levels * 1000
    if levels.shape[1] > 1:
        steps = steps.repeat_interleave(height * width, 1)
    if pin is not None:
        steps = steps.expand(count, tokens.shape[1])
        extra = _tokens(pin.latents)
        tokens = torch.cat([extra, tokens], 1)
        where = torch.cat([_coordinates(pin.latents, pin.frame), where], 2)
        steps = torch.cat([steps.new_zeros(extra.shape[:2]), steps], 1)
    predicted = transformer(
        hidden_states=tokens,
        encoder_hidden_states=text.states,
        timestep=steps,
        encoder_attention_mask=text.mask,
        video_coords=where,
        return_dict=False,
    )[0]
    return LTXConditionPipeline._unpack_latents(
        predicted[:, -frames * height * width :], frames, height, width
    )


def _tokens(latents: Tensor) -> Tensor:
    return LTXConditionPipeline._pack_latents(latents)


def _coordinates(latents: Tensor, frame: Tensor | int) -> Tensor:
    """Seconds, y and x in pixels of each token, (clips, 3, tokens)."""
    ids = LTXConditionPipeline._prepare_video_ids(
        latents.shape[0], *latents.shape[2:], device=latents.device
    )
    where = LTXConditionPipeline._scale_video_ids(ids).float()
    offset = frame[:, None] if isinstance(frame, Tensor) else frame
    where[:, 0] = (where[:, 0] + offset) / FRAME_RATE
    return where


def save_pipeline(
    folder: Path, tokenizer: Any, text_encoder: Any, networks: dict[str, Any]
) -> None:
    """Write diffusers' pipeline of these parts, the upsampler beside it."""
    upsampler = networks.pop("latent_upsampler")
    LTXConditionPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        **networks,
    ).save_pretrained(folder)
    upsampler.save_pretrained(folder / "latent_upsampler")
