"""Tiny random models in the layout of each of Wan's rows.

``tiny_wan`` has the parts that they share.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import (
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2ImageToVideoPipeline,
    SkyReelsV2Pipeline,
    SkyReelsV2Transformer3DModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    CLIPVisionModelWithProjection,
)

from tests.tiny_wan import (
    make_text_encoder,
    make_tokenizer,
    make_transformer,
    make_vae,
)

CHANNELS = 16
"""As many as Wan 2.1's VAE has."""

IMAGE_TOKENS = 5
"""What the tiny CLIP makes of a picture: 2 x 2 patches, and one for the whole."""


def write_tiny_row(model: str, folder: Path, seed: int = 0) -> Path:
    """Save a tiny model of the row's layout into ``folder`` and return it."""
    torch.manual_seed(seed)
    {**WRITERS, **MORE_WRITERS}[model]().save_pretrained(folder)
    return folder


def _parts(**changed: Any) -> dict[str, Any]:
    return {
        "tokenizer": make_tokenizer(),
        "text_encoder": make_text_encoder(len(make_tokenizer())),
        "vae": make_vae(patched=False, channels=CHANNELS),
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
        **changed,
    }


def _image_transformer(kind: Any = WanTransformer3DModel, **more: Any) -> Any:
    """It sees noise, the image's latents and their mask."""
    wide = {"in_channels": 2 * CHANNELS + 4, "out_channels": CHANNELS}
    return make_transformer(kind, **wide, **more)


def _image_to_video(
    *,
    images: int,
    pipeline: Any = WanImageToVideoPipeline,
    transformer: Any = WanTransformer3DModel,
    encoder: Any = CLIPVisionModel,
) -> Any:
    """Wan 2.1's, which sees ``images`` through CLIP too."""
    return pipeline(
        **_parts(),
        transformer=_image_transformer(
            transformer,
            image_dim=32,
            added_kv_proj_dim=24,
            pos_embed_seq_len=images * IMAGE_TOKENS if images > 1 else None,
        ),
        image_encoder=make_image_encoder(encoder),
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ),
    )


def _pair(kind: Any, boundary_ratio: float, make: Any) -> Any:
    """Wan 2.2's, with two transformers."""
    return kind(
        **_parts(),
        transformer=make(),
        transformer_2=make(),
        boundary_ratio=boundary_ratio,
    )


def _wan_2_2_5b() -> Any:
    vae = make_vae(
        patched=True,
        channels=48,
        is_residual=True,
        dim_mult=[1, 1, 1, 1],
        temperal_downsample=[False, True, True],
        scale_factor_spatial=16,
    )
    return WanPipeline(
        **_parts(vae=vae),
        transformer=make_transformer(channels=48),
        expand_timesteps=True,
    )


def _vace() -> Any:
    """It sees the latents of what stays and of what changes, and an 8 x 8 mask."""
    transformer = make_transformer(
        WanVACETransformer3DModel,
        channels=CHANNELS,
        vace_layers=[0],
        vace_in_channels=2 * CHANNELS + 8 * 8,
    )
    # They start at zero, and the controls would count for nothing.
    for block in transformer.vace_blocks:
        torch.nn.init.normal_(block.proj_out.weight, std=0.3)
    return WanVACEPipeline(**_parts(), transformer=transformer)


def _text_transformer() -> Any:
    return make_transformer(channels=CHANNELS)


def make_image_encoder(kind: Any = CLIPVisionModel) -> Any:
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=16,
    )
    return kind(config).eval()


WRITERS = {
    "wan2.1-i2v-14b-480p": lambda: _image_to_video(images=1),
    "wan2.1-flf2v-14b-720p": lambda: _image_to_video(images=2),
    "wan2.1-t2v-1.3b": lambda: WanPipeline(**_parts(), transformer=_text_transformer()),
    "wan2.2-t2v-a14b": lambda: _pair(WanPipeline, 0.875, _text_transformer),
    "wan2.2-i2v-a14b": lambda: _pair(WanImageToVideoPipeline, 0.9, _image_transformer),
    "wan2.2-ti2v-5b": _wan_2_2_5b,
    "wan2.1-vace-1.3b": _vace,
    "skyreels-v2-df-1.3b-540p": lambda: SkyReelsV2DiffusionForcingPipeline(
        **_parts(),
        transformer=make_transformer(
            SkyReelsV2Transformer3DModel, channels=CHANNELS, inject_sample_info=True
        ),
    ),
}
"""Row → what makes its tiny pipeline."""

MORE_WRITERS = {
    "wan2.1-fun-inp-14b": lambda: _image_to_video(images=1),
    "skyreels-v2-t2v-14b-540p": lambda: SkyReelsV2Pipeline(
        **_parts(),
        transformer=make_transformer(SkyReelsV2Transformer3DModel, channels=CHANNELS),
    ),
    "skyreels-v2-i2v-14b-540p": lambda: _image_to_video(
        images=1,
        pipeline=SkyReelsV2ImageToVideoPipeline,
        transformer=SkyReelsV2Transformer3DModel,
        encoder=CLIPVisionModelWithProjection,
    ),
}
"""Of rows that are run as those above are, and differ in their files."""
