"""From a request to a video file: load, encode, denoise, decode, write."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import engine
from engine import outputs
from engine.catalogue import get_model
from engine.errors import UserError
from engine.events import OnEvent
from engine.family import Family, LoadedModel, OnStep, get_family
from engine.footprint import working_bytes
from engine.guidance import guidance_of, unused_negative_prompt
from engine.loading.chunked import feed_forward_chunked
from engine.loading.interrupt import interruptible
from engine.loading.ladder import Ladder
from engine.loading.memory import (
    configure_allocators,
    is_out_of_memory,
    out_of_memory_told,
    peak_memory,
    watch_peak_memory,
)
from engine.loading.resident import ResidentModel
from engine.lora.apply import loras_applied
from engine.lora.schedule import multipliers_vary
from engine.media.frames import all_but_last, read_clip
from engine.media.image import strip_data_url
from engine.media.inputs import portable
from engine.media.sound import keep_sound
from engine.media.video import VideoWriter
from engine.progress import Progress, ignore, never
from engine.request import GenerationRequest
from engine.settings import Settings
from engine.validate import accept

if TYPE_CHECKING:
    import numpy as np

PREVIEW_SECONDS = 0.5
"""At least so long between two previews."""

PREVIEW_SHARE = 0.03
"""Previews may cost this share of the denoising time."""


class Generator:
    """Makes videos one after the other and keeps the model between them. One per
    process."""

    def __init__(self, settings: Settings) -> None:
        # Read when torch is loaded. Threads that spin while they wait steal the time of
        # a browser beside them, and both lose: jobs took three times as long.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # It would tell of image processors that need a package which nothing here uses.
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        configure_allocators()
        self._settings = settings
        self._resident = ResidentModel(settings)
        self._calls: dict[str, int] = {}

    def warm_up(self, model: str | None = None) -> None:
        """Do what the first job would wait for: import torch and, when ``model`` is
        given, load it. Raises as ``generate`` does."""
        if model is None:
            _ = self._resident.device
        else:
            self._resident.get(
                get_model(model, self._settings), Progress("warm-up"), download=False
            )

    def generate(
        self,
        request: GenerationRequest,
        output: Path,
        *,
        job: str = "script",
        on_event: OnEvent = ignore,
        is_cancelled: Callable[[], bool] = never,
    ) -> Path:
        """Make the video of ``request``, which ``validate.accept`` has completed.

        ``output`` appears only when it is whole. Raises ``Cancelled``, ``UserError``
        or ``OutOfMemory``.
        """
        variant = get_model(request.model, self._settings)
        progress = Progress(job, on_event, is_cancelled)
        watch_peak_memory(self._resident.device)
        with (
            self._resident.released_on_failure(),
            out_of_memory_told(request, self._resident.device),
            outputs.appearing_when_finished(output, job) as part,
        ):
            ladder = Ladder(request, variant, self._resident)
            while not self._attempt(request, part, ladder, progress):
                pass
        if self._settings.sidecar:
            self._write_sidecar(request, output, progress)
        return output

    def _attempt(
        self, request: GenerationRequest, part: Path, ladder: Ladder, progress: Progress
    ) -> bool:
        """Make the video on the ladder's rung; ``False`` when memory ran out and there
        is another rung to try."""
        try:
            self._make(request, part, ladder, progress)
        except (MemoryError, RuntimeError) as error:
            rung = ladder.next_rung() if is_out_of_memory(error) else None
            if rung is None:
                raise
        else:
            return True
        ladder.climb(rung, progress)  # only now what failed is freed
        return False

    def _make(
        self, request: GenerationRequest, part: Path, ladder: Ladder, progress: Progress
    ) -> None:
        variant = get_model(request.model, self._settings)
        family = get_family(variant.family)
        progress.begin("load", f"loading {variant.title}")
        working = working_bytes(variant, request)
        model = self._resident.get(variant, progress, working=working)
        with interruptible(model.pipeline, progress.check):
            if ladder.latents is None:
                chunks = ladder.rung.chunks
                with feed_forward_chunked(model.pipeline, chunks):
                    ladder.latents = self._denoise(family, model, request, progress)
            progress.begin("decode")
            model.make_room()
            frames = family.decode(model, ladder.latents, ladder.decoded_as)
            self._write(frames, request, part, progress)
        _keep_sound(request, part, progress)
        progress.check()

    def _denoise(
        self,
        family: Family,
        model: LoadedModel,
        request: GenerationRequest,
        progress: Progress,
    ) -> Any:
        """The video's latents."""
        progress.begin("encode")
        if unused := unused_negative_prompt(model.variant, *guidance_of(request)):
            progress.warn(unused)
        conditioning = family.encode(model, request)
        with (
            loras_applied(model, request, self._settings, progress) as follow,
            self._steps_cached(model, request, progress),
        ):
            progress.begin("denoise")
            return family.denoise(
                model,
                conditioning,
                request,
                follow(_reporting_steps(family, model, progress)),
                lambda part: progress.begin("denoise", part),
            )

    @property
    def counted(self) -> dict[str, Any]:
        """What the last job took that no event tells: fields of ``Timing``."""
        return {**self._calls, "peak_gib": peak_memory(self._resident.device)}

    def close(self) -> None:
        """Free the model's memory."""
        self._resident.release()

    @contextmanager
    def _steps_cached(
        self, model: LoadedModel, request: GenerationRequest, progress: Progress
    ) -> Iterator[None]:
        """With the step cache that the request asks for, whose work is counted."""
        self._calls = {}
        if request.step_cache in (None, "none"):
            yield
            return
        # It loads torch.
        from engine.sampling.step_cache import DEFAULT_THRESHOLD, steps_forecast

        second = getattr(model.pipeline, "transformer_2", None)
        if multipliers_vary(request.enabled_loras, pair=second is not None):
            progress.warn(
                "the step cache is off: a LoRA's multiplier changes between the steps"
            )
            yield
            return
        threshold = request.step_cache_threshold or DEFAULT_THRESHOLD
        with steps_forecast(model.pipeline, threshold) as calls:
            yield
        self._calls = {
            "transformer_calls": calls.asked,
            "forecast_calls": calls.forecast,
        }

    def _write(
        self,
        chunks: Iterator[np.ndarray],
        request: GenerationRequest,
        part: Path,
        progress: Progress,
    ) -> None:
        """Decode into the file, chunk by chunk, so that memory holds one chunk."""
        assert request.width and request.height and request.num_frames and request.fps
        tags = {
            "comment": portable(request, self._settings).to_json(),
            "description": f"wgp {engine.__version__}",
        }
        with VideoWriter(
            part,
            width=request.width,
            height=request.height,
            fps=request.fps,
            tags=tags,
        ) as video:
            for frame in _frames_before(request, progress):
                video.write(frame[None])
                progress.check()
            before = video.num_frames
            for frames in chunks:
                video.write(frames)
                progress.step(video.num_frames - before, request.num_frames)
            progress.begin("write")
        if video.num_frames - before != request.num_frames:
            raise RuntimeError(
                f"{request.model} made {video.num_frames - before} frames instead of "
                f"{request.num_frames}"
            )

    def _write_sidecar(
        self, request: GenerationRequest, output: Path, progress: Progress
    ) -> None:
        text = portable(request, self._settings).to_json() + "\n"
        sidecar = outputs.sidecar_path(output)
        try:
            sidecar.write_text(text, encoding="utf-8")
        except OSError as error:  # the video is there all the same
            progress.warn(f"can't write {sidecar}: {error.strerror}")


