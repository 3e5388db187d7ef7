import subprocess

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from engine.errors import UnreadableFile
from engine.media.frames import (
    all_but_last,
    check_image,
    count_frames,
    is_video,
    load_clip,
    load_image,
    read_clip,
    save_last_frame,
)
from engine.media.video import VideoWriter


@pytest.fixture
def clip(tmp_path):
    """Writes a clip whose frame k has the level ``8 * k``, its left quarter black."""

    def clip(num_frames, fps=16.0, width=64, height=48, name="clip.mp4"):
        levels = np.arange(num_frames, dtype=np.uint8)[:, None, None, None] * 8
        frames = np.broadcast_to(levels, (num_frames, height, width, 3)).copy()
        frames[:, :, : width // 4] = 0
        path = tmp_path / name
        with VideoWriter(path, width=width, height=height, fps=fps, tags={}) as video:
            video.write(frames)
        return path

    return clip


def levels(frames):
    """Which frames of the clip these are."""
    return [round(float(frame[24, 40].mean()) / 8) for frame in frames]


def picture(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def test_a_picture_of_the_right_size_comes_bit_for_bit(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    loaded = load_image(picture(tmp_path / "a.png", pixels), 64, 48)
    assert np.array_equal(loaded, pixels)


def test_a_wide_picture_is_cut_at_both_sides(tmp_path):
    pixels = np.zeros((50, 200, 3), np.uint8)
    pixels[:, 75:125] = (10, 200, 30)  # the middle quarter
    loaded = load_image(picture(tmp_path / "a.png", pixels), 32, 32)
    assert loaded.shape == (32, 32, 3)
    assert np.abs(loaded[:, 4:-4].astype(int) - (10, 200, 30)).max() <= 2


def test_a_picture_is_turned_as_its_camera_was(tmp_path):
    pixels = np.zeros((40, 20, 3), np.uint8)
    pixels[:20] = 255  # the upper half; turned by 270 degrees, the right one
    exif = Image.Exif()
    exif[0x0112] = 6
    path = picture(tmp_path / "a.png", pixels, exif=exif)
    loaded = load_image(path, 40, 20)
    assert loaded[:, 30:].min() == 255
    assert loaded[:, :10].max() == 0


def test_what_is_transparent_is_black(tmp_path):
    pixels = np.full((16, 16, 4), 255, np.uint8)
    pixels[:, :8, 3] = 0
    loaded = load_image(picture(tmp_path / "a.png", pixels), 16, 16)
    assert loaded[:, :8].max() == 0
    assert loaded[:, 8:].min() == 255


def test_a_grey_picture_of_sixteen_bits_keeps_its_levels(tmp_path):
    pixels = np.full((16, 16), 0x8000, np.uint16)
    loaded = load_image(picture(tmp_path / "a.png", pixels), 16, 16)
    assert loaded.shape == (16, 16, 3)
    assert set(np.unique(loaded)) == {128}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, list(range(9))),
        ({"first": 3}, [0, 1, 2]),
        ({"last": 3}, [6, 7, 8]),
        ({"last": 50}, list(range(9))),
        ({"first": 5, "last": 2}, [3, 4]),
    ],
)
def test_a_clip_comes_whole_or_in_part(clip, asked, expected):
    frames = load_clip(clip(9), 64, 48, 16.0, **asked)
    assert frames.dtype == np.uint8
    assert frames.shape == (len(expected), 48, 64, 3)
    assert levels(frames) == expected


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (16.0, list(range(16))),
        (8.0, [0, 2, 4, 6, 8, 10, 12, 14]),
        (32.0, [k // 2 for k in range(32)]),
    ],
)
def test_a_clip_keeps_its_length_in_seconds(clip, fps, expected):
    frames = load_clip(clip(16), 64, 48, fps)
    assert len(frames) == len(expected)
    assert np.abs(np.array(levels(frames)) - expected).max() <= 1
    assert count_frames(clip(16), fps, 1000) == len(expected)


def test_a_clip_shorter_than_a_frame_has_one(clip):
    assert len(load_clip(clip(1, fps=60.0), 64, 48, 8.0)) == 1


def test_frames_are_counted_only_as_far_as_asked(clip):
    assert count_frames(clip(16), 16.0, 5) == 5


def test_a_clip_is_scaled_to_cover_and_cut_at_the_centre(clip):
    frames = load_clip(clip(3, width=128, height=32), 32, 32, 16.0)
    assert frames.shape == (3, 32, 32, 3)
    assert np.abs(frames[2].astype(int) - 16).max() <= 2  # the black quarter is cut


def test_all_but_the_last_frames_are_passed_on_as_they_come():
    taken = []
    frames = all_but_last((taken.append(k) or k for k in range(6)), 2)
    assert next(frames) == 0
    assert taken == [0, 1, 2]
    assert list(frames) == [1, 2, 3]
    assert list(all_but_last(iter([1, 2]), 3)) == []


def test_a_clip_is_turned_as_its_camera_was(clip, tmp_path):
    upright = tmp_path / "upright.mp4"
    turn = [get_ffmpeg_exe(), "-loglevel", "error", "-display_rotation", "90"]
    command = [*turn, "-i", str(clip(9)), "-c", "copy", str(upright)]
    subprocess.run(command, check=True)
    frames = load_clip(upright, 48, 64, 16.0)
    assert frames.shape == (9, 64, 48, 3)
    assert frames[8, -14:].max() <= 2  # the black quarter, now below
    assert frames[8, :46].min() >= 60


def test_the_last_frame_is_saved_in_its_own_size(clip, tmp_path):
    save_last_frame(clip(9), tmp_path / "last.png")
    with Image.open(tmp_path / "last.png") as image:
        assert image.size == (64, 48)
        assert levels([np.asarray(image)]) == [8]


def test_reading_can_stop_early(clip):
    frames = read_clip(clip(16), 64, 48, 16.0)
    assert levels([next(frames)]) == [0]
    frames.close()


def test_what_a_file_is_goes_by_its_content(clip, tmp_path):
    assert is_video(clip(3, name="clip.png"))
    still = picture(tmp_path / "a.mp4.png", np.zeros((8, 8, 3), np.uint8))
    assert not is_video(still.rename(tmp_path / "still.mp4"))
    shades = [Image.new("L", (8, 8), level) for level in (0, 200)]
    shades[0].save(tmp_path / "a.gif", save_all=True, append_images=shades[1:])
    assert is_video(tmp_path / "a.gif")
    shades[0].save(tmp_path / "b.gif")
    assert not is_video(tmp_path / "b.gif")


@pytest.fixture(params=["junk", "empty", "cut", "missing"])
def broken(request, tmp_path):
    path = tmp_path / "broken.png"
    if request.param == "cut":
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        picture(path, noise)
        path.write_bytes(path.read_bytes()[:5000])
    elif request.param != "missing":
        path.write_bytes(b"junk" * 100 if request.param == "junk" else b"")
    return path


@pytest.mark.parametrize(
    "read",
    [
        check_image,
        is_video,
        lambda path: load_image(path, 8, 8),
        lambda path: load_clip(path, 8, 8, 8.0),
        lambda path: count_frames(path, 8.0, 3),
    ],
    ids=["check_image", "is_video", "load_image", "load_clip", "count_frames"],
)
def test_a_broken_file_is_named(broken, read):
    with pytest.raises(UnreadableFile, match=r"broken\.png"):
        read(broken)
