"""SkyReels V2: each latent frame has a noise level of its own ("diffusion forcing"), so
that a video can go on from frames that are done, and be of any length.

https://arxiv.org/abs/2504.13074. All frames of a window are denoised together, or block
after block, each ``ar_step`` steps behind the one before (asynchronous).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import (
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
)
from PIL import Image
from torch import Tensor

from engine.family import LoadedModel, ModelVariant, OnPhase, OnStep
from engine.media.frames import load_clip, load_image
from engine.request import GenerationRequest
from engine.sampling.reporting import reporting
from wan.call import Call, Conditioning, share
from wan.denoise import make_scheduler, run

OVERLAP = 17
"""How many frames a window begins with of the one before, unless a request says so."""

CONDITION_NOISE = 20
"""Of 1000: on the frames that a window goes on from, against errors that add up."""


class Watched:
    """Goes before a pipeline's own class, and tells its plan for each window."""

    on_window: Callable[[Tensor], None]
    """Called with (rows, latent frames): which frames take a step in which row."""

    def generate_timestep_matrix(self, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        made: tuple[Any, ...] = super().generate_timestep_matrix(*args, **kwargs)  # type: ignore[misc]
        self.on_window(made[2])
        return made


class FromText(Watched, SkyReelsV2DiffusionForcingPipeline):
    """Nothing but noise to begin with."""


class FromImage(Watched, SkyReelsV2DiffusionForcingImageToVideoPipeline):
    """The first frame given."""


class FromVideo(Watched, SkyReelsV2DiffusionForcingVideoToVideoPipeline):
    """The last frames of a video given."""


def from_history(model: LoadedModel, request: GenerationRequest) -> Call:
    """What ``request`` begins with: an image, the end of a video, or nothing.

    Raises ``UnreadableFile``.
    """
    width, height, fps = request.width, request.height, request.fps
    assert width and height and fps and request.num_frames
    window = window_frames(model.variant, request)
    overlap = request.overlap_frames or OVERLAP
    is_long = request.num_frames > window
    pipeline: Any = model.pipeline
    arguments: dict[str, Any] = {
        "num_frames": request.num_frames,
        "base_num_frames": window,
        "overlap_history": overlap,
        "ar_step": request.ar_step,
        # It stays with the transformer until another is given.
        "causal_block_size": model.variant.causal_block_size if request.ar_step else 1,
        "fps": fps,
    }
    if request.image_start is not None:
        pipeline = share(pipeline, FromImage)
        first = load_image(request.image_start, width, height)
        arguments["image"] = Image.fromarray(first)
    elif request.source_video is not None:
        pipeline = share(pipeline, FromVideo)
        clip = load_clip(request.source_video, width, height, fps, last=overlap)
        arguments["video"] = [Image.fromarray(frame) for frame in clip]
    if is_long or request.source_video is not None:
        arguments["addnoise_condition"] = CONDITION_NOISE
    return Call(pipeline, arguments, sum(plan(model.variant, request)))


def window_frames(variant: ModelVariant, request: GenerationRequest) -> int:
    """How many frames are made at a time: whole blocks when they are asynchronous."""
    latent = _latent(variant.window_frames)
    if request.ar_step:
        latent -= latent % variant.causal_block_size
    return 4 * (latent - 1) + 1


def plan(variant: ModelVariant, request: GenerationRequest) -> list[int]:
    """How many rows of steps each window takes."""
    assert request.num_frames and request.num_inference_steps
    steps, lag = request.num_inference_steps, request.ar_step or 0
    block = variant.causal_block_size if lag else 1
    length, window = (
        _latent(request.num_frames),
        _latent(window_frames(variant, request)),
    )
    overlap = _latent(request.overlap_frames or OVERLAP)
    rows = []
    done = given = overlap if request.source_video is not None else 0
    while done < length:
        made = min(length - done + given, window) - given
        rows.append(steps + min(lag, steps) * (made // block - 1))
        done, given = done + made, overlap
    return rows


def _latent(frames: int) -> int:
    return (frames - 1) // 4 + 1


def denoise(
    model: LoadedModel,
    conditioning: Conditioning,
    request: GenerationRequest,
    on_step: OnStep,
    on_phase: OnPhase,
) -> Tensor:
    """Latents (1, 16, latent frames, height / 8, width / 8), float32, of all windows.

    The first noise is drawn on the CPU: a seed starts from the same noise on every
    device. Noise on given frames is drawn on the device.
    """
    assert request.scheduler is not None and request.flow_shift is not None
    pipeline = conditioning.call.pipeline
    scheduler = make_scheduler(
        request.scheduler, request.flow_shift, pipeline.scheduler.config
    )
    steps = Steps(plan(model.variant, request), on_step, on_phase)
    pipeline.scheduler = reporting(scheduler, steps.expect)
    pipeline.on_window = steps.begin
    with seeded(request.seed, pipeline._execution_device):
        return run(model, conditioning, request, callback_on_step_end=steps.tell)


class Steps:
    """Tells the rows of steps of all windows; each frame that takes a step in a row
    does so with a scheduler of its own."""

    def __init__(self, rows: list[int], on_step: OnStep, on_phase: OnPhase) -> None:
        self._rows = rows
        self._on_step = on_step
        self._on_phase = on_phase
        self._window = 0
        self._done = 0
        self._mask = torch.empty(0)
        self._ends: list[Tensor] = []

    def begin(self, update_mask: Tensor) -> None:
        """A window is planned."""
        self._mask = update_mask
        self._window += 1
        if len(self._rows) > 1:
            self._on_phase(f"window {self._window} of {len(self._rows)}")

    def expect(self, _done: int, _total: int, expected: Tensor) -> None:
        """Where one frame is heading."""
        self._ends.append(expected)

    def tell(
        self, _pipeline: Any, row: int, _times: Tensor, given: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """A row is done. Frames that have begun are shown where they are heading."""
        latents = given["latents"].clone()
        latents[:, :, self._mask[row]] = torch.stack(self._ends, dim=2)
        self._ends.clear()
        self._done += 1
        self._on_step(self._done, sum(self._rows), latents)
        return {}


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's own random numbers are those of ``seed``, and afterwards as before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
