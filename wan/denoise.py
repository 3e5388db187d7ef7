"""The denoising loop: diffusers' pipeline with a scheduler made for this request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from engine.errors import UnreadableFile
from engine.family import LoadedModel, OnStep
from engine.request import GenerationRequest
from engine.sampling.phases import announce_phases
from engine.sampling.reporting import reporting
from wan.call import Conditioning
from wan.variants import options_of


def denoise(
    model: LoadedModel,
    conditioning: Conditioning,
    request: GenerationRequest,
    on_step: OnStep,
) -> torch.Tensor:
    """Latents (1, channels, latent frames, height / 8, width / 8), float32; smaller
    where the VAE shrinks more.

    The first noise is drawn on the CPU: a seed starts from the same noise on every
    device.
    """
    call = conditioning.call
    pipeline = call.pipeline
    assert request.scheduler is not None and request.flow_shift is not None
    scheduler = make_scheduler(
        request.scheduler, request.flow_shift, pipeline.scheduler.config
    )

    def told(done: int, _steps: int, latents: torch.Tensor) -> None:
        on_step(done, call.steps, call.shown(latents))

    announce_phases(*_phases(model, request, call.steps))
    pipeline.scheduler = reporting(scheduler, told)
    return run(model, conditioning, request)


def _phases(
    model: LoadedModel, request: GenerationRequest, steps: int
) -> tuple[int, ...]:
    """How many of the steps each transformer makes."""
    boundary = options_of(model.variant).boundary_ratio
    if boundary is None:
        return (steps,)
    assert request.scheduler is not None and request.flow_shift is not None
    config = model.pipeline.scheduler.config
    planned = make_scheduler(request.scheduler, request.flow_shift, config)
    planned.set_timesteps(request.num_inference_steps)
    level = boundary * planned.config.num_train_timesteps
    first = int((planned.timesteps >= level).sum())
    return first, steps - first


def run(
    model: LoadedModel,
    conditioning: Conditioning,
    request: GenerationRequest,
    **more: Any,
) -> torch.Tensor:
    """What the pipeline makes with the scheduler that it has."""
    call = conditioning.call
    latents: torch.Tensor = call.pipeline(
        prompt=None,  # some pipelines want the word
        prompt_embeds=conditioning.prompt_embeds,
        negative_prompt_embeds=conditioning.negative_prompt_embeds,
        width=request.width,
        height=request.height,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        max_sequence_length=model.variant.max_sequence_length,
        output_type="latent",
        return_dict=False,
        **call.arguments,
        **more,
    )[0]
    return latents[:, :, call.extra_frames :]


def load_scheduler(folder: Path) -> FlowMatchEulerDiscreteScheduler:
    """The model's own noise levels; each request then makes its own scheduler."""
    file = folder / "scheduler_config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableFile(f"can't read {file}: {error}") from error
    train_steps = config.get("num_train_timesteps", 1000)
    return FlowMatchEulerDiscreteScheduler(num_train_timesteps=train_steps)


def make_scheduler(name: str, flow_shift: float, config: Any) -> Any:
    """A fresh scheduler, because one that was cancelled keeps its history.

    ``config`` is that of the model's own scheduler; ``flow_shift`` moves the noise
    levels towards more noise (https://arxiv.org/abs/2403.03206, section 5.3.2).
    """
    train_steps = config.get("num_train_timesteps", 1000)
    if name == "euler":
        return FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=train_steps, shift=flow_shift
        )
    kind = {"unipc": UniPCMultistepScheduler, "dpm++": DPMSolverMultistepScheduler}
    return kind[name](
        num_train_timesteps=train_steps,
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=flow_shift,
    )
