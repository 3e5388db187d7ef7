import numpy as np
import pytest
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoImageToVideoPipeline,
    HunyuanVideoPipeline,
)
from PIL import Image

from engine.errors import Cancelled
from engine.family import get_variant
from hyvideo import FAMILY
from hyvideo.attention import attend_without_mask
from hyvideo.variants import options_of
from tests.tiny_hyvideo import CHANNELS

FROM_TEXT = ("hyvideo-demo", "hunyuan-video-t2v")
FROM_IMAGE = ("hunyuan-video-i2v", "hunyuan-video-i2v-33ch")
EMBEDDED = ("hunyuan-video-t2v", "hunyuan-video-i2v")
FRAMES = {"hunyuan-video-i2v-33ch": 13}
"""Of the pipeline, for a video of 9."""


def nothing(done, total, latents):
    pass


def denoise(model, request, on_step=nothing):
    return FAMILY.denoise(model, FAMILY.encode(model, request), request, on_step, str)


def upstream(row, folder):
    kind = (
        HunyuanVideoImageToVideoPipeline if row in FROM_IMAGE else HunyuanVideoPipeline
    )
    pipeline = kind.from_pretrained(folder)
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=5.0)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call_upstream(row, folder, request, picture, **more):
    """diffusers' own pipeline as its users call it."""
    if row in FROM_IMAGE:
        more["image"] = Image.open(picture)
    if template := options_of(get_variant(row)).template:
        more["prompt_template"] = template
    is_embedded = row in EMBEDDED
    scale = request.true_cfg_scale if is_embedded else request.guidance_scale
    return upstream(row, folder)(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        width=64,
        height=48,
        num_frames=FRAMES.get(row, 9),
        num_inference_steps=3,
        guidance_scale=request.guidance_scale if is_embedded else 1.0,
        true_cfg_scale=scale,
        generator=torch.Generator().manual_seed(request.seed),
        **more,
    ).frames


@pytest.mark.parametrize("true_cfg_scale", [1.0, 4.0])
@pytest.mark.parametrize("row", [*FROM_TEXT, *FROM_IMAGE])
def test_videos_are_those_of_diffusers_own_pipeline(
    load, tiny_folder_of, request_of, picture, row, true_cfg_scale
):
    """Within rounding: it pads the prompt and masks the padding, which changes the
    order of sums."""
    values = {"guidance_scale": true_cfg_scale}
    if row in EMBEDDED:
        values = {"guidance_scale": 6.0, "true_cfg_scale": true_cfg_scale}
    if row in FROM_IMAGE:
        values["image_start"] = picture
    request = request_of(
        model=row, flow_shift=5.0, negative_prompt="a blue cube", **values
    )
    model = load(row)
    latents = denoise(model, request)
    theirs = call_upstream(
        row, tiny_folder_of(row), request, picture, output_type="latent"
    )
    lead = latents.shape[2] - theirs.shape[2]
    assert lead == (1 if row in FRAMES else 0)
    assert theirs.shape == (1, CHANNELS, 3, 6, 8)
    assert (latents[:, :, lead:] - theirs).abs().max() < 1e-4
    frames = np.concatenate(list(FAMILY.decode(model, latents, request)))
    video = call_upstream(row, tiny_folder_of(row), request, picture, output_type="np")[
        0
    ]
    assert frames.shape == video.shape == (9, 48, 64, 3)
    assert np.abs(frames / 255 - video).max() < 1 / 255


@pytest.mark.parametrize("row", [*FROM_TEXT, *FROM_IMAGE])
def test_latents_are_bit_for_bit_those_of_diffusers_with_the_same_words(
    load, tiny_folder_of, request_of, picture, row
):
    """The same embeddings, without padding and without its mask: what else a pipeline
    does is the same to the last bit."""
    values = {"image_start": picture} if row in FROM_IMAGE else {}
    request = request_of(model=row, flow_shift=5.0, **values)
    model = load(row)
    conditioning = FAMILY.encode(model, request)
    ours = FAMILY.denoise(model, conditioning, request, nothing, str)
    pipeline = upstream(row, tiny_folder_of(row))
    attend_without_mask(pipeline.transformer)
    more = {"image": conditioning.image} if row in FROM_IMAGE else {}
    theirs = pipeline(
        **conditioning.text.arguments(),
        **more,
        width=64,
        height=48,
        num_frames=FRAMES.get(row, 9),
        num_inference_steps=3,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="latent",
    ).frames
    assert torch.equal(ours[:, :, ours.shape[2] - theirs.shape[2] :], theirs)