def generate(
    request: GenerationRequest | dict[str, Any],
    *,
    output: Path | None = None,
    settings: Settings | None = None,
    on_event: OnEvent = ignore,
) -> Path:
    """Make one video and return its path: the door for scripts.

    Without ``output`` it goes into the outputs folder. Raises ``UserError`` in plain
    words, or ``OutOfMemory``.
    """
    settings = settings or Settings()
    accepted = accept(request, folder=Path.cwd(), settings=settings)
    now = datetime.now(UTC)
    job = secrets.token_hex(4)
    path = output or outputs.output_path(job, now, accepted, settings.outputs)
    generator = Generator(settings)
    try:
        return generator.generate(accepted, path, job=job, on_event=on_event)
    finally:
        generator.close()


def _frames_before(
    request: GenerationRequest, progress: Progress
) -> Iterator[np.ndarray]:
    """Frames of the source video that come before the new ones: all but those that
    the new part begins with."""
    if request.source_video is None or request.overlap_frames is None:
        return
    assert request.width and request.height and request.fps
    progress.begin("decode", "the video that is continued")
    yield from all_but_last(
        read_clip(request.source_video, request.width, request.height, request.fps),
        request.overlap_frames,
    )
    progress.begin("decode")


def _keep_sound(request: GenerationRequest, part: Path, progress: Progress) -> None:
    if request.source_video is None:
        return
    try:
        keep_sound(Path(request.source_video), part)
    except UserError as error:  # the video is there all the same
        progress.warn(str(error))


def _reporting_steps(family: Family, model: LoadedModel, progress: Progress) -> OnStep:
    """Tells each denoising step, with a preview when it is due."""
    began = last = time.monotonic()
    spent = 0.0

    def on_step(done: int, total: int, latents: Any) -> None:
        nonlocal last, spent
        progress.step(done, total)
        now = time.monotonic()
        affordable = spent <= PREVIEW_SHARE * (now - began)
        if done < total and affordable and now - last >= PREVIEW_SECONDS:
            progress.preview(done, strip_data_url(family.preview(model, latents)))
            last = time.monotonic()
            spent += last - now

    return on_step
