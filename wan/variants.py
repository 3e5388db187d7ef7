"""The Wan models that a user can choose, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from engine.family import Limits, ModelVariant

SCHEDULERS = {
    "unipc": "UniPC",
    "euler": "Euler",
    "dpm++": "DPM++ 2M",
}

# The English wording of the negative prompt that Wan's authors publish.
NEGATIVE_PROMPT = (
    "Bright tones, overexposed, static, blurred details, subtitles, style, works, "
    "paintings, images, static, overall gray, worst quality, low quality, JPEG "
    "compression residue, ugly, incomplete, extra fingers, poorly drawn hands, poorly "
    "drawn faces, deformed, disfigured, misshapen limbs, fused fingers, still picture, "
    "messy background, three legs, many people in the background, walking backwards"
)

REAL_LIMITS = Limits(
    size_multiple=16, min_size=128, max_size=1920, frames_multiple=4, max_frames=241
)

SOURCE = frozenset({"source_video"})
IMAGE = frozenset({"image_start"})
BOTH_IMAGES = frozenset({"image_start", "image_end"})

REAL_DEFAULTS = {
    "negative_prompt": NEGATIVE_PROMPT,
    "width": 832,
    "height": 480,
    "num_frames": 81,
    "fps": 16.0,
    "num_inference_steps": 50,
    "scheduler": "unipc",
}

DEFAULTS_14B = {**REAL_DEFAULTS, "guidance_scale": 5.0, "flow_shift": 3.0}

EXAMPLES = (
    "A paper boat drifts down a rainy street, close up, reflections in the puddles",
    "Waves roll against a lighthouse at dawn, aerial view, the camera circles slowly",
    "A potter shapes a bowl on a turning wheel, warm light, shallow depth of field",
)

IMAGE_EXAMPLES = (
    "The camera moves closer, leaves stir in the wind",
    "She smiles, looks up and waves",
)

STRENGTH = 0.8
"""Of making a source video anew: most of it, as diffusers has it."""

SIZE_720P = {"width": 1280, "height": 720}

DEMO = ModelVariant(
    id="wan-demo",
    family="wan",
    title="Wan demo",
    description="Small scenes of coloured shapes in motion, in seconds, on any "
    "computer. Comes with the app.",
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
        "strength": STRENGTH,
    },
    limits=Limits(
        size_multiple=32,
        min_size=64,
        max_size=512,
        frames_multiple=4,
        max_frames=81,
    ),
    folder="demo/wan",
    gigabytes=0.06,
    licence="Apache-2.0",
    media=SOURCE,
    source_video_use="transform",
    preview="demo",
    schedulers=SCHEDULERS,
    prompt_hint="a red ball moving left on grass at day",
    examples=(
        "a yellow cube bouncing on sand at sunset",
        "a purple ring spinning on a checkerboard at night",
        "a blue cone circling on snow at day",
    ),
)

# Without weights yet: ``*UNTRAINED`` behind ``DEMO`` in ``VARIANTS`` offers them.
DEMO_I2V = replace(
    DEMO,
    id="wan-demo-i2v",
    title="Wan demo, image to video",
    description="Sets a picture of the demo's world in motion. Comes with the app.",
    defaults={n: v for n, v in DEMO.defaults.items() if n != "strength"},
    folder="demo/wan_i2v",
    base_folder=DEMO.folder,
    gigabytes=0.04,
    media=BOTH_IMAGES,
    required_media=IMAGE,
    source_video_use="continue",
)

DEMO_VACE = replace(
    DEMO_I2V,
    id="wan-demo-vace",
    title="Wan demo, VACE",
    description="Follows a control video, fills what is masked. Comes with the app.",
    folder="demo/wan_vace",
    gigabytes=0.06,
    media=frozenset({"control_video", "control_mask", "image_refs"}),
    required_media=frozenset(),
)

UNTRAINED = (DEMO_I2V, DEMO_VACE)

T2V_14B = ModelVariant(
    id="wan2.1-t2v-14b",
    family="wan",
    title="Wan 2.1 text to video 14B",
    description="The large Wan 2.1: 480p and 720p, for GPUs from 12 GB with much main "
    "memory. Makes a video anew, too.",
    # A shift of 3 is for 480p; 720p wants 5.
    defaults={**DEFAULTS_14B, "strength": STRENGTH},
    limits=REAL_LIMITS,
    folder="wan2.1-t2v-14b",
    hub="Wan-AI/Wan2.1-T2V-14B-Diffusers",
    gigabytes=80,
    licence="Apache-2.0",
    media=SOURCE,
    source_video_use="transform",
    preview="wan2.1",
    schedulers=SCHEDULERS,
    prompt_hint="A cat and a dog baking a cake together in a sunlit kitchen",
    examples=EXAMPLES,
)

T2V_1_3B = replace(
    T2V_14B,
    id="wan2.1-t2v-1.3b",
    title="Wan 2.1 text to video 1.3B",
    description="The small Wan 2.1: 480p, for GPUs from 8 GB.",
    # Its authors advise guidance 6 and a shift of 8 to 12 for this size.
    defaults={
        **REAL_DEFAULTS,
        "guidance_scale": 6.0,
        "flow_shift": 8.0,
        "strength": STRENGTH,
    },
    folder="wan2.1-t2v-1.3b",
    hub="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    gigabytes=29,
)

I2V_480P = replace(
    T2V_14B,
    id="wan2.1-i2v-14b-480p",
    title="Wan 2.1 image to video 14B 480p",
    description="Sets a picture in motion, as the prompt says: 480p, for GPUs from 12 "
    "GB with much main memory.",
    defaults={**DEFAULTS_14B, "num_inference_steps": 40},
    folder="wan2.1-i2v-14b-480p",
    hub="Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
    gigabytes=91,
    media=IMAGE,
    required_media=IMAGE,
    prompt_hint="The cat turns its head and jumps off the table",
    examples=IMAGE_EXAMPLES,
)

I2V_720P = replace(
    I2V_480P,
    id="wan2.1-i2v-14b-720p",
    title="Wan 2.1 image to video 14B 720p",
    description="The same, trained at 720p.",
    defaults={**I2V_480P.defaults, **SIZE_720P, "flow_shift": 5.0},
    folder="wan2.1-i2v-14b-720p",
    hub="Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
)

FLF2V_720P = replace(
    I2V_720P,
    id="wan2.1-flf2v-14b-720p",
    title="Wan 2.1 first and last frame to video 14B 720p",
    description="Makes what happens between two pictures.",
    defaults={
        **I2V_720P.defaults,
        "num_inference_steps": 50,
        "guidance_scale": 5.5,
        "flow_shift": 16.0,
    },
    folder="wan2.1-flf2v-14b-720p",
    hub="Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers",
    media=BOTH_IMAGES,
    required_media=BOTH_IMAGES,
)

T2V_A14B = replace(
    T2V_14B,
    id="wan2.2-t2v-a14b",
    title="Wan 2.2 text to video A14B",
    description="Two transformers of 14B, one for the plan and one for the details: "
    "480p and 720p, for GPUs from 12 GB with very much main memory.",
    defaults={
        **DEFAULTS_14B,
        "num_inference_steps": 40,
        "guidance_scale": 4.0,
        "guidance_scale_2": 3.0,
        "flow_shift": 12.0,
    },
    folder="wan2.2-t2v-a14b",
    hub="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
    gigabytes=126,
    media=frozenset(),
)

I2V_A14B = replace(
    T2V_A14B,
    id="wan2.2-i2v-a14b",
    title="Wan 2.2 image to video A14B",
    description="Sets a picture in motion, with two transformers of 14B; an end image "
    "may be given too.",
    defaults={
        **T2V_A14B.defaults,
        "guidance_scale": 3.5,
        "guidance_scale_2": 3.5,
        "flow_shift": 5.0,
    },
    folder="wan2.2-i2v-a14b",
    hub="Wan-AI/Wan2.2-I2V-A14B-Diffusers",
    media=BOTH_IMAGES,
    required_media=IMAGE,
    prompt_hint=I2V_480P.prompt_hint,
    examples=IMAGE_EXAMPLES,
)

TI2V_5B = replace(
    T2V_14B,
    id="wan2.2-ti2v-5b",
    title="Wan 2.2 text or image to video 5B",
    description="720p at 24 frames per second, from text or from a start image too, "
    "for GPUs from 12 GB.",
    defaults={
        **REAL_DEFAULTS,
        "width": 1280,
        "height": 704,
        "num_frames": 121,
        "fps": 24.0,
        "guidance_scale": 5.0,
        "flow_shift": 5.0,
    },
    limits=replace(REAL_LIMITS, size_multiple=32),
    folder="wan2.2-ti2v-5b",
    hub="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    gigabytes=34,
    preview="wan2.2",
    media=IMAGE,
)

VACE_14B = replace(
    T2V_14B,
    id="wan2.1-vace-14b",
    title="Wan 2.1 VACE 14B",
    description="Follows a control video, makes masked parts of it anew, or shows the "
    "people and things of reference images: 480p and 720p, for GPUs from 12 GB with "
    "much main memory.",
    defaults={**DEFAULTS_14B, "flow_shift": 16.0},
    folder="wan2.1-vace-14b",
    hub="Wan-AI/Wan2.1-VACE-14B-diffusers",
    gigabytes=75,
    media=frozenset({"control_video", "control_mask", "image_refs"}),
)

VACE_1_3B = replace(
    VACE_14B,
    id="wan2.1-vace-1.3b",
    title="Wan 2.1 VACE 1.3B",
    description="The same at 480p, for GPUs from 8 GB.",
    folder="wan2.1-vace-1.3b",
    hub="Wan-AI/Wan2.1-VACE-1.3B-diffusers",
    gigabytes=19,
)

DF_14B_540P = replace(
    T2V_14B,
    id="skyreels-v2-df-14b-540p",
    title="SkyReels V2 diffusion forcing 14B 540p",
    description="Videos of any length from text, from a start image or going on from a "
    "video, window by window: 540p, for GPUs from 12 GB with much main memory.",
    defaults={
        **REAL_DEFAULTS,
        "width": 960,
        "height": 544,
        "num_frames": 97,
        "fps": 24.0,
        "num_inference_steps": 30,
        "guidance_scale": 6.0,
        "flow_shift": 8.0,
        "overlap_frames": 17,
        "ar_step": 0,
    },
    limits=replace(REAL_LIMITS, max_frames=1457),
    folder="skyreels-v2-df-14b-540p",
    hub="Skywork/SkyReels-V2-DF-14B-540P-Diffusers",
    licence="Skywork Community License",
    media=frozenset({"image_start", "source_video"}),
    source_video_use="continue",
    window_frames=97,
    causal_block_size=5,
    # Euler's timesteps aren't whole, and each frame looks its own up.
    schedulers={name: SCHEDULERS[name] for name in ("unipc", "dpm++")},
)

DF_1_3B_540P = replace(
    DF_14B_540P,
    id="skyreels-v2-df-1.3b-540p",
    title="SkyReels V2 diffusion forcing 1.3B 540p",
    description="Videos of any length from text, from a start image or going on from a "
    "video, window by window: 540p, for GPUs from 8 GB.",
    folder="skyreels-v2-df-1.3b-540p",
    hub="Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers",
    gigabytes=29,
)

DF_14B_720P = replace(
    DF_14B_540P,
    id="skyreels-v2-df-14b-720p",
    title="SkyReels V2 diffusion forcing 14B 720p",
    description="The same, trained at 720p.",
    defaults={**DF_14B_540P.defaults, **SIZE_720P, "num_frames": 121},
    folder="skyreels-v2-df-14b-720p",
    hub="Skywork/SkyReels-V2-DF-14B-720P-Diffusers",
    window_frames=121,
)

VARIANTS = (
    DEMO,
    T2V_1_3B,
    T2V_14B,
    I2V_480P,
    I2V_720P,
    FLF2V_720P,
    T2V_A14B,
    I2V_A14B,
    TI2V_5B,
    VACE_1_3B,
    VACE_14B,
    DF_1_3B_540P,
    DF_14B_540P,
    DF_14B_720P,
)


@dataclass(frozen=True)
class Kind:
    """What a row's files are, where their configurations don't say it."""

    task: Literal["text", "image", "vace", "forcing"] = "text"
    """What its transformer was trained for. "image" takes the start image's latents as
    further channels."""
    boundary_ratio: float | None = None
    """From this noise level down the second transformer works; ``None`` with one."""
    expand_timesteps: bool = False
    """Whether each token has a timestep of its own, so that a given first frame is
    kept free of noise."""


KINDS: Mapping[str, Kind] = {
    DEMO_I2V.id: Kind("image"),
    DEMO_VACE.id: Kind("vace"),
    I2V_480P.id: Kind("image"),
    I2V_720P.id: Kind("image"),
    FLF2V_720P.id: Kind("image"),
    T2V_A14B.id: Kind("text", boundary_ratio=0.875),
    I2V_A14B.id: Kind("image", boundary_ratio=0.9),
    TI2V_5B.id: Kind("text", expand_timesteps=True),
    VACE_1_3B.id: Kind("vace"),
    VACE_14B.id: Kind("vace"),
    DF_1_3B_540P.id: Kind("forcing"),
    DF_14B_540P.id: Kind("forcing"),
    DF_14B_720P.id: Kind("forcing"),
}


def kind_of(variant: ModelVariant) -> Kind:
    """The row's own; most make videos from text."""
    return KINDS.get(variant.id, Kind())
