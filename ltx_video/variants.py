"""The LTX Video models that a user can choose, one row each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.family import Limits, ModelVariant, WeightFile
from ltx_video.config import LtxConfig, load_config

SCHEDULERS = {"euler": "Euler"}
MEDIA = frozenset({"image_start", "image_end", "source_video", "conditions"})

LIGHTRICKS = "Lightricks/LTX-Video"
OTHER_PACKING = "DeepBeepMeep/LTX_Video"
"""The same weights, each network in a file of its own, in 8 bits too."""

VAE_CONFIG: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 1024, 2048),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "decoder_block_out_channels": (256, 512, 1024),
    "layers_per_block": (4, 6, 6, 2, 2),
    "decoder_layers_per_block": (5, 5, 5, 5),
    "spatio_temporal_scaling": (True,) * 4,
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "decoder_inject_noise": (False,) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "upsample_residual": (True,) * 3,
    "upsample_factor": (2, 2, 2),
    "timestep_conditioning": True,
    "decoder_causal": False,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
"""Of the VAE since 0.9.5, which its single files don't tell."""

NEGATIVE_PROMPT = "worst quality, inconsistent motion, blurry, jittery, distorted"

REAL_LIMITS = Limits(
    size_multiple=8,
    min_size=128,
    max_size=1920,
    frames_multiple=8,
    max_frames=257,
    min_vae_tile=64,
)
REAL_DEFAULTS = {
    "negative_prompt": NEGATIVE_PROMPT,
    "width": 1280,
    "height": 720,
    "num_frames": 81,
    "fps": 30.0,
    "flow_shift": 1.0,
    "scheduler": "euler",
    "overlap_frames": 9,
}
DEV = {"num_inference_steps": 30, "guidance_scale": 8.0}
DISTILLED = {"guidance_scale": 1.0}

TEXT_FILES = {
    "tokenizer": (WeightFile(LIGHTRICKS, "tokenizer", 0.001),),
    "text_encoder": (
        WeightFile(OTHER_PACKING, "T5_xxl_1.1/T5_xxl_1.1_enc_bf16.safetensors", 9.5),
        WeightFile(
            OTHER_PACKING,
            "T5_xxl_1.1/T5_xxl_1.1_enc_quanto_bf16_int8.safetensors",
            5.0,
            "int8",
        ),
    ),
}
UPSAMPLER_0_9_7 = WeightFile(
    OTHER_PACKING, "ltxv_0.9.7_spatial_upscaler.safetensors", 0.5
)
UPSAMPLER_0_9_8 = WeightFile(LIGHTRICKS, "ltxv-spatial-upscaler-0.9.8.safetensors", 0.5)

EXAMPLES = (
    "A woman with a paper umbrella walks along a canal at dusk, lanterns lit, the "
    "camera follows her slowly",
    "Waves break over black rocks, spray catches the low sun, slow motion",
    "A red fox trots through fresh snow between birches, its breath visible",
)


LARGE_FILES = {
    **TEXT_FILES,
    "transformer": (
        WeightFile(OTHER_PACKING, "ltxv_0.9.7_13B_dev_bf16.safetensors", 26.1),
        WeightFile(
            OTHER_PACKING,
            "ltxv_0.9.7_13B_dev_quanto_bf16_int8.safetensors",
            13.2,
            "int8",
        ),
    ),
    "vae": (WeightFile(OTHER_PACKING, "ltxv_0.9.7_VAE.safetensors", 2.5),),
    "latent_upsampler": (UPSAMPLER_0_9_7,),
}
DISTILLED_LORA = WeightFile(
    OTHER_PACKING, "ltxv_0.9.7_13B_distilled_lora128_bf16.safetensors", 1.3
)


def _whole_checkpoint(path: str, gigabytes: float) -> dict[str, tuple[WeightFile, ...]]:
    """Lightricks' own files hold transformer and VAE together."""
    file = WeightFile(LIGHTRICKS, path, gigabytes)
    return {**TEXT_FILES, "transformer": (file,), "vae": (file,)}


DEMO = ModelVariant(
    id="ltxv-demo",
    family="ltx_video",
    title="LTX demo",
    description="Small scenes of coloured shapes in motion, from words, images and "
    "videos, on any computer. Comes with the app.",
    defaults={
        "negative_prompt": "",
        "width": 256,
        "height": 256,
        "num_frames": 33,
        "fps": 16.0,
        "num_inference_steps": 8,
        "guidance_scale": 1.0,
        "flow_shift": 1.0,
        "scheduler": "euler",
        "overlap_frames": 9,
    },
    limits=Limits(
        size_multiple=8,
        min_size=64,
        max_size=512,
        frames_multiple=8,
        max_frames=81,
        min_vae_tile=64,
    ),
    folder="demo/ltx_video",
    gigabytes=0.06,
    licence="Apache-2.0",
    preview="demo",
    max_sequence_length=256,
    media=MEDIA,
    prompt_parts=True,
    schedulers=SCHEDULERS,
    prompt_hint="a red ball moving left on grass at day",
    examples=(
        "a green cone circling on sand at sunset",
        "a blue ball bouncing on snow at day",
        "a pink cube spinning on a checkerboard at night",
    ),
)

