"""Fields of a request that only some models have."""

import numpy as np
import pytest
from PIL import Image

from engine.errors import RequestError
from engine.media.video import VideoWriter
from engine.validate import check


@pytest.fixture
def problems(settings, tmp_path):
    """What is said about a request with these values, by field; ``clip.mp4`` has 33
    frames."""
    with VideoWriter(
        tmp_path / "clip.mp4", width=64, height=48, fps=16.0, tags={}
    ) as video:
        video.write(np.zeros((33, 48, 64, 3), np.uint8))

    def problems(**values):
        data = {"prompt": "a red ball", **values}
        try:
            check(data, folder=tmp_path, settings=settings)
        except RequestError as error:
            return {one.field: one.message for one in error.problems}
        return {}

    return problems


def test_a_second_guidance_is_for_pairs_of_transformers(problems):
    assert problems(model="wan2.2-t2v-a14b", guidance_scale_2=2.0) == {}
    assert problems(model="wan-demo", guidance_scale_2=2.0) == {
        "guidance_scale_2": "wan-demo has one transformer, which guidance_scale is "
        "for; leave it out"
    }


def test_strength_is_for_models_that_make_a_video_anew(problems):
    source = {"source_video": "clip.mp4"}
    assert problems(model="wan-demo", strength=0.5, **source) == {}
    assert problems(model="ltxv-demo", strength=0.5, **source) == {
        "strength": "ltxv-demo makes no new video of a source video; leave it out"
    }
    assert problems(model="wan-demo", strength=0.5) == {
        "strength": "needs a source video to make a new one of"
    }


def test_strength_leaves_a_step(problems):
    given = {"model": "wan-demo", "source_video": "clip.mp4"}
    assert problems(num_inference_steps=8, strength=0.13, **given) == {}
    assert problems(num_inference_steps=8, strength=0.1, **given) == {
        "strength": "0.1 leaves none of 8 steps; 0.125 leaves one"
    }
    assert "must be more than 0" in problems(strength=0.0, **given)["strength"]


def test_strength_is_filled_in_with_a_source_video(settings, problems, tmp_path):
    data = {"model": "wan-demo", "prompt": "a"}
    alone = check(data, folder=tmp_path, settings=settings)
    assert alone.strength is None
    data["source_video"] = "clip.mp4"
    assert check(data, folder=tmp_path, settings=settings).strength == 0.8


SKYREELS = {"model": "skyreels-v2-df-1.3b-540p"}


def test_blocks_are_for_models_that_can_make_them_one_after_the_other(problems):
    assert problems(**SKYREELS, ar_step=5) == {}
    assert problems(model="wan-demo", ar_step=5) == {
        "ar_step": "wan-demo makes all frames together; leave it out"
    }


@pytest.mark.parametrize(
    ("num_frames", "near"), [(5, "17 and 37"), (33, "17 and 37"), (101, "97 and 117")]
)
def test_blocks_are_whole(problems, num_frames, near):
    assert problems(**SKYREELS, num_frames=num_frames, ar_step=0) == {}
    assert problems(**SKYREELS, num_frames=num_frames, ar_step=5) == {
        "num_frames": f"{num_frames} aren't whole blocks of 20, which an ar_step above "
        f"0 makes: {near} work"
    }


def test_what_a_block_goes_on_from_is_whole_blocks(problems):
    given = {**SKYREELS, "source_video": "clip.mp4"}
    assert problems(**given, overlap_frames=9) == {}
    assert problems(**given, overlap_frames=17, ar_step=5) == {}
    said = problems(**given, overlap_frames=9, ar_step=5)
    assert said["overlap_frames"].startswith("9 aren't whole blocks of 20")


def test_a_window_goes_on_from_fewer_frames_than_it_has(problems):
    given = {**SKYREELS, "source_video": "clip.mp4", "num_frames": 201}
    assert problems(**given, overlap_frames=97) == {
        "overlap_frames": "skyreels-v2-df-1.3b-540p goes on from at most 77 frames, "
        "not 97"
    }


def test_a_start_image_is_for_frames_that_are_made_together(problems, tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "still.png")
    given = {**SKYREELS, "image_start": "still.png"}
    assert problems(**given) == {}
    assert problems(**given, ar_step=5) == {
        "ar_step": "a start image is kept only when all frames are made together: "
        "give 0"
    }


def test_a_step_cache_is_for_all_models_and_its_threshold_for_it_alone(problems):
    for model in ("wan-demo", "ltxv-demo", "hyvideo-demo"):
        assert problems(model=model, step_cache="forecast") == {}
    assert problems(model="wan-demo", step_cache="none") == {}
    both = {"step_cache": "forecast", "step_cache_threshold": 0.02}
    assert problems(model="wan-demo", **both) == {}
    assert problems(model="wan-demo", step_cache_threshold=0.02) == {
        "step_cache_threshold": "says how a step cache works; give a step_cache, or "
        "leave it out"
    }
    assert problems(model="wan-demo", step_cache="teacache") == {
        "step_cache": "input should be 'none' or 'forecast'"
    }
    assert list(problems(model="wan-demo", **{**both, "step_cache_threshold": 0})) == [
        "step_cache_threshold"
    ]


def test_blocks_that_follow_one_another_have_no_step_cache(problems):
    skyreels = {"model": "skyreels-v2-df-1.3b-540p", "step_cache": "forecast"}
    assert "step_cache" not in problems(**skyreels, ar_step=0)
    assert problems(**skyreels, ar_step=5)["step_cache"] == (
        "each block has a time of its own with an ar_step above 0: give 0"
    )
