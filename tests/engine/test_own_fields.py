"""Fields of a request that only some models have."""

import numpy as np
import pytest

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
