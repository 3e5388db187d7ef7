"""The shipped model does what its prompts and its given frames say. Judged by looking
at the frames."""

import numpy as np
import pytest
import torch
from PIL import Image

from demo.clips import sample_clips
from demo.evaluate import make_video, score
from demo.judge import load_judge
from demo.render import render
from demo.scenes import Scene
from engine.family import get_variant
from engine.loading.resident import ResidentModel
from engine.media.video import VideoWriter
from engine.progress import Progress
from engine.settings import PROJECT, Settings
from tests.colours import colours_right

pytestmark = pytest.mark.demo
ONE, TWO = "ltxv-demo", "ltxv-demo-multiscale"

SCENE = Scene("ball", "red", "grass", "day", "left")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(root=tmp_path_factory.mktemp("root"), gpu="cpu")


@pytest.fixture(scope="module", params=[ONE, TWO])
def model(request, settings):
    resident = ResidentModel(settings)
    yield resident.get(get_variant(request.param), Progress("test"))
    resident.release()


@pytest.fixture(scope="module")
def judge():
    return load_judge(PROJECT / "ckpts" / "demo" / "judge.safetensors")


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    """A rendered clip, uint8 (33, 256, 256, 3)."""
    drawn = sample_clips([SCENE], 33, torch.Generator().manual_seed(3))
    return render(drawn, 256, 256)[0]


def decibels(made: torch.Tensor, wanted: torch.Tensor) -> float:
    error = (made.float() - wanted.float()).pow(2).mean()
    return float(10 * torch.log10(255**2 / error))


def saved(frame: torch.Tensor, folder, name: str) -> str:
    Image.fromarray(frame.numpy()).save(folder / name)
    return str(folder / name)


def test_colours_are_those_of_the_prompt(model, judge):
    assert colours_right(model, judge, num_frames=9) >= 87.5


def test_everything_in_the_prompt_is_there(model, judge):
    made = make_video(model, "a red ball moving left on grass at day", seed=1)
    assert score(judge, made[None], [SCENE])["all"] == 100


def test_a_seed_repeats_bit_for_bit(model):
    first, again = (
        make_video(model, "a blue ring circling on snow at night", seed=5)
        for _ in range(2)
    )
    assert torch.equal(first, again)


def test_the_start_image_is_the_first_frame(model, settings, clip):
    media = settings.media
    media.mkdir(parents=True, exist_ok=True)
    made = make_video(
        model,
        "a red ball moving left on grass at day",
        settings=settings,
        seed=1,
        image_start=saved(clip[0], media, "start.png"),
    )
    assert decibels(made[0], clip[0]) >= 28


@pytest.mark.parametrize("model", [ONE, TWO], indirect=True)
def test_the_end_image_is_the_last_frame(model, settings, clip):
    media = settings.media
    media.mkdir(parents=True, exist_ok=True)
    made = make_video(
        model,
        "a red ball moving left on grass at day",
        settings=settings,
        seed=1,
        image_start=saved(clip[0], media, "start.png"),
        image_end=saved(clip[-1], media, "end.png"),
    )
    assert decibels(made[-1], clip[-1]) >= 28


@pytest.mark.parametrize("model", [ONE, TWO], indirect=True)
def test_a_clip_pinned_in_the_middle_is_shown_there(model, settings, clip):
    media = settings.media
    media.mkdir(parents=True, exist_ok=True)
    with VideoWriter(
        media / "middle.mp4", width=256, height=256, fps=16, tags={}
    ) as video:
        video.write(np.ascontiguousarray(clip[8:17].numpy()))
    made = make_video(
        model,
        "a red ball moving left on grass at day",
        settings=settings,
        seed=1,
        conditions=[{"file": str(media / "middle.mp4"), "frame_index": 8}],
    )
    assert decibels(made[8:17], clip[8:17]) >= 28
