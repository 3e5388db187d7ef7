"""When input media are shown, and what is wrong with that."""

import numpy as np
import pytest
from PIL import Image

from engine.errors import RequestError
from engine.media.video import VideoWriter
from engine.validate import check

pytestmark = pytest.mark.usefixtures("use_fake_family")


@pytest.fixture
def folder(tmp_path):
    """``nine.mp4`` and ``three.mp4`` at 8 frames per second, and ``still.png``."""
    Image.new("RGB", (64, 48), "red").save(tmp_path / "still.png")
    for name, num_frames in (("nine", 9), ("three", 3)):
        with VideoWriter(
            tmp_path / f"{name}.mp4", width=64, height=48, fps=8.0, tags={}
        ) as video:
            video.write(np.full((num_frames, 48, 64, 3), 100, np.uint8))
    return tmp_path


@pytest.fixture
def problems(settings, folder):
    """What is said about a request for 17 frames with these values, by field."""

    def problems(**values):
        data = {"model": "fake-model", "prompt": "a", "num_frames": 17, **values}
        try:
            check(data, folder=folder, settings=settings)
        except RequestError as error:
            return {one.field: one.message for one in error.problems}
        return {}

    return problems


def pin(file, frame_index, **values):
    return {"file": file, "frame_index": frame_index, **values}


def test_a_source_video_gets_the_models_overlap(settings, folder):
    data = {"model": "fake-model", "prompt": "a"}
    assert check(data, folder=folder, settings=settings).overlap_frames is None
    data["source_video"] = "nine.mp4"
    assert check(data, folder=folder, settings=settings).overlap_frames == 5


@pytest.mark.parametrize(
    "values",
    [
        {"source_video": "nine.mp4", "overlap_frames": 1},
        {"source_video": "nine.mp4", "overlap_frames": 9},
        {"source_video": "nine.mp4", "image_end": "still.png"},
        {"source_video": "nine.mp4", "conditions": [pin("still.png", 5)]},
        {"source_video": "nine.mp4", "fps": 32, "overlap_frames": 13},
        {"conditions": [pin("nine.mp4", 0), pin("still.png", 9), pin("still.png", -1)]},
        {"conditions": [pin("nine.mp4", 12), pin("still.png", 11)]},
        {"conditions": [pin("still.png", -17)]},
        {"image_start": "still.png", "conditions": [pin("nine.mp4", 1)]},
        {"conditions": [pin("still.png", place) for place in range(16)]},
    ],
    ids=str,
)
def test_media_that_leave_each_other_room_are_fine(problems, values):
    assert problems(**values) == {}


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"overlap_frames": 5}, "overlap_frames", "needs a source video to continue"),
        (
            {"source_video": "nine.mp4", "overlap_frames": 8},
            "overlap_frames",
            "8 isn't 4k + 1; 5 and 9 are the nearest that work",
        ),
        (
            {"source_video": "nine.mp4", "overlap_frames": 17},
            "overlap_frames",
            "17 frames leave nothing new in a video of 17; at most 13 work",
        ),
        (
            {"source_video": "nine.mp4", "overlap_frames": 13},
            "overlap_frames",
            "the source video has 9 frames at 8 frames per second; at most 9 can "
            "overlap",
        ),
        (
            {"source_video": "three.mp4"},
            "overlap_frames",
            "the source video has 3 frames at 8 frames per second; at most 1 can "
            "overlap",
        ),
        (
            {"source_video": "nine.mp4", "num_frames": 1},
            "num_frames",
            "must be at least 5 to continue a video, is 1",
        ),
        (
            {"source_video": "nine.mp4", "image_start": "still.png"},
            "image_start",
            "the source video gives the first frames; leave one of the two out",
        ),
        (
            {"conditions": [pin("still.png", 0), pin("still.png", 17)]},
            "conditions",
            "condition 2: frame 17 is outside the video; its frames are 0 to 16, or "
            "-17 to -1 from the end",
        ),
        (
            {"conditions": [pin("still.png", -18)]},
            "conditions",
            "condition 1: frame -18 is outside the video",
        ),
        (
            {"conditions": [pin("nine.mp4", 4), pin("still.png", 12)]},
            "conditions",
            "condition 2: frame 12 and condition 1 (frames 4 to 12) meet; move one of "
            "them",
        ),
        (
            {"conditions": [pin("still.png", 12), pin("nine.mp4", 4)]},
            "conditions",
            "condition 2: frames 4 to 12 and condition 1 (frame 12) meet",
        ),
        (
            {"image_end": "still.png", "conditions": [pin("still.png", -1)]},
            "conditions",
            "condition 1: frame 16 and the end image (frame 16) meet",
        ),
        (
            {"source_video": "nine.mp4", "conditions": [pin("still.png", 4)]},
            "conditions",
            "condition 1: frame 4 and the source video (frames 0 to 4) meet",
        ),
    ],
    ids=str,
)
def test_media_that_cannot_be_shown_so_are_refused(problems, values, field, message):
    found = problems(**values)
    assert list(found) == [field]
    assert found[field].startswith(message)


def test_every_misplaced_condition_is_told(problems):
    found = problems(conditions=[pin("still.png", 40), pin("still.png", 50)])
    assert "condition 1: frame 40" in found["conditions"]
    assert "; condition 2: frame 50" in found["conditions"]


def test_a_clip_is_as_long_as_it_is_at_the_videos_rate(problems):
    conditions = [pin("nine.mp4", 0), pin("still.png", 5)]
    assert problems(conditions=conditions, fps=4) == {}
    assert "meet" in problems(conditions=conditions, fps=8)["conditions"]


def test_a_video_that_is_made_anew_has_a_frame_for_each(problems):
    given = {"model": "wan-demo", "source_video": "nine.mp4", "num_frames": 17}
    assert problems(**given, fps=16) == {}
    assert problems(**given, fps=8) == {
        "source_video": "has 9 frames at 8 frames per second, too few for a video of "
        "17; it is enough for 9"
    }
    assert problems(**given, fps=16, overlap_frames=5) == {
        "overlap_frames": "wan-demo makes a source video anew, it continues none; "
        "leave it out"
    }


def test_images_at_both_ends_need_frames_between(problems):
    images = {"image_start": "still.png", "image_end": "still.png"}
    assert problems(**images, num_frames=5) == {}
    assert problems(**images, num_frames=1) == {
        "num_frames": "must be at least 5 to go from one image to another, is 1"
    }


VACE = {"model": "wan2.1-vace-1.3b", "width": 128, "height": 128}


def test_a_control_video_has_a_frame_for_each(problems):
    assert problems(**VACE, fps=16, control_video="nine.mp4") == {}
    assert problems(**VACE, fps=8, control_video="nine.mp4") == {
        "control_video": "has 9 frames at 8 frames per second, too few for a video of "
        "17; it is enough for 9"
    }


def test_a_mask_is_a_picture_or_as_long_as_the_video(problems):
    control = {**VACE, "fps": 16, "control_video": "nine.mp4"}
    assert problems(**control, control_mask="still.png") == {}
    assert problems(**control, control_mask="nine.mp4") == {}
    said = problems(**control, control_mask="three.mp4")
    assert said["control_mask"].startswith("has 6 frames at 16 frames per second")


def test_a_mask_needs_a_control_video(problems):
    assert problems(**VACE, control_mask="still.png") == {
        "control_mask": "needs a control video, of which it says what to make anew"
    }
