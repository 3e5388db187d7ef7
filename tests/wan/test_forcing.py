"""Diffusion forcing against diffusers' own pipelines, called directly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import (
    SkyReelsV2DiffusionForcingImageToVideoPipeline,
    SkyReelsV2DiffusionForcingPipeline,
    SkyReelsV2DiffusionForcingVideoToVideoPipeline,
)
from PIL import Image

from engine.family import LoadedModel
from engine.media.frames import load_clip
from engine.media.video import VideoWriter
from tests.wan.test_tasks import theirs
from wan import FAMILY
from wan.forcing import plan

MODEL = "skyreels-v2-df-1.3b-540p"
WINDOW = 37
"""Frames, 10 latent ones: short windows keep the tests quick."""


@pytest.fixture
def model(load_row):
    loaded = load_row(MODEL)
    variant = replace(loaded.variant, window_frames=WINDOW)
    return LoadedModel(variant, loaded.pipeline)


@pytest.fixture
def request_for(row_request):
    """A request for whole blocks."""
    return lambda **values: row_request(
        MODEL, **{"num_frames": 37, "ar_step": 0, **values}
    )


@pytest.fixture
def clip(tmp_path):
    made = tmp_path / "clip.mp4"
    shape = (30, 48, 64, 3)
    with VideoWriter(made, width=64, height=48, fps=24.0, tags={}) as video:
        video.write(np.random.default_rng(5).integers(0, 256, shape, np.uint8))
    return made


def ours(model, request):
    """The latents, the steps that were told, and the phases."""
    told, phases = [], []
    latents = FAMILY.denoise(
        model,
        FAMILY.encode(model, request),
        request,
        lambda done, total, latents: told.append((done, total, latents)),
        phases.append,
    )
    return latents, told, phases


def reference(kind, row_folder, request, **arguments):
    return theirs(
        kind,
        row_folder,
        request,
        num_frames=request.num_frames,
        base_num_frames=WINDOW,
        overlap_history=request.overlap_frames or 17,
        fps=24,
        **arguments,
    )


ASYNCHRONOUS = {"ar_step": 2, "causal_block_size": 5}


@pytest.mark.parametrize("scheduler", ["unipc", "dpm++"])
def test_frames_together_are_what_diffusers_makes(
    model, row_folder, request_for, scheduler
):
    request = request_for(scheduler=scheduler)
    made, told, phases = ours(model, request)
    expected = reference(SkyReelsV2DiffusionForcingPipeline, row_folder, request)
    assert made.shape == (1, 16, 10, 6, 8)
    assert torch.equal(made, expected)
    assert [(done, total) for done, total, _ in told] == [(1, 3), (2, 3), (3, 3)]
    assert torch.equal(told[-1][2], made)
    assert phases == []


def test_blocks_after_one_another_are_what_diffusers_makes(
    model, row_folder, request_for
):
    request = request_for(ar_step=2)
    made, told, _ = ours(model, request)
    expected = reference(
        SkyReelsV2DiffusionForcingPipeline, row_folder, request, **ASYNCHRONOUS
    )
    assert torch.equal(made, expected)
    assert [(done, total) for done, total, _ in told] == [(k, 5) for k in range(1, 6)]
    # The second block begins when the first is two steps on.
    first, second = told[0][2], told[1][2]
    assert torch.equal(first[:, :, 5:], second[:, :, 5:])
    assert not torch.equal(first[:, :, :5], second[:, :, :5])


def test_blocks_leave_nothing_behind(model, request_for):
    before, *_ = ours(model, request_for())
    ours(model, request_for(ar_step=2))
    again, *_ = ours(model, request_for())
    assert torch.equal(again, before)


@pytest.mark.parametrize("ar_step", [0, 2])
def test_a_long_video_is_made_in_windows_as_diffusers_does(
    model, row_folder, request_for, ar_step
):
    request = request_for(num_frames=77, ar_step=ar_step)
    made, told, phases = ours(model, request)
    expected = reference(
        SkyReelsV2DiffusionForcingPipeline,
        row_folder,
        request,
        addnoise_condition=20,
        ar_step=ar_step,
        causal_block_size=5 if ar_step else 1,
    )
    assert made.shape[2] == 20
    assert torch.equal(made, expected)
    assert phases == [f"window {number} of 3" for number in (1, 2, 3)]
    total = sum(plan(model.variant, request))
    assert [(done, of) for done, of, _ in told] == [
        (done, total) for done in range(1, total + 1)
    ]


def test_a_long_video_repeats_and_leaves_torchs_random_numbers_alone(
    model, request_for
):
    request = request_for(num_frames=77)
    first, *_ = ours(model, request)
    torch.manual_seed(99)
    expected = torch.rand(4)
    torch.manual_seed(99)
    again, *_ = ours(model, request)
    assert torch.equal(again, first)
    assert torch.equal(torch.rand(4), expected)


def test_a_start_image_is_the_first_frame(model, row_folder, request_for, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "first.png")
    request = request_for(image_start=str(tmp_path / "first.png"))
    made, told, _ = ours(model, request)
    expected = reference(
        SkyReelsV2DiffusionForcingImageToVideoPipeline,
        row_folder,
        request,
        image=Image.fromarray(pixels),
    )
    assert torch.equal(made, expected)
    assert all(torch.equal(each[:, :, 0], made[:, :, 0]) for *_, each in told)


@pytest.mark.parametrize(
    ("num_frames", "ar_step"), [(37, 0), (77, 0), (37, 2), (77, 2)]
)
def test_a_source_video_goes_on_as_diffusers_does(
    model, row_folder, request_for, clip, num_frames, ar_step
):
    request = request_for(
        source_video=str(clip),
        overlap_frames=17,
        num_frames=num_frames,
        ar_step=ar_step,
        fps=24.0,
    )
    made, told, _ = ours(model, request)
    frames = load_clip(clip, 64, 48, 24, last=17)
    expected = reference(
        SkyReelsV2DiffusionForcingVideoToVideoPipeline,
        row_folder,
        request,
        video=[Image.fromarray(frame) for frame in frames],
        addnoise_condition=20,
        ar_step=ar_step,
        causal_block_size=5 if ar_step else 1,
    )
    assert made.shape[2] == (num_frames - 1) // 4 + 1
    assert torch.equal(made, expected)
    total = sum(plan(model.variant, request))
    assert [(done, of) for done, of, _ in told] == [
        (done, total) for done in range(1, total + 1)
    ]


def test_windows_of_the_720p_model_are_whole_blocks_when_asynchronous(load_row):
    from engine.family import get_variant
    from engine.request import GenerationRequest
    from wan.forcing import window_frames

    variant = get_variant("skyreels-v2-df-14b-720p")
    values = {"model": variant.id, "prompt": "a"}
    together = GenerationRequest(**values, ar_step=0)
    assert window_frames(variant, together) == 121
    assert window_frames(variant, together.with_values(ar_step=5)) == 117
