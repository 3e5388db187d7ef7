from dataclasses import replace

import pytest

from engine.family import Limits, get_variant

LIMITS = Limits(
    size_multiple=16, min_size=64, max_size=500, frames_multiple=4, max_frames=80
)


@pytest.mark.parametrize(
    ("asked", "made"),
    [(1, 1), (2, 1), (4, 5), (32, 33), (33, 33), (-9, 1), (80, 77), (999, 77)],
)
def test_frame_counts_snap_to_the_nearest_that_the_model_makes(asked, made):
    assert LIMITS.snap_frames(asked) == made


SECTIONS = replace(LIMITS, frames_multiple=36, max_frames=3601, in_sections=True)


@pytest.mark.parametrize(
    ("asked", "made"), [(1, 37), (54, 37), (91, 73), (92, 109), (9999, 3601)]
)
def test_a_video_in_sections_has_at_least_one(asked, made):
    assert SECTIONS.snap_frames(asked) == made
    assert SECTIONS.min_frames == 37


@pytest.mark.parametrize(
    ("asked", "near"), [(1, [37]), (36, [37]), (38, [37, 73]), (3600, [3565, 3601])]
)
def test_the_lengths_next_to_one_between_sections_are_known(asked, near):
    assert SECTIONS.near_frames(asked) == near


def test_sections_are_told_in_frames_and_seconds():
    told = "sections of 36 frames (1.2 s at 30 fps) and one frame more"
    assert SECTIONS.sections_told(30.0) == told


@pytest.mark.parametrize(
    ("asked", "made"), [(1, 64), (71, 64), (73, 80), (256, 256), (500, 496), (999, 496)]
)
def test_sizes_snap_to_the_nearest_that_the_model_makes(asked, made):
    assert LIMITS.snap_size(asked) == made


def test_a_variant_is_found_by_its_id():
    assert get_variant("wan-demo").family == "wan"
