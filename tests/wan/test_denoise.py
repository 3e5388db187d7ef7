import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanPipeline,
)

from engine.errors import Cancelled
from tests.tiny_wan import CHANNELS
from wan import FAMILY
from wan.denoise import make_scheduler
from wan.variants import VARIANTS

SCHEDULERS = VARIANTS[0].schedulers

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}


def upstream_scheduler(name, flow_shift):
    if name == "euler":
        return FlowMatchEulerDiscreteScheduler(shift=flow_shift)
    kind = {"unipc": UniPCMultistepScheduler, "dpm++": DPMSolverMultistepScheduler}
    return kind[name](flow_shift=flow_shift, **FLOW)


def denoise(model, request, on_step=lambda done, total, latents: None):
    return FAMILY.denoise(model, FAMILY.encode(model, request), request, on_step, str)


@pytest.mark.parametrize("guidance_scale", [1.0, 4.0])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_latents_are_those_of_diffusers_own_pipeline_bit_for_bit(
    model, tiny_folder, request_of, scheduler, guidance_scale
):
    request = request_of(
        scheduler=scheduler,
        guidance_scale=guidance_scale,
        flow_shift=5.0,
        negative_prompt="a blue cube",
        prompt="  a red\n ball &amp; a  cube ",
        num_inference_steps=4,
    )
    ours = denoise(model, request)
    pipeline = WanPipeline.from_pretrained(tiny_folder)
    pipeline.scheduler = upstream_scheduler(scheduler, 5.0)
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=64,
        height=48,
        num_frames=9,
        num_inference_steps=4,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="latent",
    ).frames
    assert ours.shape == (1, CHANNELS, 3, 6, 8)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_seed_repeats_after_other_jobs_bit_for_bit(model, request_of, scheduler):
    request = request_of(scheduler=scheduler)
    first = denoise(model, request)
    other = denoise(model, request_of(scheduler=scheduler, seed=12))
    assert torch.equal(denoise(model, request), first)
    assert not torch.equal(other, first)


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": "a blue cube"},
        {"flow_shift": 8.0},
        {"scheduler": "euler"},
        {"scheduler": "dpm++"},
        {"num_inference_steps": 5},
        {"guidance_scale": 3.0},
    ],
)
def test_each_choice_matters(model, request_of, values):
    assert not torch.equal(
        denoise(model, request_of(**values)), denoise(model, request_of())
    )


def test_the_negative_prompt_matters_only_with_guidance(model, request_of):
    def latents(negative_prompt, guidance_scale):
        return denoise(
            model,
            request_of(negative_prompt=negative_prompt, guidance_scale=guidance_scale),
        )

    assert not torch.equal(latents("", 4.0), latents("a blue cube", 4.0))
    assert torch.equal(latents("", 1.0), latents("a blue cube", 1.0))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_each_step_is_told_and_the_last_one_with_the_result(
    model, request_of, scheduler
):
    told = []
    request = request_of(scheduler=scheduler, num_inference_steps=5)
    result = denoise(model, request, lambda *step: told.append(step))
    assert [(done, total) for done, total, _ in told] == [(k, 5) for k in range(1, 6)]
    assert torch.allclose(told[-1][2], result, atol=1e-5)


def test_a_cancelled_job_does_not_touch_the_next(model, request_of):
    request = request_of(num_inference_steps=4)
    expected = denoise(model, request)
    steps = []

    def cancel(done, total, latents):
        steps.append(done)
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        denoise(model, request, cancel)
    assert steps == [1]
    assert torch.equal(denoise(model, request), expected)


def test_the_models_training_steps_are_kept():
    for name in SCHEDULERS:
        scheduler = make_scheduler(name, 3.0, {"num_train_timesteps": 500})
        assert scheduler.config.num_train_timesteps == 500
