"""The Hunyuan Video demo model: its sizes in diffusers' own classes, and its training.

Twin of ``demo.wan``. It also learns to begin with a given picture, whose latents take
the place of the first frame's ("token replace"). Its transformer is told of that frame
that it is clean, also where there is no picture: whether it is, it sees itself.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLHunyuanVideo,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
)
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import (
    HunyuanVideoCausalConv3d,
)
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

from demo.axes import Axes, pixel_axes
from demo.codec import replicated_conv
from demo.kind import Given, Pin, Text
from demo.passing import pass_colours
from demo.text import TEXT_WIDTH, make_tokenizer
from demo.vae import LATENT_NOISE, Stage

LATENT_CHANNELS = 8
"""Half of the real model's: a token of 16 would be wider than what passes it on."""
SIZES = (256,)
MEASURED = 16
"""So many clips tell the scale of the latents."""
TEXT_LENGTH = 32
"""What comes after is masked, so that the length makes no difference."""
CLIP_LENGTH = 77
"""So many tokens the pipeline gives to CLIP's text model."""
LAYERS_SKIPPED = 2
"""The pipeline takes the language model's states before so many last layers."""
VAE_PARTS = (
    (Stage(1, 128, 64, 1e-3), 60.0),
    (Stage(17, 128, 12, 1e-3), 480.0),
    (Stage(33, 256, 2, 6e-4), 300.0),
)
DENOISER_SECONDS = 800.0
GIVEN = Given(first=0.5)
FLEXIBLE = False
make_upsampler = None


def make_vae() -> AutoencoderKLHunyuanVideo:
    """As HunyuanVideo's: 8 × 8 × 4 compression, into half of its channels.

    Groups are few, for each loses its mean.
    """
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(16, 32, 64, 144),
        layers_per_block=1,
        norm_num_groups=4,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    pass_colours(vae)
    return vae


def make_transformer() -> HunyuanVideoTransformer3DModel:
    """A token for each 32 × 32 pixels of four frames."""
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        patch_size=4,
        num_attention_heads=6,
        attention_head_dim=64,
        num_layers=1,
        num_single_layers=4,
        num_refiner_layers=1,
        rope_axes_dim=(16, 24, 24),
        guidance_embeds=False,
        text_embed_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        image_condition_type="token_replace",
    )
    # diffusers lists only the blocks of the other kinds for compilation.
    transformer._repeated_blocks = [
        "HunyuanVideoTokenReplaceTransformerBlock",
        "HunyuanVideoTokenReplaceSingleTransformerBlock",
    ]
    return transformer


