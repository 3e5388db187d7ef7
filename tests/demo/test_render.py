"""The renderer shows what the scene says."""

import pytest
import torch

from demo.clips import sample_clips
from demo.dataset import turned
from demo.render import render
from demo.scenes import COLOURS, Scene

SIZE = 48


def film(*scenes: Scene, frames: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return render(sample_clips(list(scenes), frames, generator), SIZE, SIZE, samples=1)


def scene(**changes: str) -> Scene:
    plain = {
        "shape": "ball",
        "colour": "red",
        "floor": "snow",
        "sky": "day",
        "motion": "still",
    }
    return Scene(**{**plain, **changes})


def redness(clip: torch.Tensor) -> torch.Tensor:
    """(frames, height, width): where the picture is red."""
    red, green, blue = clip.float().unbind(-1)
    return (red - torch.maximum(green, blue)).clamp(min=30) - 30


def centre_x(picture: torch.Tensor) -> float:
    """Where the weight of (height, width) lies, 0 left to 1 right."""
    weight = picture.sum(0)
    places = torch.arange(len(weight)) / (len(weight) - 1)
    return float((weight * places).sum() / weight.sum())


def test_a_clip_has_the_size_that_was_asked():
    clip = film(scene(), frames=2)
    assert clip.shape == (1, 2, SIZE, SIZE, 3)
    assert clip.dtype == torch.uint8


def test_left_is_the_cameras_left():
    left, right = film(scene(motion="left"), scene(motion="right"))
    first, _, last = [centre_x(picture) for picture in redness(left)]
    assert last < first - 0.2
    first, _, last = [centre_x(picture) for picture in redness(right)]
    assert last > first + 0.2


def test_what_stands_still_stays():
    still = redness(film(scene())[0])
    assert abs(centre_x(still[0]) - centre_x(still[-1])) < 0.08


def test_a_bouncing_object_leaves_the_ground():
    heights = [
        centre_x(picture.T)
        for picture in redness(film(scene(motion="bouncing"), frames=9)[0])
    ]
    assert max(heights) - min(heights) > 0.1


@pytest.mark.parametrize("colour", ["red", "green", "blue"])
def test_the_object_has_its_colour(colour):
    clip = film(scene(colour=colour, floor="checkerboard"))[0].float()
    middle = clip[:, SIZE // 3 : 2 * SIZE // 3, SIZE // 3 : 2 * SIZE // 3]
    strongest = middle.flatten(0, 2)
    share = strongest / strongest.sum(-1, keepdim=True).clamp(min=1)
    channel = {"red": 0, "green": 1, "blue": 2}[colour]
    assert share[:, channel].quantile(0.9) > 0.5


def test_night_is_darker_than_day():
    day, night = film(scene(), scene(sky="night"), frames=1).float().flatten(1).mean(1)
    assert night < 0.7 * day


def test_a_mirrored_clip_and_one_run_backwards_move_the_other_way():
    clips = film(scene(motion="left"))
    views = [
        (redness(view[0]), named[0])
        for view, named in turned(clips, [scene(motion="left")])
    ]
    for red, named in views:
        moved = centre_x(red[-1]) - centre_x(red[0])
        assert (moved < 0) == (named.motion == "left")
    assert [named.motion for _, named in views] == ["left", "right", "right", "left"]


def test_clips_of_one_seed_are_the_same():
    assert torch.equal(film(scene()), film(scene()))


def test_every_colour_has_a_palette_entry():
    film(*(scene(colour=colour) for colour in COLOURS), frames=1)


def test_a_clip_alone_is_what_it_is_among_others(monkeypatch):
    scenes = [
        scene(shape="ring", floor="checkerboard", sky="sunset", motion="spinning"),
        scene(shape="cone", colour="blue", floor="grass", sky="night"),
    ]
    one_by_one = film(*scenes)
    monkeypatch.setattr("demo.render.MANY", 0)
    assert torch.equal(film(*scenes), one_by_one)
