"""One pass and two give what diffusers' own pipelines give."""

import numpy as np
import pytest
import torch
from diffusers import LTXConditionPipeline, LTXLatentUpsamplePipeline
from diffusers.pipelines.ltx.pipeline_ltx_condition import LTXVideoCondition
from PIL import Image

from engine.errors import Cancelled, UserError
from ltx_video import FAMILY
from ltx_video import denoise as denoising
from ltx_video.config import Pass
from ltx_video.denoise import as_video, make_schedule
from ltx_video.encode import Pin, in_pieces, without_padding
from ltx_video.sizes import Size
from ltx_video.variants import config_of
from tests.tiny_ltx import CHANNELS

LEVELS = [1.0, 0.9545, 0.9, 0.8333, 0.75, 0.6429, 0.5, 0.3]


def latents_of(model, request, on_step=lambda *_: None, on_phase=lambda _: None):
    conditioning = FAMILY.encode(model, request)
    return FAMILY.denoise(model, conditioning, request, on_step, on_phase)


def diffusers_pipeline(model) -> LTXConditionPipeline:
    parts = dict(model.pipeline.components)
    parts.pop("latent_upsampler")
    pipeline = LTXConditionPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def diffusers_latents(model, request, generator, **more):
    values = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "width": request.width,
        "height": request.height,
        "num_frames": request.num_frames,
        "frame_rate": request.fps,
        "timesteps": torch.tensor(LEVELS) * 1000,
        "guidance_scale": request.guidance_scale,
        "generator": generator,
        "output_type": "latent",
        **more,
    }
    return diffusers_pipeline(model)(**values).frames


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_one_pass_is_diffusers_own_bit_for_bit(model, request_of, guidance_scale):
    request = request_of(guidance_scale=guidance_scale, negative_prompt="night")
    generator = torch.Generator("cpu").manual_seed(request.seed)
    theirs = diffusers_latents(model, request, generator)
    assert torch.equal(latents_of(model, request), theirs)


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_padding_of_prompts_can_be_cut_off(model, request_of, guidance_scale):
    request = request_of(guidance_scale=guidance_scale, negative_prompt="night")
    padded = FAMILY.encode(model, request)
    cut = without_padding(padded)
    assert cut.text.embeds.shape[1] < 10 < padded.text.embeds.shape[1]
    is_guided = guidance_scale > 1
    assert (cut.text.mask is None) != is_guided  # its prompts have unlike lengths
    if is_guided:
        assert cut.text.mask.all() and not cut.negative.mask.all()
    made = [
        FAMILY.denoise(model, each, request, lambda *_: None, lambda _: None)
        for each in (padded, cut)
    ]
    torch.testing.assert_close(*made, rtol=1e-4, atol=1e-4)


def test_given_frames_are_treated_as_diffusers_does(model, request_of, picture):
    request = request_of(image_start=picture, image_end=picture)
    generator = torch.Generator("cpu").manual_seed(request.seed)
    shown = Image.open(picture)
    theirs = diffusers_latents(
        model,
        request,
        generator,
        conditions=[
            LTXVideoCondition(image=shown, frame_index=0),
            LTXVideoCondition(image=shown, frame_index=16),
        ],
    )
    torch.testing.assert_close(latents_of(model, request), theirs, rtol=1e-4, atol=1e-4)


def test_two_passes_are_the_chain_of_diffusers_pipelines(two_passes, request_of):
    request = request_of(model="ltxv-demo-multiscale", width=128, height=128)
    generator = torch.Generator("cpu").manual_seed(request.seed)
    small = diffusers_latents(two_passes, request, generator, width=64, height=64)
    parts = two_passes.pipeline.components
    upsampling = LTXLatentUpsamplePipeline(
        vae=parts["vae"], latent_upsampler=parts["latent_upsampler"]
    )
    large = upsampling(
        latents=small, width=128, height=128, adain_factor=1.0, output_type="latent"
    ).frames
    levels = config_of(two_passes.variant).second_pass.timesteps
    theirs = diffusers_latents(
        two_passes,
        request,
        generator,
        latents=large,
        width=128,
        height=128,
        # Of four steps the last three: they begin with noise of the first level.
        timesteps=torch.tensor([1.0, *levels]) * 1000,
        denoise_strength=0.75,
    )
    assert torch.equal(latents_of(two_passes, request), theirs)


def test_steps_and_phases_of_both_passes_are_told(two_passes, request_of):
    steps, phases = [], []
    request = request_of(model="ltxv-demo-multiscale", width=128, height=128)
    latents_of(
        two_passes,
        request,
        lambda done, total, latents: steps.append((done, total, latents.shape[-1])),
        phases.append,
    )
    assert phases == ["first pass", "upsampling", "second pass"]
    assert [step[:2] for step in steps] == [(n, 11) for n in range(1, 12)]
    assert [step[2] for step in steps] == [2] * 8 + [4] * 3


def test_a_cancelled_job_leaves_the_next_one_whole(model, request_of):
    request = request_of()
    expected = latents_of(model, request)

    def cancel(done, *_):
        if done == 3:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        latents_of(model, request, cancel)
    assert torch.equal(latents_of(model, request), expected)


def test_a_start_image_stays_in_the_first_latent_frame(model, request_of, picture):
    request = request_of(image_start=picture)
    latents = latents_of(model, request)
    pin = FAMILY.encode(model, request).pins[0]
    vae = model.pipeline.vae
    with torch.no_grad():
        encoded = vae.encode(as_video(pin, Size(96, 64))).latent_dist
    shape = (1, -1, 1, 1, 1)
    mean, deviation = vae.latents_mean.view(shape), vae.latents_std.view(shape)
    # The latents are drawn from the VAE's distribution, and a little noise is left.
    off = (latents[:, :, :1] * deviation + mean - encoded.mode()).abs()
    assert float((off / (encoded.std + 0.1)).mean()) < 1.5
    assert float(latents[:, :, 1:].std()) > 0.1