def make_text_encoder(words: int) -> nn.ModuleDict:
    """A language model, of which two layers count, and CLIP's text model; trained
    together with the transformer."""
    llama = LlamaConfig(
        vocab_size=words,
        hidden_size=TEXT_WIDTH,
        intermediate_size=256,
        num_hidden_layers=2 + LAYERS_SKIPPED,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        # So large that the states are of about the size of one, for no norm follows.
        initializer_range=TEXT_WIDTH**-0.5,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    clip = CLIPTextConfig(
        vocab_size=words,
        hidden_size=TEXT_WIDTH,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=CLIP_LENGTH,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
    )
    return nn.ModuleDict({"llama": LlamaModel(llama), "clip": CLIPTextModel(clip)})


def embed(text_encoder: Any, ids: Tensor, mask: Tensor) -> Text:
    """Prompt embeddings, as ``HunyuanVideoPipeline`` makes them."""
    states = text_encoder["llama"](
        ids, attention_mask=mask, output_hidden_states=True, use_cache=False
    ).hidden_states[-(LAYERS_SKIPPED + 1)]
    return Text(states, mask, text_encoder["clip"](ids).pooler_output)


class StackedConv(HunyuanVideoCausalConv3d):
    """A causal 3 × 3 × 3 convolution as one flat convolution over stacked frames."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        if self.conv.kernel_size != (3, 3, 3):
            return super().forward(hidden_states)
        conv = self.conv
        return replicated_conv(hidden_states, conv.weight, conv.bias, conv.stride)


class HalfNorm(nn.GroupNorm):
    """The norm in the precision of its input, which autocast would make a whole."""

    def forward(self, hidden: Tensor) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            weight, bias = self.weight.to(hidden.dtype), self.bias.to(hidden.dtype)
            return F.group_norm(hidden, self.num_groups, weight, bias, self.eps)


def quicken(vae: AutoencoderKLHunyuanVideo) -> AutoencoderKLHunyuanVideo:
    """Use the faster forms in place; weights and their names stay as they are."""
    for module in vae.modules():
        if type(module) is HunyuanVideoCausalConv3d:
            module.__class__ = StackedConv
        elif type(module) is nn.GroupNorm:
            module.__class__ = HalfNorm
    return vae


def encode(vae: AutoencoderKLHunyuanVideo, video: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance (clips, channels, latent frames, h, w) of videos.

    The first latent frame is that of the first frame alone, as a start image is
    encoded: the norms look at all frames that are encoded together.
    """
    encoded = vae.encoder(video[:, :, :1])
    if video.shape[2] > 1:
        encoded = torch.cat([encoded, vae.encoder(video)[:, :, 1:]], 2)
    return vae.quant_conv(encoded).chunk(2, dim=1)


def decode(vae: AutoencoderKLHunyuanVideo, latents: Tensor) -> Tensor:
    """Videos (clips, 3, frames, height, width), not clamped: in the pieces that the VAE
    itself makes, which overlap and fade into one another."""
    z = vae.post_quant_conv(latents)
    whole = vae.tile_sample_min_num_frames // vae.temporal_compression_ratio
    if z.shape[2] <= whole:
        return vae.decoder(z)
    kept = vae.tile_sample_stride_num_frames
    starts = range(0, z.shape[2], kept // vae.temporal_compression_ratio)
    pieces = _decode_pieces(vae, [z[:, :, i : i + whole + 1] for i in starts])
    overlap = vae.tile_sample_min_num_frames - kept
    video = [pieces[0][:, :, : kept + 1]]
    for before, piece in itertools.pairwise(pieces):
        video.append(_faded(before, piece[:, :, 1:], overlap)[:, :, :kept])
    return torch.cat(video, 2)


def _decode_pieces(
    vae: AutoencoderKLHunyuanVideo, pieces: list[Tensor]
) -> list[Tensor]:
    """Those of one length together."""
    decoded: list[Tensor] = []
    for _, equal in itertools.groupby(pieces, lambda piece: piece.shape[2]):
        batch = list(equal)
        decoded += vae.decoder(torch.cat(batch)).chunk(len(batch))
    return decoded


def _faded(before: Tensor, piece: Tensor, overlap: int) -> Tensor:
    """``piece``, its first frames mixed with the last ones of the piece before."""
    count = min(before.shape[2], piece.shape[2], overlap)
    share = torch.arange(count, device=piece.device).view(-1, 1, 1) / max(count, 1)
    last = before[:, :, before.shape[2] - count :]
    mixed = last * (1 - share) + piece[:, :, :count] * share
    return torch.cat([mixed.to(piece.dtype), piece[:, :, count:]], 2)


def set_latent_scale(vae: Any, clips: list[Tensor]) -> None:
    """Turn the latents to axes that show alike. The VAE has one factor for all channels
    alone, so that it is done by its outermost convolutions, which are of single
    points."""
    axes = pixel_axes(
        lambda clip: encode(vae, clip)[0],
        lambda latents: decode(vae, latents),
        clips[:MEASURED],
    )
    turn_latents(vae, axes)


@torch.no_grad()
def turn_latents(vae: Any, axes: Axes) -> None:
    """Make the VAE's latents those along ``axes``. Their variance is no longer known,
    and becomes that of the training's noise."""
    into, out = vae.quant_conv, vae.post_quant_conv
    back = torch.linalg.inv(axes.turn.double()).to(axes.turn)
    weight, bias = into.weight[:LATENT_CHANNELS], into.bias[:LATENT_CHANNELS]
    weight.copy_(torch.einsum("oi,i...->o...", axes.turn, weight))
    bias.copy_(axes.turn @ (bias - axes.mean))
    into.weight[LATENT_CHANNELS:] = 0.0
    into.bias[LATENT_CHANNELS:] = 2 * math.log(LATENT_NOISE)
    out.bias += (out.weight * axes.mean.view(1, -1, 1, 1, 1)).sum((1, 2, 3, 4))
    out.weight.copy_(torch.einsum("oi...,ij->oj...", out.weight, back))


def latent_scale(vae: Any) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each latent channel, (1, channels, 1, 1, 1): they are
    scaled as they are to be."""
    shape = (1, LATENT_CHANNELS, 1, 1, 1)
    return torch.zeros(shape, device=vae.device), torch.ones(shape, device=vae.device)


def velocity(
    transformer: nn.Module,
    noisy: Tensor,
    levels: Tensor,
    text: Text,
    pin: Pin | None = None,
) -> Tensor:
    """Predicted noise − latents; the last frame's noise level is that of all which
    aren't given."""
    assert pin is None, "it is trained to keep the first frame alone"
    return transformer(
        hidden_states=noisy,
        timestep=levels[:, -1] * 1000,
        encoder_hidden_states=text.states,
        encoder_attention_mask=text.mask,
        pooled_projections=text.pooled,
        return_dict=False,
    )[0]


def save_pipeline(
    folder: Path, tokenizer: Any, text_encoder: Any, networks: dict[str, Any]
) -> None:
    """Write diffusers' pipeline of these parts."""
    HunyuanVideoPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder["llama"],
        tokenizer_2=make_tokenizer(CLIP_LENGTH),
        text_encoder_2=text_encoder["clip"],
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        **networks,
    ).save_pretrained(folder)
