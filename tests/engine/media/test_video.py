import subprocess

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from engine.errors import UnreadableFile, UserError
from engine.media.video import VideoWriter, contact_sheet, probe, read_frames


def colours(num_frames, height=48, width=64):
    """Frame k is red, k-th part green."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    frames[..., 0] = 200
    frames[..., 1] = np.linspace(0, 250, num_frames).astype(np.uint8)[:, None, None]
    return frames


def write(path, frames, fps=16.0, chunk=4):
    _, height, width, _ = frames.shape
    with VideoWriter(
        path, width=width, height=height, fps=fps, tags={"comment": "{}"}
    ) as video:
        for start in range(0, len(frames), chunk):
            video.write(frames[start : start + chunk])
    return path


@pytest.mark.parametrize("fps", [1, 7.5, 16, 23.976, 24, 29.97, 60, 119.88, 240])
def test_size_rate_and_length_are_exact(tmp_path, fps):
    info = probe(write(tmp_path / "a.mp4", colours(9), fps=fps))
    assert (info.width, info.height, info.num_frames) == (64, 48, 9)
    assert info.fps == pytest.approx(fps, abs=0.006)
    assert info.seconds == pytest.approx(9 / fps, rel=0.001)


@pytest.mark.parametrize("num_frames", [1, 2, 33])
def test_frames_come_back_in_order_with_their_colours(tmp_path, num_frames):
    written = colours(num_frames)
    read = list(read_frames(write(tmp_path / "a.mp4", written)))
    assert len(read) == num_frames
    for before, after in zip(written, read, strict=True):
        difference = before[24, 32].astype(int) - after[24, 32].astype(int)
        assert abs(difference).max() <= 4


def test_browsers_can_play_it(tmp_path):
    video = write(tmp_path / "a.mp4", colours(9))
    command = [get_ffmpeg_exe(), "-hide_banner", "-i", str(video)]
    said = subprocess.run(command, capture_output=True, check=False).stderr.decode()
    assert "h264" in said
    assert "yuv420p(tv, bt709" in said
    content = video.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # starts while it loads


def test_a_full_disk_is_told_in_words(tmp_path):
    path = tmp_path / "a.mp4"
    path.symlink_to("/dev/full")  # refuses every write as a full disk does
    noise = np.random.default_rng(0).integers(0, 255, (9, 480, 640, 3), dtype=np.uint8)
    with (
        pytest.raises(UserError, match="no space is left on the disk"),
        VideoWriter(
            path, width=640, height=480, fps=8, tags={"comment": "{}"}
        ) as video,
    ):
        for _ in range(20):
            video.write(noise)


def test_frames_of_another_size_are_refused(tmp_path):
    with (
        pytest.raises(ValueError, match="frames must be uint8"),
        VideoWriter(
            tmp_path / "a.mp4", width=64, height=48, fps=8, tags={"comment": "{}"}
        ) as video,
    ):
        video.write(colours(2, height=64))


def test_leaving_early_ends_ffmpeg_and_leaves_no_tags_file(tmp_path):
    path = tmp_path / "a.mp4"
    with (
        pytest.raises(KeyboardInterrupt),
        VideoWriter(path, width=64, height=48, fps=8, tags={"comment": "{}"}) as video,
    ):
        video.write(colours(2))
        raise KeyboardInterrupt
    assert video._process.returncode is not None
    assert [file.name for file in tmp_path.iterdir()] in ([], ["a.mp4"])


def test_a_folder_that_vanishes_is_told_in_words(tmp_path):
    path = tmp_path / "gone" / "a.mp4"
    path.parent.mkdir()
    with (
        pytest.raises(UserError, match=f"can't write the video into {path.parent}"),
        VideoWriter(path, width=64, height=48, fps=8, tags={"comment": "{}"}) as video,
    ):
        (path.parent / "a.mp4.tags").unlink()
        path.parent.rmdir()
        for _ in range(100):
            video.write(colours(9))


def test_a_disk_that_is_full_at_the_start_is_told_in_words(tmp_path, monkeypatch):
    def refuse(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.media.video.subprocess.Popen", refuse)
    with pytest.raises(UserError, match=r"can't write the video .*: No space left"):
        VideoWriter(tmp_path / "a.mp4", width=64, height=48, fps=8, tags={})
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_video_is_refused(tmp_path):
    text = tmp_path / "a.mp4"
    text.write_text("not a video")
    with pytest.raises(UnreadableFile, match="isn't a video that can be read"):
        probe(text)
    with pytest.raises(UnreadableFile, match="there is no file"):
        probe(tmp_path / "none.mp4")


@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8"])
def test_a_playlist_is_not_followed(tmp_path, name):
    video = write(tmp_path / "inner.mp4", colours(9))
    playlist = tmp_path / name
    playlist.write_text(f"#EXTM3U\n#EXTINF:1,\n{video}\n#EXT-X-ENDLIST\n")
    with pytest.raises(UnreadableFile):
        probe(playlist)
    concat = tmp_path / "concat.mp4"
    concat.write_text(f"ffconcat version 1.0\nfile '{video}'\n")
    with pytest.raises(UnreadableFile):
        probe(concat)


def test_a_contact_sheet_shows_frames_from_first_to_last(tmp_path):
    video = write(tmp_path / "a.mp4", colours(33))
    contact_sheet(video, tmp_path / "sheets" / "a.png")
    sheet = np.asarray(Image.open(tmp_path / "sheets" / "a.png"))
    assert sheet.shape == (4 * 48, 4 * 64, 3)
    assert sheet[24, 32, 1] < 10
    assert sheet[-24, -32, 1] > 240