def test_a_start_image_at_full_strength_is_pinned_exactly(
    model, request_of, picture, monkeypatch
):
    config = config_of(model.variant).model_copy(update={"image_cond_noise_scale": 0.0})
    monkeypatch.setattr(denoising, "config_of", lambda variant: config)
    request = request_of(image_start=picture)
    latents = latents_of(model, request)
    vae, generator = (
        model.pipeline.vae,
        torch.Generator("cpu").manual_seed(request.seed),
    )
    torch.randn(latents.shape, generator=generator)  # the video's noise is drawn first
    pin = FAMILY.encode(model, request).pins[0]
    with torch.no_grad():
        encoded = vae.encode(as_video(pin, Size(96, 64))).latent_dist.sample(generator)
    expected = model.pipeline._normalize_latents(
        encoded, vae.latents_mean, vae.latents_std
    )
    assert torch.equal(latents[:, :, :1], expected)


@pytest.mark.parametrize("start", [8, 12, 15])
def test_all_frames_of_a_clip_are_given_at_their_own_time(model, start):
    clip = Pin(np.zeros((25, 64, 96, 3), np.uint8), start, 1.0)
    pins = list(in_pieces(clip))
    with torch.no_grad():
        _, given, where, _ = model.pipeline.prepare_latents(
            [as_video(pin, Size(96, 64)) for pin in pins],
            [pin.strength for pin in pins],
            [pin.frame_index for pin in pins],
            num_channels_latents=CHANNELS,
            height=64,
            width=96,
            num_frames=65,
            generator=torch.Generator("cpu").manual_seed(0),
            device="cpu",
            dtype=torch.float32,
        )
    moments = set(where[0, 0, given[0] > 0].tolist())
    latent_frames = {start, start + 1, start + 9, start + 17}  # 1, 8, 8 and 8 frames
    assert latent_frames <= moments
    assert max(moments) == start + 17


def test_each_part_of_a_prompt_rules_its_share_of_the_frames(model, request_of):
    def latents(prompt: str):
        return latents_of(model, request_of(prompt=prompt, num_frames=65))

    base = latents("a red ball | a red ball")
    first = (latents("a blue cube | a red ball") - base).abs().mean((0, 1, 3, 4))
    second = (latents("a red ball | a blue cube") - base).abs().mean((0, 1, 3, 4))
    assert first[:4].mean() > 1.5 * first[5:].mean()
    assert second[5:].mean() > 1.5 * second[:4].mean()


def test_the_same_part_twice_is_the_part_once(model, request_of):
    once = latents_of(model, request_of(prompt="a red ball"))
    twice = latents_of(model, request_of(prompt="a red ball | a red ball"))
    torch.testing.assert_close(once, twice, rtol=1e-3, atol=1e-4)


def test_other_step_counts_follow_the_same_levels():
    plan = Pass(timesteps=(1.0, 0.9, 0.5))
    assert make_schedule(plan, 3, "first_pass").scheduler.sigmas.tolist() == (
        pytest.approx([1.0, 0.9, 0.5, 0.0])
    )
    more = make_schedule(plan, 6, "first_pass")
    levels = more.scheduler.sigmas.tolist()
    assert len(levels) == 7
    assert levels == sorted(levels, reverse=True)
    assert make_schedule(plan, 1, "first_pass").scheduler.sigmas.tolist() == [1.0, 0.0]


def test_skipped_steps_are_a_share_of_those_asked_for():
    plan = Pass(steps=30, skip_initial=17)
    schedule = make_schedule(plan, 30, "second_pass")
    assert (schedule.begin, schedule.end) == (17, 30)
    schedule = make_schedule(plan, 15, "second_pass")
    assert schedule.begin in (8, 9)


def test_a_schedule_without_steps_is_refused_with_a_sentence():
    plan = Pass(steps=30, skip_initial=17)
    with pytest.raises(UserError, match="1 steps leave none for the second pass"):
        make_schedule(plan, 1, "second_pass")


def test_given_frames_are_scaled_to_the_pass(picture, model, request_of):
    pin = FAMILY.encode(model, request_of(image_start=picture)).pins[0]
    video = as_video(pin, Size(48, 32))
    assert video.shape == (1, 3, 1, 32, 48)
    assert -1 <= float(video.min()) < float(video.max()) <= 1
    assert isinstance(pin, Pin)


def test_stochastic_steps_end_with_new_noise_of_the_next_level(
    model, request_of, monkeypatch
):
    """With a model that always predicts the noise of a video of zeros, each step's
    end is noise of the next level, and the last one is zero."""
    config = config_of(model.variant).model_copy(update={"stochastic_sampling": True})
    monkeypatch.setattr(denoising, "config_of", lambda variant: config)
    seen = []

    def predict(self, tokens, t, guidance):
        seen.append(tokens.latents.std().item())
        times = t.expand(1).unsqueeze(-1).float()
        return tokens.latents / (t / 1000), times

    monkeypatch.setattr(denoising._Passes, "_predict", predict)
    latents = latents_of(model, request_of(width=256, height=256))
    assert seen == pytest.approx(LEVELS, rel=0.06)
    torch.testing.assert_close(latents, torch.zeros_like(latents), rtol=0, atol=1e-5)


def test_two_passes_make_a_picture_of_one_cell(two_passes, request_of):
    request = request_of(
        model="ltxv-demo-multiscale", width=64, height=64, num_frames=1
    )
    assert latents_of(two_passes, request).isfinite().all()
