"""The denoising: one pass, or two with the latents doubled in size between them.

The parts are those of diffusers' ``LTXConditionPipeline``; the loop is here because
its scales may change from step to step, and each frame may have a prompt of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule
from diffusers.utils.torch_utils import get_module_execution_device
from torch import Tensor
from torch.nn import functional as F

from engine.errors import UserError
from engine.family import LoadedModel, OnPhase, OnStep
from engine.request import GenerationRequest
from engine.sampling.phases import announce_phases
from ltx_video.config import LtxConfig, Pass
from ltx_video.encode import Conditioning, Pin, Text, without_padding
from ltx_video.guidance import attention_to_nothing, combine, guidance_at, parts_mask
from ltx_video.sizes import Size, doubled, first_size, whole_size
from ltx_video.upsample import upsample
from ltx_video.variants import config_of


@dataclass
class Tokens:
    """A video as the transformer sees it: given frames that have no place of their own
    among its latents come first."""

    latents: Tensor  # (1, tokens, channels), float32
    given: Tensor | None
    """How far each token is given, (1, tokens); ``None``: none is."""
    where: Tensor  # (1, 3, tokens): seconds, y, x
    extra: int
    """So many come first."""


@dataclass(frozen=True)
class Schedule:
    """Which steps are made: those from ``begin`` to ``end``."""

    scheduler: Any
    levels: tuple[float, ...]
    """Noise levels of all steps, as numbers: asking the GPU would wait for it."""
    begin: int
    end: int

    @property
    def steps(self) -> int:
        return self.end - self.begin


@torch.no_grad()
def denoise(
    model: LoadedModel,
    conditioning: Conditioning,
    request: GenerationRequest,
    on_step: OnStep,
    on_phase: OnPhase,
) -> Tensor:
    """Latents (1, channels, latent frames, height / 32, width / 32), float32, of the
    whole cells that hold the video; two passes end at about 4/3 of its size."""
    config = config_of(model.variant)
    assert request.width and request.height and request.num_inference_steps
    whole = whole_size(request.width, request.height)
    generator = torch.Generator("cpu").manual_seed(request.seed)
    steps = request.num_inference_steps
    run = _Passes(model, conditioning, request, config, generator)
    first = run.schedule(config.first_pass, steps, "first_pass")
    if config.second_pass is None:
        announce_phases(first.steps)
        return run(
            config.first_pass,
            first,
            whole,
            None,
            lambda done, latents: on_step(done, first.steps, latents),
        )
    listed = config.second_pass.timesteps
    second_steps = len(listed) if listed else steps
    second = run.schedule(config.second_pass, second_steps, "second_pass")
    announce_phases(first.steps, second.steps)
    total = first.steps + second.steps
    size = first_size(whole, config.downscale_factor)
    on_phase("first pass")
    latents = run(
        config.first_pass,
        first,
        size,
        None,
        lambda done, seen: on_step(done, total, seen),
    )
    on_phase("upsampling")
    latents = upsample(model.pipeline, latents, config)
    on_phase("second pass")
    return run(
        config.second_pass,
        second,
        doubled(size),
        latents,
        lambda done, seen: on_step(first.steps + done, total, seen),
    )


class _Passes:
    """What both passes share."""

    def __init__(
        self,
        model: LoadedModel,
        conditioning: Conditioning,
        request: GenerationRequest,
        config: LtxConfig,
        generator: torch.Generator,
    ) -> None:
        self.pipeline = model.pipeline
        self.transformer = model.pipeline.transformer
        self.device = get_module_execution_device(self.transformer)
        # A CPU gains nothing by it, and keeps to the bits of diffusers' own pipelines.
        is_cut = self.device.type == "cuda"
        self.conditioning = without_padding(conditioning) if is_cut else conditioning
        self.request = request
        self.config = config
        self.generator = generator
        self.usual_scale = float(model.variant.defaults["guidance_scale"])

    def schedule(self, plan: Pass, steps: int, name: str) -> Schedule:
        """Its noise levels, on the transformer's device."""
        is_stochastic = self.config.stochastic_sampling
        return make_schedule(
            plan, steps, name, self.device, stochastic_sampling=is_stochastic
        )

    def __call__(
        self,
        plan: Pass,
        schedule: Schedule,
        size: Size,
        latents: Tensor | None,
        on_step: Callable[[int, Tensor], None],
    ) -> Tensor:
        """Denoise from noise, or from ``latents`` with noise of the first level."""
        request, config = self.request, self.config
        assert request.guidance_scale is not None
        scheduler = schedule.scheduler
        level = None
        if latents is not None:
            level = scheduler.sigmas[schedule.begin : schedule.begin + 1]
        tokens = self._prepare(size, latents, level)
        initial = tokens.latents.clone()
        grid = (size.height // 32, size.width // 32)
        for done, index in enumerate(range(schedule.begin, schedule.end), start=1):
            t = scheduler.timesteps[index]
            if config.image_cond_noise_scale > 0 and tokens.given is not None:
                tokens.latents = self.pipeline.add_noise_to_image_conditioning_latents(
                    t / 1000.0,
                    initial,
                    tokens.latents,
                    config.image_cond_noise_scale,
                    tokens.given,
                    self.generator,
                )
            guidance = guidance_at(
                plan.guidance,
                schedule.levels[index],
                request.guidance_scale,
                self.usual_scale,
            )
            before = tokens.latents
            velocity, times = self._predict(tokens, t, guidance)
            # Per token, the scheduler counts levels upwards, but not from new noise.
            made = scheduler.step(
                velocity if config.stochastic_sampling else -velocity,
                t,
                before,
                per_token_timesteps=times,
                generator=self.generator,
                return_dict=False,
            )[0]
            if tokens.given is not None:
                is_free = (t / 1000 - 1e-6 < 1.0 - tokens.given).unsqueeze(-1)
                made = torch.where(is_free, made, before)
            tokens.latents = made
            expected = before - velocity.float() * (times / 1000).unsqueeze(-1)
            on_step(done, self._unpack(expected, tokens.extra, grid))
        return self._unpack(tokens.latents, tokens.extra, grid)

    def _prepare(
        self, size: Size, latents: Tensor | None, level: Tensor | None
    ) -> Tokens:
        request, pipeline = self.request, self.pipeline
        assert request.fps
        pins = self.conditioning.pins
        vae_device = get_module_execution_device(pipeline.vae)
        packed, given, where, extra = pipeline.prepare_latents(
            [as_video(pin, size).to(vae_device, pipeline.vae.dtype) for pin in pins],
            [pin.strength for pin in pins],
            [pin.frame_index for pin in pins],
            num_channels_latents=pipeline.transformer.config.in_channels,
            height=size.height,
            width=size.width,
            num_frames=request.num_frames,
            sigma=level,
            latents=latents,
            generator=self.generator,
            device=self.device,
            dtype=torch.float32,
        )
        where = where.float()
        where[:, 0] = where[:, 0] * (1.0 / request.fps)
        return Tokens(packed, given, where, extra)

    def _predict(self, tokens: Tokens, t: Tensor, guidance: Any) -> tuple[Tensor, ...]:
        """The velocity to follow, and each token's timestep."""
        text, negative = self.conditioning.text, self.conditioning.negative
        times = t.expand(1).unsqueeze(-1).float()
        if tokens.given is not None:
            times = torch.min(times, (1 - tokens.given) * 1000.0)
        is_guided = guidance.guidance_scale > 1
        both = [text]
        if is_guided:
            assert negative is not None
            both = [negative, text]
        predicted = self._call(tokens, both, times).chunk(len(both))
        perturbed = None
        if guidance.stg_scale > 0:
            with attention_to_nothing(self.transformer, guidance.stg_blocks):
                perturbed = self._call(tokens, [text], times)
        velocity = combine(
            guidance,
            predicted[-1],
            predicted[0] if is_guided else None,
            perturbed,
            cfg_star=self.config.cfg_star_rescale,
        )
        return velocity, times

    def _call(self, tokens: Tokens, texts: list[Text], times: Tensor) -> Tensor:
        """Predictions for each of ``texts``."""
        count = len(texts)
        embeds = torch.cat([text.embeds for text in texts]).to(self.device)
        with self.transformer.cache_context("cond_uncond"):
            predicted: Tensor = self.transformer(
                hidden_states=torch.cat([tokens.latents] * count).to(embeds.dtype),
                encoder_hidden_states=embeds,
                timestep=torch.cat([times] * count),
                encoder_attention_mask=self._mask(tokens, texts, embeds.dtype),
                video_coords=torch.cat([tokens.where] * count),
                return_dict=False,
            )[0]
        return predicted

    def _mask(
        self, tokens: Tokens, texts: list[Text], dtype: torch.dtype
    ) -> Tensor | None:
        """Which words the tokens may look at; ``None``: at all of them."""
        assert self.request.num_frames and self.request.fps
        length = self.request.num_frames / self.request.fps
        where, parts = tokens.where[0, 0], self.conditioning.parts
        masks = [
            parts_mask(text.mask.to(self.device), where, length, parts)
            for text in texts
            if text.mask is not None
        ]
        return _of_dtype(torch.cat(masks), dtype) if masks else None

    def _unpack(self, latents: Tensor, extra: int, grid: tuple[int, int]) -> Tensor:
        own = latents[:, extra:]
        frames = own.shape[1] // (grid[0] * grid[1])
        unpacked: Tensor = self.pipeline._unpack_latents(own, frames, *grid)
        return unpacked


def make_schedule(
    plan: Pass,
    steps: int,
    name: str,
    device: Any = "cpu",
    *,
    stochastic_sampling: bool = False,
) -> Schedule:
    """The noise levels of a pass of ``steps`` steps.

    Levels that a pass lists are followed at other counts, too: those between are
    interpolated. Raises ``UserError`` when no step is left.
    """
    if plan.timesteps is None:
        levels = linear_quadratic_schedule(steps)
    elif len(plan.timesteps) == steps:
        levels = torch.tensor(plan.timesteps)
    else:
        curve = [*plan.timesteps, 0.0]
        places = np.linspace(0, len(curve) - 1, steps + 1)[:-1]
        levels = torch.from_numpy(np.interp(places, range(len(curve)), curve)).float()
    of = plan.steps or steps
    begin = round(plan.skip_initial / of * len(levels))
    end = len(levels) - round(plan.skip_final / of * len(levels))
    if begin >= end:
        raise UserError(
            f"{steps} steps leave none for the {name.replace('_', ' ')}: ask for at "
            f"least {of}"
        )
    scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=stochastic_sampling)
    scheduler.set_timesteps(
        timesteps=(levels * 1000).tolist(), sigmas=levels.tolist(), device=device
    )
    scheduler.set_begin_index(begin)
    return Schedule(scheduler, tuple(levels.tolist()), begin, end)


def as_video(pin: Pin, size: Size) -> Tensor:
    """The frames in this size, float (1, 3, frames, height, width) in [-1, 1]."""
    frames = torch.from_numpy(pin.frames).permute(0, 3, 1, 2).float()
    if frames.shape[2:] != (size.height, size.width):
        frames = F.interpolate(
            frames, (size.height, size.width), mode="bicubic", antialias=True
        ).clamp(0, 255)
    return frames.permute(1, 0, 2, 3)[None] / 127.5 - 1


def _of_dtype(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask over tokens is added to scores, and has their precision."""
    return mask.to(dtype) if mask.ndim == 3 else mask
