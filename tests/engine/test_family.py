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


@pytest.mark.parametrize(
    ("asked", "made"), [(1, 64), (71, 64), (73, 80), (256, 256), (500, 496), (999, 496)]
)
def test_sizes_snap_to_the_nearest_that_the_model_makes(asked, made):
    assert LIMITS.snap_size(asked) == made


def test_a_variant_is_found_by_its_id():
    assert get_variant("wan-demo").family == "wan"
