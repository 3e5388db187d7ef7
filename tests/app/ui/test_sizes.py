"""Sizes to choose from."""

import pytest

from app.ui.sizes import (
    AUTOMATIC_TILES,
    CUSTOM,
    choice_of,
    parse_size,
    size_choices,
    tile_choices,
)
from engine.family import ModelVariant, get_variant
from tests.fakes import VARIANT
from wan.variants import VARIANTS


@pytest.mark.parametrize("variant", [VARIANT, *VARIANTS], ids=lambda each: each.id)
def test_every_choice_can_be_made_by_the_model(variant: ModelVariant) -> None:
    limits = variant.limits
    choices = [value for _, value in size_choices(variant)]
    assert choices[-1] == CUSTOM
    assert len(choices) == len(set(choices)) > 3
    for choice in choices[:-1]:
        for side in parse_size(choice):
            assert limits.snap_size(side) == side


@pytest.mark.parametrize("variant", [VARIANT, *VARIANTS], ids=lambda each: each.id)
def test_default_size_comes_first(variant: ModelVariant) -> None:
    width, height = variant.defaults["width"], variant.defaults["height"]
    assert size_choices(variant)[0][1] == f"{width}x{height}"
    assert choice_of(variant, width, height) == f"{width}x{height}"


def test_other_size_is_custom() -> None:
    assert choice_of(VARIANT, 496, 32) == CUSTOM
    assert choice_of(VARIANT, None, 32) == CUSTOM


def test_large_model_offers_480p_and_720p_in_both_directions() -> None:
    choices = [value for _, value in size_choices(get_variant("wan2.1-t2v-14b"))]
    assert {"832x480", "480x832", "1280x720", "720x1280"} <= set(choices)


def test_tiles_double_from_the_smallest_that_works() -> None:
    choices = [value for _, value in tile_choices(VARIANT)]
    assert choices == [AUTOMATIC_TILES, 0, 64, 128, 256]
    restored = [value for _, value in tile_choices(VARIANT, 96)]
    assert restored == [AUTOMATIC_TILES, 0, 64, 96, 128, 256]
    assert [value for _, value in tile_choices(VARIANT, 0)] == choices
