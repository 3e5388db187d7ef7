"""VACE against diffusers' own pipeline, called directly, and what it is shown."""

import numpy as np
import pytest
import torch
from diffusers import WanVACEPipeline
from PIL import Image

from engine.media.frames import load_clip
from engine.media.video import VideoWriter
from tests.wan.test_tasks import ours, theirs
from wan import FAMILY
from wan.vace import from_controls

MODEL = "wan2.1-vace-1.3b"


def noise(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def files(tmp_path):
    """``control.mp4`` of 13 frames, a ``mask.png`` and a ``mask.mp4`` that are white
    on the left and on the right, and two pictures of other sizes."""
    with VideoWriter(
        tmp_path / "control.mp4", width=64, height=48, fps=16.0, tags={}
    ) as video:
        video.write(noise(1, 13, 48, 64, 3))
    mask = np.zeros((13, 48, 64, 3), np.uint8)
    mask[:, :, 32:] = 255
    with VideoWriter(
        tmp_path / "mask.mp4", width=64, height=48, fps=16.0, tags={}
    ) as video:
        video.write(mask)
    Image.fromarray(mask[0, :, ::-1]).save(tmp_path / "mask.png")
    Image.fromarray(noise(2, 40, 30, 3)).save(tmp_path / "portrait.png")
    Image.fromarray(noise(3, 30, 90, 3)).save(tmp_path / "wide.png")
    return tmp_path


def pictures(frames):
    return [Image.fromarray(frame) for frame in frames]


def expected_left_mask():
    mask = np.zeros((9, 48, 64), np.uint8)
    mask[:, :, :32] = 255
    return mask


def test_text_alone_is_what_diffusers_makes_of_it(load_row, row_folder, row_request):
    request = row_request(MODEL)
    expected = theirs(WanVACEPipeline, row_folder, request)
    assert torch.equal(ours(load_row(MODEL), request), expected)


def test_a_control_video_is_followed_as_diffusers_does(
    load_row, row_folder, row_request, files
):
    request = row_request(MODEL, control_video=str(files / "control.mp4"))
    made = ours(load_row(MODEL), request)
    frames = pictures(load_clip(files / "control.mp4", 64, 48, 16)[:9])
    assert torch.equal(made, theirs(WanVACEPipeline, row_folder, request, video=frames))
    assert not torch.equal(made, ours(load_row(MODEL), row_request(MODEL)))


def test_what_is_masked_is_grey_and_the_rest_is_the_control_video(
    load_row, row_folder, row_request, files
):
    request = row_request(
        MODEL,
        control_video=str(files / "control.mp4"),
        control_mask=str(files / "mask.png"),
    )
    made = ours(load_row(MODEL), request)
    frames = load_clip(files / "control.mp4", 64, 48, 16)[:9].copy()
    frames[:, :, :32] = 128
    expected = theirs(
        WanVACEPipeline,
        row_folder,
        request,
        video=pictures(frames),
        mask=pictures(expected_left_mask()),
    )
    assert torch.equal(made, expected)


def test_a_mask_may_move(load_row, row_request, files):
    request = row_request(
        MODEL,
        control_video=str(files / "control.mp4"),
        control_mask=str(files / "mask.mp4"),
    )
    shown = from_controls(load_row(MODEL), request).arguments
    mask = np.stack([np.asarray(each) for each in shown["mask"]])
    assert mask.shape == (9, 48, 64)
    assert set(np.unique(mask)) == {0, 255}
    # Video coding blurs the border by a few pixels.
    assert (mask[:, :, 36:] == 255).all() and (mask[:, :, :28] == 0).all()


def test_reference_images_take_latent_frames_that_are_dropped(
    load_row, row_folder, row_request, files
):
    names = ["portrait.png", "wide.png"]
    request = row_request(MODEL, image_refs=[str(files / name) for name in names])
    seen = []
    model = load_row(MODEL)
    made = ours(model, request, lambda done, total, latents: seen.append(latents))
    expected = theirs(
        WanVACEPipeline,
        row_folder,
        request,
        reference_images=[Image.open(files / name) for name in names],
    )
    assert expected.shape[2] == 5
    assert torch.equal(made, expected[:, :, 2:])
    assert all(each.shape == made.shape for each in seen)
    decoded = np.concatenate(list(FAMILY.decode(model, made, request)))
    assert decoded.shape == (9, 48, 64, 3)
