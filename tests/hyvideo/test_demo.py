"""The shipped model does what its prompts and its start image say. Judged by looking
at the frames."""

import pytest
import torch

from demo.clips import sample_clips
from demo.evaluate import make_video, score
from demo.judge import load_judge
from demo.render import render
from demo.scenes import Scene
from demo.trials import Shelf, decibels, trials_of
from engine.family import get_variant
from engine.loading.resident import ResidentModel
from engine.progress import Progress
from engine.settings import PROJECT, Settings
from tests.colours import colours_right

pytestmark = pytest.mark.demo

SCENE = Scene("ball", "red", "grass", "day", "left")
PROMPT = "a red ball moving left on grass at day"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(root=tmp_path_factory.mktemp("root"), gpu="cpu")


@pytest.fixture(scope="module")
def model(settings):
    resident = ResidentModel(settings)
    yield resident.get(get_variant("hyvideo-demo"), Progress("test"))
    resident.release()


@pytest.fixture(scope="module")
def judge():
    return load_judge(PROJECT / "ckpts" / "demo" / "judge.safetensors")


def test_colours_are_those_of_the_prompt(model, judge):
    assert colours_right(model, judge, num_frames=5, num_inference_steps=4) >= 87.5


def test_everything_in_the_prompt_is_there(model, judge):
    made = make_video(model, PROMPT, seed=1, num_frames=17)
    assert score(judge, made[None], [SCENE])["all"] == 100


def test_a_seed_repeats_bit_for_bit(model):
    first, again = (
        make_video(model, "a blue ring circling on snow at night", seed=5, num_frames=9)
        for _ in range(2)
    )
    assert torch.equal(first, again)


def test_the_start_image_is_the_first_frame(model, settings):
    drawn = sample_clips([SCENE], 1, torch.Generator().manual_seed(3))
    clip = render(drawn, 256, 256, samples=1)[0]
    trial = trials_of(model.variant)["start image"](clip, SCENE, Shelf(settings.media))
    made = make_video(
        model, trial.prompt, settings=settings, seed=1, num_frames=9, **trial.media
    )
    assert decibels(made[:1], clip) >= 28
