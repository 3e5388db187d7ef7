"""What the demo models do with images and videos. Judged by looking at the frames."""

import numpy as np
import pytest
import torch

from demo.clips import sample_clips
from demo.controls import edges
from demo.evaluate import make_video
from demo.judge import load_judge, read_attributes
from demo.render import render
from demo.scenes import ATTRIBUTES, Scene
from demo.trials import HOLE, Shelf, decibels, trials_of
from engine.family import get_variant
from engine.loading.resident import ResidentModel
from engine.progress import Progress
from engine.settings import PROJECT, Settings

pytestmark = pytest.mark.demo

FRAMES = 17
SCENE = Scene("ball", "red", "grass", "day", "left")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(root=tmp_path_factory.mktemp("root"), gpu="cpu")


@pytest.fixture(scope="module")
def resident(settings):
    kept = ResidentModel(settings)
    yield kept
    kept.release()


@pytest.fixture(scope="module")
def whole() -> torch.Tensor:
    """A rendered clip, uint8 (33, 256, 256, 3)."""
    drawn = sample_clips([SCENE], 33, torch.Generator().manual_seed(3))
    return render(drawn, 256, 256, samples=1)[0]


@pytest.fixture
def clip(whole) -> torch.Tensor:
    """Its first half, which takes half the time."""
    return whole[:FRAMES]


@pytest.fixture
def done(resident, settings, whole):
    """A video made by a model of what a trial asks, and the trial."""

    def done(model, name, clip=whole[:FRAMES], **values):
        variant = get_variant(model)
        trial = trials_of(variant)[name](clip, SCENE, Shelf(settings.media))
        made = make_video(
            resident.get(variant, Progress("test")),
            trial.prompt,
            settings=settings,
            seed=1,
            num_frames=len(clip),
            **trial.media,
            **values,
        )
        return made, trial

    return done


def seen(clip: torch.Tensor) -> Scene:
    """What the judge reads."""
    judge = load_judge(PROJECT / "ckpts" / "demo" / "judge.safetensors")
    (labels,) = read_attributes(judge, clip[None]).tolist()
    named = zip(ATTRIBUTES.items(), labels, strict=True)
    return Scene(**{name: values[i] for (name, values), i in named})


def column(frame: torch.Tensor, channel: int) -> float:
    """Where a thing stands, from 0 (left) to 1, whose light is mostly of a channel of
    red, green and blue. The sky is left out."""
    light = frame[80:].float()
    others = light[..., [i for i in range(3) if i != channel]].amax(-1)
    mask = ((light[..., channel] > 1.3 * others) & (light[..., channel] > 60)).float()
    assert mask.sum() > 100, "nothing of that colour in the frame"
    columns = torch.linspace(0, 1, frame.shape[1])
    return float((mask.sum(0) * columns).sum() / mask.sum())


def test_a_source_video_takes_the_prompts_colour_and_keeps_its_layout(done, clip):
    made, trial = done("wan-demo", "source video")
    assert trial.scene.colour != SCENE.colour
    assert seen(made) == trial.scene
    channel = {"blue": 2, "red": 0}[trial.scene.colour]
    for number in (0, 8, -1):
        there, before = column(made[number], channel), column(clip[number], 0)
        assert abs(there - before) < 0.08
    # Sky and clouds lie where they lay.
    assert decibels(made[:, :60], clip[:, :60]) > 23


def test_the_less_strength_the_more_is_kept_of_a_source_video(done, clip):
    little, _ = done("wan-demo", "source video", strength=0.2)
    much, _ = done("wan-demo", "source video", strength=0.9)
    assert seen(little).colour == SCENE.colour
    assert decibels(little, clip) > decibels(much, clip) + 4


def test_the_start_image_is_the_first_frame(done, clip):
    made, trial = done("wan-demo-i2v", "start image")
    assert decibels(made, clip, trial.kept) >= 28
    assert seen(made) == SCENE


def test_what_moves_is_said_by_the_prompt_and_not_by_the_start_image(
    resident, settings, whole
):
    variant = get_variant("wan-demo-i2v")
    made = make_video(
        resident.get(variant, Progress("test")),
        "a red ball moving right on grass at day",
        settings=settings,
        seed=1,
        image_start=Shelf(settings.media).picture(whole[16]),
    )
    assert column(made[-1], 0) > column(made[0], 0) + 0.1


def test_start_and_end_image_are_the_first_and_the_last_frame(done, whole):
    made, trial = done("wan-demo-i2v", "start and end image", whole)
    assert decibels(made[0], whole[0]) >= 28
    assert decibels(made, whole, trial.kept) >= 28
    assert seen(made) == SCENE


def test_what_is_masked_is_made_anew_and_the_rest_stays(done, clip):
    made, trial = done("wan-demo-vace", "masked control video")
    assert decibels(made, clip, trial.kept) >= 28
    assert decibels(made, clip, ~trial.kept) < 24
    assert seen(made).colour == trial.scene.colour


def test_a_mask_may_be_of_frames(resident, settings, clip):
    """What comes after the first half is made anew: the video goes on."""
    shelf = Shelf(settings.media)
    mask = np.zeros((FRAMES, 256, 256, 3), np.uint8)
    mask[9:] = 255
    made = make_video(
        resident.get(get_variant("wan-demo-vace"), Progress("test")),
        "a red ball moving left on grass at day",
        settings=settings,
        seed=1,
        control_video=shelf.video(clip),
        control_mask=shelf.video(torch.from_numpy(mask)),
        num_frames=FRAMES,
    )
    assert decibels(made[:9], clip[:9]) >= 28
    assert column(made[-1], 0) < column(made[8], 0) - 0.05


def test_outlines_are_followed(resident, settings, clip):
    """Of the clip's mirror image, in which things move right; the prompt says nothing
    of motion."""
    mirrored = clip.flip(2)
    made = make_video(
        resident.get(get_variant("wan-demo-vace"), Progress("test")),
        "a blue ball on grass at day",
        settings=settings,
        seed=1,
        control_video=Shelf(settings.media).video(edges(mirrored[None])[0]),
        num_frames=FRAMES,
    )
    assert seen(made).colour == "blue"
    assert seen(made).motion == "right"
    for number in (0, 8, -1):
        assert abs(column(made[number], 2) - column(mirrored[number], 0)) < 0.06


def test_a_reference_image_shows_what_the_prompt_leaves_out(done):
    made, trial = done("wan-demo-vace", "reference image")
    assert "red" not in trial.prompt and "ball" not in trial.prompt
    assert (seen(made).colour, seen(made).shape) == (SCENE.colour, SCENE.shape)


def test_the_thing_is_within_the_hole(clip):
    """Otherwise the trial of the hole would ask for what can't be."""
    top, bottom, left, right = HOLE
    for frame in clip[::4]:
        light = frame.float()
        red = (light[..., 0] > 1.6 * light[..., 1:].amax(-1)) & (light[..., 0] > 60)
        rows, columns = red.nonzero().T
        assert top * 256 < rows.float().quantile(0.02)
        assert rows.float().quantile(0.98) < bottom * 256
        assert left * 256 < columns.float().quantile(0.02)
        assert columns.float().quantile(0.98) < right * 256
