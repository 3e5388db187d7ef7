"""A model family that needs no weights, no torch and a few milliseconds.

Words in the prompt steer it: a colour fills the frames; ``slow`` takes 50 ms a step,
``stall`` never ends by itself, ``fail``, ``oom``, ``crash`` and ``exit`` end badly.
"""

import os
import re
import signal
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.family import FAMILIES, Limits, LoadedModel, ModelVariant, WeightFile
from engine.media.frames import is_video, load_clip, load_image
from engine.request import GenerationRequest

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 180, 40),
    "blue": (30, 60, 220),
    "yellow": (230, 210, 30),
    "white": (240, 240, 240),
    "black": (10, 10, 10),
}
GREY = (128, 128, 128)

VARIANT = ModelVariant(
    id="fake-model",
    family="fake",
    title="Fake model",
    description="Fills frames with the colour that the prompt names.",
    defaults={
        "negative_prompt": "",
        "width": 64,
        "height": 48,
        "num_frames": 9,
        "fps": 8.0,
        "num_inference_steps": 4,
        "guidance_scale": 1.0,
        "flow_shift": 3.0,
        "scheduler": "euler",
        "overlap_frames": 5,
    },
    limits=Limits(
        size_multiple=16,
        min_size=32,
        max_size=512,
        frames_multiple=4,
        max_frames=81,
        min_vae_tile=64,
    ),
    folder="",
    licence="Apache-2.0",
    media=frozenset({"image_start", "image_end", "source_video", "conditions"}),
    prompt_parts=True,
    schedulers={"euler": "Euler"},
    prompt_hint="a red square",
)

LIMITED = replace(
    VARIANT,
    id="fake-limited",
    title="Fake model that not everybody may use",
    licence="Tencent Hunyuan Community License",
)

FETCHED = replace(
    VARIANT,
    id="fake-fetched",
    title="Fake model that is on a hub",
    limits=replace(VARIANT.limits, min_vae_tile=0),
    folder="fake-fetched",
    files={
        "transformer": (WeightFile("fake/model", "large.safetensors", 0.003),),
        "vae": (WeightFile("fake/model", "vae/small.safetensors", 0.001),),
    },
    gigabytes=0.004,
)


@dataclass
class FakeConditioning:
    words: list[str]
    colour: tuple[int, int, int]
    noise_seed: int
    pinned: dict[int, np.ndarray]
    """Frame → its colour."""


class FakeFamily:
    name = "fake"
    title = "Fake"

    def variants(self):
        return (VARIANT, LIMITED, FETCHED)

    def load(self, variant: ModelVariant, weights, dtype: str, on_component):
        for component in ("text encoder", "transformer", "VAE"):
            on_component(component)
        return {"loaded_at": time.monotonic()}

    def encode(
        self, model: LoadedModel, request: GenerationRequest
    ) -> FakeConditioning:
        words = re.findall(r"\w+", request.prompt.lower())
        named = [COLOURS[word] for word in words if word in COLOURS]
        seed = request.seed
        if request.guidance_scale > 1:
            seed ^= zlib.crc32(request.negative_prompt.encode())
        return FakeConditioning(
            words, named[0] if named else GREY, seed, _pinned(request)
        )

    def denoise(self, model, conditioning, request, on_step, on_phase) -> Any:
        _end_badly(conditioning.words)
        total = request.num_inference_steps
        rng = np.random.default_rng(conditioning.noise_seed)
        noise = rng.integers(0, 255, (request.num_frames, 4, 8, 3), dtype=np.uint8)
        latents = {
            "colour": conditioning.colour,
            "pinned": conditioning.pinned,
            "noise": noise,
            "size": (request.height, request.width),
        }
        for step in range(1, total + 1):
            time.sleep(0.05 if "slow" in conditioning.words else 0.001)
            on_step(step, total, latents)
        stop = time.monotonic() + 120
        while "stall" in conditioning.words and time.monotonic() < stop:
            time.sleep(0.02)
            on_step(total, total, latents)
        return latents

    def decode(self, model, latents, request) -> Iterator[np.ndarray]:
        height, width = latents["size"]
        noise, colour = latents["noise"], latents["colour"]
        num_frames = len(noise)
        for start in [0, *range(1, num_frames, 4)]:
            stop = 1 if start == 0 else start + 4
            frames = np.zeros((stop - start, height, width, 3), np.uint8)
            frames[:] = colour
            for index in range(start, stop):
                frames[index - start, -4:, :8] = noise[index]
                if index in latents["pinned"]:
                    frames[index - start] = latents["pinned"][index]
            yield frames

    def preview(self, model, latents) -> np.ndarray:
        frames = np.zeros((2, 12, 16, 3), np.uint8)
        frames[:] = latents["colour"]
        return frames


FAMILY = FakeFamily()


def register_fake_family() -> None:
    """Put the fake into the table of families, as one more line there would."""
    FAMILIES["fake"] = "tests.fakes:FAMILY"


def fake_worker_main(connection, settings) -> None:
    """The real worker, in its own process, with the fake family and without torch."""
    from engine.queue import worker

    register_fake_family()
    worker.main(connection, settings.model_copy(update={"gpu": "cpu"}))


def _end_badly(words: list[str]) -> None:
    if "fail" in words:
        raise ValueError("the fake was told to fail")
    if "oom" in words:
        raise MemoryError("the fake was told to run out of memory")
    if "crash" in words:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "exit" in words:
        os._exit(3)


def _pinned(request: GenerationRequest) -> dict[int, np.ndarray]:
    """The mean colours of the frames that the request's media give."""
    size, count = (request.width, request.height), request.num_frames
    given: dict[int, np.ndarray] = {}
    if request.image_start:
        given[0] = load_image(request.image_start, *size)
    if request.image_end:
        given[count - 1] = load_image(request.image_end, *size)
    if request.source_video:
        last = request.overlap_frames
        clip = load_clip(request.source_video, *size, request.fps, last=last)
        given |= dict(enumerate(clip))
    for condition in request.conditions:
        start = condition.first_frame(count)
        if is_video(condition.file):
            most = count - start
            clip = load_clip(condition.file, *size, request.fps, first=most)
            given |= dict(enumerate(clip, start))
        else:
            given[start] = load_image(condition.file, *size)
    return {index: image.mean(axis=(0, 1)) for index, image in given.items()}
