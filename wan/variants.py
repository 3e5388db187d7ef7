"""The Wan models that a user can choose, one row each."""

from __future__ import annotations

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

REAL_DEFAULTS = {
    "negative_prompt": NEGATIVE_PROMPT,
    "width": 832,
    "height": 480,
    "num_frames": 81,
    "fps": 16.0,
    "num_inference_steps": 50,
    "scheduler": "unipc",
}

EXAMPLES = (
    "A paper boat drifts down a rainy street, close up, reflections in the puddles",
    "Waves roll against a lighthouse at dawn, aerial view, the camera circles slowly",
    "A potter shapes a bowl on a turning wheel, warm light, shallow depth of field",
)

VARIANTS = (
    ModelVariant(
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
        preview="demo",
        schedulers=SCHEDULERS,
        prompt_hint="a red ball moving left on grass at day",
        examples=(
            "a yellow cube bouncing on sand at sunset",
            "a purple ring spinning on a checkerboard at night",
            "a blue cone circling on snow at day",
        ),
    ),
    ModelVariant(
        id="wan2.1-t2v-1.3b",
        family="wan",
        title="Wan 2.1 text to video 1.3B",
        description="The small Wan 2.1: 480p, for GPUs from 8 GB.",
        # Its authors advise guidance 6 and a shift of 8 to 12 for this size.
        defaults={**REAL_DEFAULTS, "guidance_scale": 6.0, "flow_shift": 8.0},
        limits=REAL_LIMITS,
        folder="wan2.1-t2v-1.3b",
        hub="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        gigabytes=29,
        licence="Apache-2.0",
        preview="wan2.1",
        schedulers=SCHEDULERS,
        prompt_hint="A cat and a dog baking a cake together in a sunlit kitchen",
        examples=EXAMPLES,
    ),
    ModelVariant(
        id="wan2.1-t2v-14b",
        family="wan",
        title="Wan 2.1 text to video 14B",
        description="The large Wan 2.1: 480p and 720p, for GPUs from 12 GB with much "
        "main memory.",
        # A shift of 3 is for 480p; 720p wants 5.
        defaults={**REAL_DEFAULTS, "guidance_scale": 5.0, "flow_shift": 3.0},
        limits=REAL_LIMITS,
        folder="wan2.1-t2v-14b",
        hub="Wan-AI/Wan2.1-T2V-14B-Diffusers",
        gigabytes=80,
        licence="Apache-2.0",
        preview="wan2.1",
        schedulers=SCHEDULERS,
        prompt_hint="A cat and a dog baking a cake together in a sunlit kitchen",
        examples=EXAMPLES,
    ),
)