LARGE = ModelVariant(
    id="ltxv-13b-0.9.7",
    family="ltx_video",
    title="LTX Video 13B 0.9.7",
    description="The large model with full guidance, in two passes: best quality.",
    defaults={**REAL_DEFAULTS, **DEV},
    limits=REAL_LIMITS,
    folder="ltxv-13b-0.9.7",
    files=LARGE_FILES,
    gigabytes=39,
    licence="LTX-Video Open Weights License",
    preview="ltxv",
    max_sequence_length=256,
    media=MEDIA,
    prompt_parts=True,
    schedulers=SCHEDULERS,
    prompt_hint=EXAMPLES[0],
    examples=EXAMPLES[1:],
)

VARIANTS = (
    DEMO,
    replace(
        DEMO,
        id="ltxv-demo-multiscale",
        title="LTX demo in two passes",
        description="The LTX demo as the large LTX models work: small first, then "
        "larger and sharper.",
    ),
    replace(
        LARGE,
        id="ltxv-2b-0.9.6",
        title="LTX Video 2B 0.9.6",
        description="The small model, in one pass.",
        defaults={
            **REAL_DEFAULTS,
            "width": 768,
            "height": 512,
            "num_inference_steps": 40,
            "guidance_scale": 3.0,
        },
        folder="ltxv-2b-0.9.6",
        files=_whole_checkpoint("ltxv-2b-0.9.6-dev-04-25.safetensors", 6.3),
        gigabytes=16,
    ),
    replace(
        LARGE,
        id="ltxv-2b-0.9.6-distilled",
        title="LTX Video 2B 0.9.6 distilled",
        description="The small model in 8 steps: the fastest.",
        defaults={
            **REAL_DEFAULTS,
            **DISTILLED,
            "width": 768,
            "height": 512,
            "num_inference_steps": 8,
        },
        folder="ltxv-2b-0.9.6-distilled",
        files=_whole_checkpoint("ltxv-2b-0.9.6-distilled-04-25.safetensors", 6.3),
        gigabytes=16,
    ),
    LARGE,
    replace(
        LARGE,
        id="ltxv-13b-0.9.7-distilled",
        title="LTX Video 13B 0.9.7 distilled",
        description="The large model in 7 and 3 steps: fast and good.",
        defaults={**REAL_DEFAULTS, **DISTILLED, "num_inference_steps": 7},
        folder="ltxv-13b-0.9.7-distilled",
        files={**LARGE_FILES, "distilled_lora": (DISTILLED_LORA,)},
        gigabytes=40,
    ),
    replace(
        LARGE,
        id="ltxv-13b-0.9.8",
        title="LTX Video 13B 0.9.8",
        files={
            **_whole_checkpoint("ltxv-13b-0.9.8-dev.safetensors", 28.6),
            "latent_upsampler": (UPSAMPLER_0_9_8,),
        },
        folder="ltxv-13b-0.9.8",
    ),
    replace(
        LARGE,
        id="ltxv-13b-0.9.8-distilled",
        title="LTX Video 13B 0.9.8 distilled",
        description="The large model in 7 and 3 steps: fast and good.",
        defaults={**REAL_DEFAULTS, **DISTILLED, "num_inference_steps": 7},
        folder="ltxv-13b-0.9.8-distilled",
        files={
            **_whole_checkpoint("ltxv-13b-0.9.8-distilled.safetensors", 28.6),
            "latent_upsampler": (UPSAMPLER_0_9_8,),
        },
    ),
)

CONFIGS = {
    "ltxv-demo": "demo",
    "ltxv-demo-multiscale": "demo-multiscale",
    "ltxv-2b-0.9.6": "ltxv-2b-0.9.6-dev",
    "ltxv-2b-0.9.6-distilled": "ltxv-2b-0.9.6-distilled",
    "ltxv-13b-0.9.7": "ltxv-13b-0.9.7-dev",
    "ltxv-13b-0.9.7-distilled": "ltxv-13b-0.9.7-distilled",
    "ltxv-13b-0.9.8": "ltxv-13b-0.9.8-dev",
    "ltxv-13b-0.9.8-distilled": "ltxv-13b-0.9.8-distilled",
}
"""Row → name of its file below ``configs/``."""


def config_of(variant: ModelVariant) -> LtxConfig:
    """How this row is sampled. Raises ``UnreadableFile``."""
    return load_config(CONFIGS[variant.id])
