"""The Hunyuan Video models that a user can choose, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from engine.family import Limits, ModelVariant, WeightFile

SCHEDULERS = {"euler": "Euler"}
IMAGE = frozenset({"image_start"})
LICENCE = "Tencent Hunyuan Community License"
COMMUNITY = "hunyuanvideo-community"

LIMITS = Limits(
    size_multiple=16,
    min_size=128,
    max_size=1280,
    frames_multiple=4,
    max_frames=129,
    min_vae_tile=64,
)
DEFAULTS: dict[str, Any] = {
    "negative_prompt": "",
    "width": 960,
    "height": 544,
    "num_frames": 81,
    "fps": 24.0,
    "num_inference_steps": 50,
    "guidance_scale": 6.0,
    "flow_shift": 7.0,
    "scheduler": "euler",
}
EMBEDDED = {**DEFAULTS, "true_cfg_scale": 1.0}

EXAMPLES = (
    "A lantern swings from the bow of a wooden boat at night, mist on the water, the "
    "camera glides alongside",
    "A baker dusts flour over a wooden table, morning light from a window, close up",
    "A goat climbs a steep green hillside in the wind, wide shot, clouds racing",
)

DEMO = ModelVariant(
    id="hyvideo-demo",
    family="hyvideo",
    title="Hunyuan Video demo",
    description="Small scenes of coloured shapes in motion, from words or a start "
    "image, on any computer. Comes with the app.",
    defaults={
        "negative_prompt": "",
        "width": 256,
        "height": 256,
        "num_frames": 33,
        "fps": 16.0,
        "num_inference_steps": 20,
        "guidance_scale": 1.0,
        "flow_shift": 3.0,
        "scheduler": "euler",
    },
    limits=Limits(
        size_multiple=32,
        min_size=64,
        max_size=512,
        frames_multiple=4,
        max_frames=81,
        min_vae_tile=64,
    ),
    folder="demo/hyvideo",
    gigabytes=0.06,
    licence="Apache-2.0",
    preview="demo",
    max_sequence_length=256,
    media=IMAGE,
    schedulers=SCHEDULERS,
    prompt_hint="a red ball moving left on grass at day",
    examples=(
        "a green ring spinning on sand at sunset",
        "a blue cube bouncing on snow at day",
        "a yellow cone circling on a checkerboard at night",
    ),
)

TEXT_TO_VIDEO = ModelVariant(
    id="hunyuan-video-t2v",
    family="hyvideo",
    title="HunyuanVideo text to video",
    description="The 13B model, from words: for GPUs from 12 GB with much main memory.",
    defaults=EMBEDDED,
    limits=LIMITS,
    folder="hunyuan-video-t2v",
    hub=f"{COMMUNITY}/HunyuanVideo",
    gigabytes=42,
    licence=LICENCE,
    preview="hunyuan-video",
    guidance="embedded",
    max_sequence_length=256,
    schedulers=SCHEDULERS,
    prompt_hint=EXAMPLES[0],
    examples=EXAMPLES[1:],
)

HUNYUAN = (
    DEMO,
    TEXT_TO_VIDEO,
    replace(
        TEXT_TO_VIDEO,
        id="hunyuan-video-i2v",
        title="HunyuanVideo image to video",
        description="The 13B model, from a start image and words. The image is kept "
        "as the first frame.",
        folder="hunyuan-video-i2v",
        hub=f"{COMMUNITY}/HunyuanVideo-I2V",
        gigabytes=43,
        media=IMAGE,
        required_media=IMAGE,
    ),
    replace(
        TEXT_TO_VIDEO,
        id="hunyuan-video-i2v-33ch",
        title="HunyuanVideo image to video, 33 channels",
        description="The first 13B model from a start image and words: livelier, and "
        "less true to the image.",
        # Its transformer knows no embedded guidance: above 1 it takes twice the time.
        defaults={**DEFAULTS, "guidance_scale": 1.0},
        folder="hunyuan-video-i2v-33ch",
        hub=f"{COMMUNITY}/HunyuanVideo-I2V-33ch",
        gigabytes=43,
        media=IMAGE,
        required_media=IMAGE,
        guidance="cfg",
    ),
)

LIMITS_15 = replace(LIMITS, max_frames=241)
DEFAULTS_15 = {
    **DEFAULTS,
    "width": 848,
    "height": 480,
    "num_frames": 121,
    "flow_shift": 5.0,
}

TEXT_TO_VIDEO_15 = replace(
    TEXT_TO_VIDEO,
    id="hunyuan-video-1.5-t2v-480p",
    title="HunyuanVideo 1.5 text to video 480p",
    description="The 8B model, from words.",
    defaults=DEFAULTS_15,
    limits=LIMITS_15,
    folder="hunyuan-video-1.5-t2v-480p",
    hub=f"{COMMUNITY}/HunyuanVideo-1.5-Diffusers-480p_t2v",
    gigabytes=53,
    preview="hunyuan-video-1.5",
    guidance="guider",
    max_sequence_length=1000,
)

IMAGE_TO_VIDEO_15 = replace(
    TEXT_TO_VIDEO_15,
    id="hunyuan-video-1.5-i2v-480p",
    title="HunyuanVideo 1.5 image to video 480p",
    description="The 8B model, from a start image and words.",
    folder="hunyuan-video-1.5-i2v-480p",
    hub=f"{COMMUNITY}/HunyuanVideo-1.5-Diffusers-480p_i2v",
    gigabytes=54,
    media=IMAGE,
    required_media=IMAGE,
)

HUNYUAN_15 = (
    TEXT_TO_VIDEO_15,
    IMAGE_TO_VIDEO_15,
    replace(
        TEXT_TO_VIDEO_15,
        id="hunyuan-video-1.5-t2v-720p",
        title="HunyuanVideo 1.5 text to video 720p",
        defaults={**DEFAULTS_15, "width": 1280, "height": 720, "flow_shift": 9.0},
        folder="hunyuan-video-1.5-t2v-720p",
        hub=f"{COMMUNITY}/HunyuanVideo-1.5-Diffusers-720p_t2v",
    ),
    replace(
        IMAGE_TO_VIDEO_15,
        id="hunyuan-video-1.5-i2v-720p",
        title="HunyuanVideo 1.5 image to video 720p",
        defaults={**DEFAULTS_15, "width": 1280, "height": 720, "flow_shift": 7.0},
        folder="hunyuan-video-1.5-i2v-720p",
        hub=f"{COMMUNITY}/HunyuanVideo-1.5-Diffusers-720p_i2v",
    ),
    replace(
        TEXT_TO_VIDEO_15,
        id="hunyuan-video-1.5-t2v-480p-distilled",
        title="HunyuanVideo 1.5 text to video 480p, distilled",
        description="The 8B model, from words, without guidance: in half the time.",
        defaults={**DEFAULTS_15, "guidance_scale": 1.0},
        folder="hunyuan-video-1.5-t2v-480p-distilled",
        hub=f"{COMMUNITY}/HunyuanVideo-1.5-Diffusers-480p_t2v_distilled",
    ),
    replace(
        IMAGE_TO_VIDEO_15,
        id="hunyuan-video-1.5-i2v-480p-distilled",
        title="HunyuanVideo 1.5 image to video 480p, distilled",
        description="The 8B model, from a start image and words, without guidance: in "
        "half the time.",
        defaults={**DEFAULTS_15, "guidance_scale": 1.0},
        folder="hunyuan-video-1.5-i2v-480p-distilled",
        hub=f"{COMMUNITY}/HunyuanVideo-1.5-Diffusers-480p_i2v_distilled",
    ),
    replace(
        IMAGE_TO_VIDEO_15,
        id="hunyuan-video-1.5-i2v-720p-distilled",
        title="HunyuanVideo 1.5 image to video 720p, distilled",
        description="The 8B model, from a start image and words, without guidance: in "
        "half the time.",
        defaults={
            **DEFAULTS_15,
            "width": 1280,
            "height": 720,
            "guidance_scale": 1.0,
            "flow_shift": 7.0,
        },
        folder="hunyuan-video-1.5-i2v-720p-distilled",
        hub=f"{COMMUNITY}/HunyuanVideo-1.5-Diffusers-720p_i2v_distilled",
    ),
    replace(
        IMAGE_TO_VIDEO_15,
        id="hunyuan-video-1.5-i2v-480p-step-distilled",
        title="HunyuanVideo 1.5 image to video 480p, few steps",
        description="The 8B model, from a start image and words, in 8 or 12 steps: the "
        "fastest.",
        defaults={
            **DEFAULTS_15,
            "num_inference_steps": 12,
            "guidance_scale": 1.0,
            "flow_shift": 7.0,
        },
        folder="hunyuan-video-1.5-i2v-480p-step-distilled",
        hub=f"{COMMUNITY}/HunyuanVideo-1.5-Diffusers-480p_i2v_step_distilled",
    ),
)

HUNYUAN_PARTS = {
    name: (WeightFile(f"{COMMUNITY}/HunyuanVideo", name, gigabytes),)
    for name, gigabytes in {
        "tokenizer": 0.01,
        "tokenizer_2": 0.01,
        "text_encoder": 16.1,
        "text_encoder_2": 0.25,
        "vae": 0.5,
        "scheduler": 0.001,
    }.items()
}
REDUX = "lllyasviel/flux_redux_bfl"
FRAMEPACK_PARTS = {
    **HUNYUAN_PARTS,
    "image_encoder": (WeightFile(REDUX, "image_encoder", 0.9),),
    "feature_extractor": (WeightFile(REDUX, "feature_extractor", 0.001),),
}

FRAMEPACK_I2V = replace(
    TEXT_TO_VIDEO,
    id="framepack-i2v",
    title="FramePack image to video",
    description="Long videos from a start image, section by section from the end to "
    "the start, in the memory of a short one.",
    defaults={
        **EMBEDDED,
        "width": 640,
        "height": 640,
        "num_frames": 145,
        "fps": 30.0,
        "num_inference_steps": 25,
        "guidance_scale": 10.0,
        "flow_shift": 7.0,
    },
    limits=replace(
        LIMITS, frames_multiple=36, max_frames=36 * 100 + 1, in_sections=True
    ),
    folder="framepack-i2v",
    hub=None,
    files={
        **FRAMEPACK_PARTS,
        "transformer": (WeightFile("lllyasviel/FramePackI2V_HY", "", 25.8),),
    },
    gigabytes=44,
    media=frozenset({"image_start", "image_end"}),
    required_media=IMAGE,
)

FRAMEPACK = (
    FRAMEPACK_I2V,
    replace(
        FRAMEPACK_I2V,
        id="framepack-f1-i2v",
        title="FramePack F1 image to video",
        description="Long videos from a start image, section by section from the "
        "start on: livelier, and it drifts more.",
        folder="framepack-f1-i2v",
        files={
            **FRAMEPACK_PARTS,
            "transformer": (
                WeightFile("lllyasviel/FramePack_F1_I2V_HY_20250503", "", 25.8),
            ),
        },
        media=IMAGE,
    ),
)

_BY_MODULE = {"hunyuan": HUNYUAN, "hunyuan15": HUNYUAN_15, "framepack": FRAMEPACK}

VARIANTS = tuple(row for rows in _BY_MODULE.values() for row in rows)

ARCHITECTURES: Mapping[str, str] = {
    row.id: module for module, rows in _BY_MODULE.items() for row in rows
}
"""Row → name of its architecture's module in this folder."""

TEMPLATES: Mapping[str, Mapping[str, Any]] = {
    DEMO.id: {"template": "{}", "crop_start": 0},
}
"""Row → what is put around a prompt for the language model, and how many of its tokens
are cut off again; the others have diffusers' own."""

ORDERS: Mapping[str, Literal["inverted", "vanilla"]] = {
    "framepack-i2v": "inverted",
    "framepack-f1-i2v": "vanilla",
}
"""Row → the order in which FramePack makes its sections: from the end of the video
back to the start image, or from the start image on."""