@pytest.mark.parametrize("num_frames", [1, 5, 13, 33])
@pytest.mark.parametrize("row", [*FROM_TEXT, *FROM_IMAGE])
def test_a_video_has_as_many_frames_as_were_asked_for(
    load, request_of, picture, row, num_frames
):
    values = {"image_start": picture} if row in FROM_IMAGE else {}
    request = request_of(
        model=row, num_frames=num_frames, num_inference_steps=1, **values
    )
    model = load(row)
    latents = denoise(model, request)
    frames = np.concatenate(list(FAMILY.decode(model, latents, request)))
    assert frames.shape == (num_frames, 48, 64, 3)


@pytest.mark.parametrize("row", ["hyvideo-demo", "hunyuan-video-i2v"])
def test_token_replace_keeps_the_image_as_the_first_latent_frame(
    load, request_of, picture, row
):
    model = load(row)
    latents = denoise(model, request_of(model=row, image_start=picture))
    pixels = np.asarray(Image.open(picture), np.float32) / 127.5 - 1
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None, :, None]
    vae = model.pipeline.vae
    with torch.no_grad():
        own = vae.encode(image).latent_dist.mode() * vae.config.scaling_factor
    torch.testing.assert_close(latents[:, :, :1], own)


def test_the_demo_takes_a_start_image_or_none_in_any_order(load, request_of, picture):
    model = load("hyvideo-demo")
    plain, started = request_of(), request_of(image_start=picture)
    first = denoise(model, plain)
    second = denoise(model, started)
    assert first.shape == second.shape
    assert not torch.equal(first, second)
    assert torch.equal(denoise(model, plain), first)
    assert torch.equal(denoise(model, started), second)


def test_a_start_image_is_encoded_as_a_whole_after_a_tiled_decoding(
    load, request_of, picture
):
    model = load("hyvideo-demo")
    request = request_of(image_start=picture, width=128, height=128, vae_tile_size=64)
    first = denoise(model, request)
    list(FAMILY.decode(model, first, request))
    assert torch.equal(denoise(model, request), first)


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": "a blue cube"},
        {"flow_shift": 3.0},
        {"num_inference_steps": 4},
        {"guidance_scale": 8.0},
        {"true_cfg_scale": 3.0},
        {"seed": 12},
    ],
)
def test_each_choice_matters_and_a_seed_repeats_after_it(load, request_of, values):
    model = load("hunyuan-video-t2v")
    usual = {"model": "hunyuan-video-t2v", "guidance_scale": 6.0}
    first = denoise(model, request_of(**usual))
    assert not torch.equal(denoise(model, request_of(**{**usual, **values})), first)
    assert torch.equal(denoise(model, request_of(**usual)), first)


def test_embedded_guidance_leaves_the_negative_prompt_without_effect(load, request_of):
    row = "hunyuan-video-t2v"
    model = load(row)

    def latents(negative_prompt, true_cfg_scale):
        return denoise(
            model,
            request_of(
                model=row,
                guidance_scale=6.0,
                negative_prompt=negative_prompt,
                true_cfg_scale=true_cfg_scale,
            ),
        )

    assert torch.equal(latents("", 1.0), latents("a blue cube", 1.0))
    assert not torch.equal(latents("", 3.0), latents("a blue cube", 3.0))


@pytest.mark.parametrize("row", [*FROM_TEXT, *FROM_IMAGE])
def test_each_step_shows_all_frames_and_the_last_one_the_result(
    load, request_of, picture, row
):
    values = {"image_start": picture} if row in FROM_IMAGE else {}
    model, told = load(row), []
    request = request_of(model=row, num_inference_steps=4, **values)
    result = denoise(model, request, lambda *step: told.append(step))
    assert [step[:2] for step in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    torch.testing.assert_close(told[-1][2], result[:, :, -3:])
    assert {tuple(step[2].shape) for step in told} == {(1, CHANNELS, 3, 6, 8)}


def test_a_cancelled_job_does_not_touch_the_next(load, request_of, picture):
    model = load("hyvideo-demo")
    request = request_of(image_start=picture)
    expected, steps = denoise(model, request), []

    def cancel(done, total, latents):
        steps.append(done)
        raise Cancelled("stop")

    with pytest.raises(Cancelled):
        denoise(model, request, cancel)
    assert steps == [1]
    assert torch.equal(denoise(model, request), expected)
