"""The shipped model does what its prompts say. Judged by looking at the frames."""

import numpy as np
import pytest
import torch
from diffusers import WanPipeline

from demo.clips import sample_clips
from demo.evaluate import make_video, score
from demo.judge import load_judge, read_attributes
from demo.render import render
from demo.scenes import ATTRIBUTES, Scene
from demo.trials import decibels
from engine.family import get_variant
from engine.loading.resident import ResidentModel
from engine.progress import Progress
from engine.settings import PROJECT, Settings
from engine.validate import accept
from tests.colours import colours_right
from wan import FAMILY

pytestmark = pytest.mark.demo

SHIPPED = PROJECT / "ckpts" / "demo"
QUICK = {"num_inference_steps": 8, "num_frames": 9}
"""Enough to show what a prompt does, where neither quality nor motion is asked for."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    settings = Settings(root=tmp_path_factory.mktemp("root"), gpu="cpu")
    loaded = ResidentModel(settings).get(get_variant("wan-demo"), Progress("test"))
    yield loaded
    loaded.release()


@pytest.fixture(scope="module")
def judge():
    return load_judge(SHIPPED / "judge.safetensors")


def reddest_column(frame: torch.Tensor) -> float:
    """Where the red things of a frame stand, from 0 (left) to 1."""
    red, green, blue = frame.float().unbind(-1)
    mask = ((red > 1.6 * green) & (red > 1.6 * blue) & (red > 60)).float()
    assert mask.sum() > 100, "nothing red in the frame"
    columns = torch.linspace(0, 1, frame.shape[1])
    return float((mask.sum(0) * columns).sum() / mask.sum())


@pytest.mark.parametrize(("motion", "sign"), [("moving left", -1), ("moving right", 1)])
def test_things_move_to_the_side_that_the_prompt_says(model, motion, sign):
    clip = make_video(
        model, f"a red ball {motion} on snow at day", seed=1, num_frames=17
    )
    assert sign * (reddest_column(clip[-1]) - reddest_column(clip[0])) > 0.2


def test_still_things_stay(model):
    clip = make_video(
        model, "a red cube standing still on sand at day", seed=1, num_frames=17
    )
    assert abs(reddest_column(clip[-1]) - reddest_column(clip[0])) < 0.08


def test_colours_are_those_of_the_prompt(model, judge):
    assert colours_right(model, judge, num_frames=9, num_inference_steps=8) >= 87.5


def test_tiles_of_the_vae_are_not_seen(model):
    prompt = "a red ball moving left on grass at day"
    whole = make_video(model, prompt, seed=1, **QUICK)
    tiled = make_video(model, prompt, seed=1, vae_tile_size=128, **QUICK)
    assert not torch.equal(tiled, whole)
    assert decibels(tiled, whole) > 38


def test_night_is_darker_than_day(model):
    def brightness(sky: str) -> float:
        clip = make_video(
            model,
            f"a white cone circling on grass at {sky}",
            seed=2,
            **QUICK,
        )
        return float(clip[:, :100].float().mean())

    assert brightness("night") < 0.6 * brightness("day")


def test_videos_are_at_least_half_as_sharp_as_renders(model):
    scene = Scene("ring", "green", "checkerboard", "day", "spinning")
    drawn = sample_clips([scene], 2, torch.Generator().manual_seed(0))
    rendered = render(drawn, 256, 256, samples=2)[0]
    clip = make_video(
        model, "a green ring spinning on a checkerboard at day", seed=3, num_frames=9
    )

    def sharpness(frame: torch.Tensor) -> float:
        return float(frame.float().diff(dim=1).abs().quantile(0.99))

    assert sharpness(clip[-1]) > 0.5 * sharpness(rendered[0])


def test_a_seed_repeats_bit_for_bit_and_another_differs(model):
    prompt = "a blue cylinder bouncing on grass at sunset"
    first, again, other = (
        make_video(model, prompt, seed=seed, **QUICK) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("scheduler", ["unipc", "euler", "dpm++"])
def test_every_scheduler_gets_there(model, judge, scheduler):
    scene = Scene("ball", "red", "grass", "day", "left")
    clip = make_video(
        model,
        "a red ball moving left on grass at day",
        seed=1,
        scheduler=scheduler,
        num_frames=17,
    )
    assert score(judge, clip[None], [scene])["all"] == 100


def test_guidance_leads_away_from_the_negative_prompt(model, judge):
    """The prompt leaves the sky open: of 16 videos, some are by day."""
    column = list(ATTRIBUTES).index("sky")

    def by_day(seeds, **guidance) -> list[int]:
        clips = [
            make_video(
                model,
                "a yellow ball spinning on sand",
                seed=seed,
                num_inference_steps=4,
                num_frames=5,
                **guidance,
            )
            for seed in seeds
        ]
        read = read_attributes(judge, torch.stack(clips))[:, column].tolist()
        day = ATTRIBUTES["sky"].index("day")
        return [seed for seed, sky in zip(seeds, read, strict=True) if sky == day]

    unguided = by_day(range(16))
    assert len(unguided) >= 4
    not_day = {"negative_prompt": "a yellow ball spinning on sand at day"}
    # Guidance without a negative prompt takes none of them away from day.
    guided = by_day(unguided, **not_day, guidance_scale=3.0)
    assert len(guided) <= len(unguided) - 3


def test_previews_look_like_the_video(model):
    request = accept(
        {
            "model": "wan-demo",
            "prompt": "a red ball on snow at day",
            "seed": 1,
            **QUICK,
        },
        folder=None,
        settings=Settings(gpu="cpu"),
    )
    seen = []
    latents = FAMILY.denoise(
        model, FAMILY.encode(model, request), request, lambda *_: None, seen.append
    )
    small = FAMILY.preview(model, latents).astype(float)
    frames = np.concatenate(list(FAMILY.decode(model, latents, request)))
    last = torch.from_numpy(frames[-1]).permute(2, 0, 1)[None].float()
    size = small.shape[1:3]
    shrunk = torch.nn.functional.interpolate(last, size, mode="area")[0]
    difference = np.abs(small[-1] - shrunk.permute(1, 2, 0).numpy()).mean()
    assert difference < 25


def test_diffusers_own_pipeline_gives_the_same_latents(model):
    request = accept(
        {
            "model": "wan-demo",
            "prompt": "a pink cone circling on sand at sunset",
            "seed": 7,
        },
        folder=None,
        settings=Settings(gpu="cpu"),
    )
    ours = FAMILY.denoise(
        model, FAMILY.encode(model, request), request, lambda *_: None, lambda _: None
    )
    pipeline = WanPipeline.from_pretrained(SHIPPED / "wan", dtype=torch.float32)
    pipeline.scheduler = model.pipeline.scheduler
    (theirs,) = pipeline(
        request.prompt,
        negative_prompt=request.negative_prompt,
        width=request.width,
        height=request.height,
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type="latent",
        return_dict=False,
    )
    assert torch.equal(ours, theirs)
