"""The training shows the transformer what diffusers' pipelines will show it."""

import random

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanVACEPipeline
from PIL import Image

from demo import wan, wan_i2v, wan_vace
from demo.codec import to_model, to_uint8
from demo.controls import edges, random_holes
from demo.kind import Text
from demo.task import hole_masks
from tests.tiny_demo import make_vae
from wan.call import fit_scale

SIZE, FRAMES = 64, 9


class Seen:
    """Stands for a transformer and keeps what it is called with."""

    def __call__(self, **inputs):
        self.inputs = inputs
        return (inputs["hidden_states"],)


@pytest.fixture(scope="module")
def vae():
    return make_vae()


@pytest.fixture
def encode(vae):
    mean, deviation = wan.latent_scale(vae)

    @torch.no_grad()
    def encode(videos):
        return (wan.encode(vae, videos)[0] - mean) / deviation

    return encode


@pytest.fixture(scope="module")
def clip():
    shape = (1, FRAMES, SIZE, SIZE, 3)
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, np.uint8))


def pictures(frames):
    return [Image.fromarray(frame) for frame in frames.numpy()]


def shown_to(task, shown):
    """What the transformer of ``task`` is called with."""
    frames = 3 + shown.pictures
    noisy = torch.zeros(1, 48, frames, *shown.condition.shape[3:])
    transformer, text = Seen(), Text(torch.zeros(1, 1, 8), torch.ones(1, 1))
    task.velocity(transformer, noisy, torch.tensor([0.5]), text, shown)
    return transformer.inputs


@pytest.mark.parametrize("way", ["first", "both"])
def test_given_frames_are_shown_as_the_pipeline_shows_them(vae, encode, clip, way):
    pipeline = fit_scale(
        WanImageToVideoPipeline(
            tokenizer=None, text_encoder=None, scheduler=None, vae=vae
        )
    )
    last = to_model(clip)[:, :, -1] if way == "both" else None
    _, expected = pipeline.prepare_latents(
        to_model(clip)[:, :, 0],
        1,
        num_channels_latents=48,
        height=SIZE,
        width=SIZE,
        num_frames=FRAMES,
        dtype=torch.float32,
        device="cpu",
        generator=torch.Generator().manual_seed(0),
        last_image=last,
    )
    shown = wan_i2v.show(encode, way, clip, random.Random(0))
    seen = shown_to(wan_i2v, shown)["hidden_states"]
    torch.testing.assert_close(seen[:, 48:], expected, rtol=1e-3, atol=1e-3)


def vace_condition(vae, **given):
    pipeline = fit_scale(
        WanVACEPipeline(
            tokenizer=None,
            text_encoder=None,
            scheduler=None,
            vae=vae,
            transformer=wan_vace.make_transformer(wan.make_transformer()),
        )
    )
    video, mask, references = pipeline.preprocess_conditions(
        **given, height=SIZE, width=SIZE, num_frames=FRAMES, dtype=torch.float32
    )
    with torch.no_grad():
        latents = pipeline.prepare_video_latents(video, mask, references, device="cpu")
    return torch.cat([latents, pipeline.prepare_masks(mask, references)], 1)


def test_a_control_video_is_shown_as_the_pipeline_shows_it(vae, encode, clip):
    expected = vace_condition(vae, video=pictures(edges(clip)[0].contiguous()))
    shown = wan_vace.show(encode, "edges", clip, random.Random(0))
    seen = shown_to(wan_vace, shown)["control_hidden_states"]
    torch.testing.assert_close(seen, expected, rtol=1e-3, atol=1e-3)


def test_a_hole_is_shown_as_the_pipeline_shows_it(vae, encode, clip):
    hole = random_holes(clip, random.Random(0))
    masks = hole_masks(hole, torch.arange(FRAMES), SIZE, SIZE)[0]
    # As the app does: grey where something is to be made.
    frames = torch.where(
        masks[..., None], torch.tensor(128, dtype=torch.uint8), clip[0]
    )
    drawn = (masks[..., None] * torch.tensor(255, dtype=torch.uint8)).expand_as(frames)
    expected = vace_condition(vae, video=pictures(frames), mask=pictures(drawn))
    shown = wan_vace.show(encode, "hole", clip, random.Random(0))
    assert torch.equal(shown.holes, hole)
    seen = shown_to(wan_vace, shown)["control_hidden_states"]
    assert torch.equal(seen[:, 96:], expected[:, 96:])
    torch.testing.assert_close(seen[:, :48], expected[:, :48], rtol=1e-3, atol=1e-3)
    # A grey of 128 is all but the middle of -1..1.
    torch.testing.assert_close(seen[:, 48:96], expected[:, 48:96], rtol=0.1, atol=0.1)


def test_a_reference_image_is_shown_as_the_pipeline_shows_it(vae, encode, clip):
    rng = random.Random(1)
    frame = clip[0, random.Random(1).randrange(FRAMES)].flip(1)
    expected = vace_condition(vae, reference_images=pictures(frame[None]))
    shown = wan_vace.show(encode, "reference", clip, rng)
    assert shown.pictures == 1
    seen = shown_to(wan_vace, shown)["control_hidden_states"]
    torch.testing.assert_close(seen, expected, rtol=1e-3, atol=1e-3)


def test_text_alone_is_shown_as_the_pipeline_shows_it(vae, encode, clip):
    shown = wan_vace.show(encode, "nothing", clip, random.Random(0))
    seen = shown_to(wan_vace, shown)["control_hidden_states"]
    torch.testing.assert_close(seen, vace_condition(vae), rtol=1e-3, atol=1e-3)


def test_holes_lie_within_the_video(clip):
    clips = clip.expand(200, -1, -1, -1, -1)
    holes = random_holes(clips, random.Random(2))
    share = hole_masks(holes, torch.arange(FRAMES), SIZE, SIZE).float().mean((1, 2, 3))
    assert share.min() > 0 and share.max() < 1
    whole_frames = (holes[:, 2:] == torch.tensor([0, SIZE, 0, SIZE])).all(1)
    assert 10 < int(whole_frames.sum()) < 60


def test_outlines_are_where_colours_meet():
    clip = torch.zeros(1, 1, SIZE, SIZE, 3, dtype=torch.uint8)
    clip[..., 20:40, 10:30, :] = 200
    drawn = edges(clip)[0, 0, ..., 0]
    assert drawn[30, 10] > 150 and drawn[20, 20] > 150
    assert drawn[30, 20] == 0 and drawn[5, 5] == 0
    assert torch.equal(to_uint8(to_model(clip)), clip)
