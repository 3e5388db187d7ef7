"""Prompts and given frames."""

import numpy as np
import pytest
import torch
from PIL import Image

from engine.media.video import VideoWriter
from ltx_video import FAMILY
from ltx_video.config import load_config
from ltx_video.encode import Pin, in_pieces, padded, split_prompt
from ltx_video.guidance import is_guided
from ltx_video.sizes import Size


@pytest.fixture
def clip(tmp_path) -> str:
    """Twenty frames that grow lighter, 96 × 64, at 16 frames per second."""
    levels = np.linspace(20, 210, 20).astype(np.uint8)
    frames = np.broadcast_to(levels[:, None, None, None], (20, 64, 96, 3))
    with VideoWriter(
        tmp_path / "clip.mp4", width=96, height=64, fps=16, tags={}
    ) as video:
        video.write(np.ascontiguousarray(frames))
    return str(tmp_path / "clip.mp4")


def test_embeddings_are_those_of_diffusers_own_pipeline(model, request_of):
    made = FAMILY.encode(model, request_of(negative_prompt="night", guidance_scale=3.0))
    embeds, mask, negative, negative_mask = model.pipeline.encode_prompt(
        "a red ball moving left", "night", max_sequence_length=256
    )
    assert torch.equal(made.text.embeds, embeds)
    assert torch.equal(made.text.mask, mask)
    assert torch.equal(made.negative.embeds, negative)
    assert torch.equal(made.negative.mask, negative_mask)


def test_the_negative_prompt_is_read_only_where_a_step_is_guided(model, request_of):
    assert FAMILY.encode(model, request_of(guidance_scale=1.0)).negative is None
    dev = load_config("ltxv-13b-0.9.8-dev")
    assert is_guided(dev, 1.0)  # its schedule guides whatever is asked
    assert not is_guided(load_config("ltxv-13b-0.9.8-distilled"), 1.0)


def test_parts_of_a_prompt_lie_one_after_the_other(model, request_of):
    assert split_prompt("a red ball| a cube |day") == ["a red ball", "a cube", "day"]
    made = FAMILY.encode(
        model, request_of(prompt="a red ball | a blue cube", guidance_scale=3.0)
    )
    alone = FAMILY.encode(model, request_of(prompt="a blue cube"))
    assert made.parts == 2
    assert made.text.embeds.shape == made.negative.embeds.shape == (1, 512, 32)
    torch.testing.assert_close(made.text.embeds[:, 256:], alone.text.embeds)


def test_frames_are_given_where_they_are_shown(model, request_of, picture, clip):
    request = request_of(
        image_start=picture,
        image_end=picture,
        num_frames=33,
        conditions=[
            {"file": clip, "frame_index": 8, "strength": 0.5},
            {"file": picture, "frame_index": -5},
        ],
    )
    pins = FAMILY.encode(model, request).pins
    assert [(p.frame_index, len(p.frames), p.strength) for p in pins] == [
        (0, 1, 1.0),
        (8, 17, 0.5),
        (28, 1, 1.0),
        (32, 1, 1.0),
    ]
    shown = np.asarray(Image.open(picture))
    assert np.array_equal(pins[0].frames[0], shown)
    assert 15 < pins[1].frames[0].mean() < 30


def test_a_clip_is_cut_where_the_video_ends(model, request_of, clip):
    request = request_of(conditions=[{"file": clip, "frame_index": 4}])
    (pin,) = FAMILY.encode(model, request).pins
    assert len(pin.frames) == 9


def test_a_clip_between_multiples_of_8_comes_in_overlapping_pieces():
    frames = np.arange(25)[:, None, None, None]
    pieces = list(in_pieces(Pin(frames, 12, 0.5)))
    assert [(p.frame_index, p.strength) for p in pieces] == [
        (12, 0.5),
        (20, 0.5),
        (28, 0.5),
    ]
    assert [p.frames.ravel().tolist() for p in pieces] == [
        list(range(9)),
        list(range(8, 17)),
        list(range(16, 25)),
    ]
    whole = Pin(frames, 16, 1.0)
    assert list(in_pieces(whole)) == [whole]
    image = Pin(frames[:1], 5, 1.0)
    assert list(in_pieces(image)) == [image]


def test_a_source_video_gives_its_last_frames(model, request_of, clip):
    request = request_of(source_video=clip, overlap_frames=9)
    (pin,) = FAMILY.encode(model, request).pins
    assert (pin.frame_index, len(pin.frames)) == (0, 9)
    assert pin.frames[-1].mean() == pytest.approx(210, abs=6)
    assert pin.frames[0].mean() == pytest.approx(130, abs=6)


def test_borders_are_drawn_out_to_whole_cells():
    frames = np.arange(2 * 4 * 3).reshape(1, 2, 4, 3).astype(np.uint8)
    made = padded(frames, Size(6, 5))
    assert made.shape == (1, 5, 6, 3)
    assert np.array_equal(made[:, 1:3, 1:5], frames)
    assert np.array_equal(made[0, 0, 1:5], frames[0, 0])
