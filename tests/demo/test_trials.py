"""What demo models are asked to do with images and videos."""

import pytest
import torch

from demo.scenes import COLOURS, Scene
from demo.trials import Shelf, decibels, other_colour, trials_of
from engine.family import get_variant
from engine.media.frames import load_clip, load_image
from wan.variants import VARIANTS

ROWS = {row.id: row for row in VARIANTS}
DEMO_I2V, DEMO_VACE = ROWS["wan-demo-i2v"], ROWS["wan-demo-vace"]

SCENE = Scene("ball", "red", "grass", "day", "left")


@pytest.fixture(scope="module")
def clip():
    """A ramp of light that changes from frame to frame, uint8 (9, 64, 64, 3)."""
    light = torch.linspace(0, 200, 64)[None, None, :, None].expand(9, 64, 64, 3)
    return (light + torch.arange(9)[:, None, None, None] * 5).to(torch.uint8)


def test_a_model_is_asked_for_what_its_row_takes():
    assert [*trials_of(get_variant("wan-demo"))] == ["source video"]
    assert [*trials_of(DEMO_I2V)] == ["start image", "start and end image"]
    assert [*trials_of(DEMO_VACE)] == [
        "masked control video",
        "outlines",
        "reference image",
    ]
    assert [*trials_of(get_variant("hyvideo-demo"))] == ["start image"]
    assert "start and end image" in trials_of(get_variant("ltxv-demo"))


def test_given_frames_are_those_of_the_clip(clip, tmp_path):
    trial = trials_of(DEMO_I2V)["start and end image"](clip, SCENE, Shelf(tmp_path))
    for name, frame in (("image_start", clip[0]), ("image_end", clip[-1])):
        shown = torch.tensor(load_image(trial.media[name], 64, 64))
        assert torch.equal(shown, frame)
    assert trial.kept[-1].all() and not trial.kept[:-1].any()
    assert trial.prompt == "a red ball moving left on grass at day"


def test_what_is_masked_is_what_needn_t_be_kept(clip, tmp_path):
    make = trials_of(DEMO_VACE)["masked control video"]
    trial = make(clip, SCENE, Shelf(tmp_path))
    mask = torch.tensor(load_image(trial.media["control_mask"], 64, 64))
    assert torch.equal(mask[..., 0] == 0, trial.kept[0])
    video = torch.tensor(load_clip(trial.media["control_video"], 64, 64, 16.0))
    assert decibels(video, clip) > 30
    assert trial.scene.colour == "blue" and "blue ball" in trial.prompt


def test_a_reference_image_is_asked_for_without_words(clip, tmp_path):
    trial = trials_of(DEMO_VACE)["reference image"](clip, SCENE, Shelf(tmp_path))
    assert trial.prompt == "a thing moving left on grass at day"
    assert trial.scene == SCENE


def test_another_colour_is_another():
    scenes = [Scene("ball", colour, "grass", "day", "left") for colour in COLOURS]
    assert all(other_colour(scene) != scene.colour for scene in scenes)


def test_decibels_are_of_the_pixels_asked_for(clip):
    worse = clip.clone()
    worse[4:] += 10
    first = torch.zeros(clip.shape[:3], dtype=torch.bool)
    first[:4] = True
    assert decibels(worse, clip, first) > 100
    assert decibels(worse, clip, ~first) == pytest.approx(28.13, abs=0.01)
