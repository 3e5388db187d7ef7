"""The sound of a source video in what is made of it."""

import subprocess

import numpy as np
import pytest

from engine.errors import UserError
from engine.media.metadata import read_comment
from engine.media.sound import keep_sound
from engine.media.video import VideoWriter, open_command, probe, read_frames


def write(path, frames):
    tags = {"comment": '{"prompt": "Größe = \\"x\\"; #1"}'}
    with VideoWriter(path, width=64, height=48, fps=8, tags=tags) as video:
        for shade in range(frames):
            video.write(np.full((1, 48, 64, 3), 10 * shade, np.uint8))
    return path


@pytest.fixture
def with_sound(tmp_path):
    """A video with so many seconds of a tone."""

    def with_sound(seconds):
        silent, path = write(tmp_path / "silent.mp4", 9), tmp_path / "source.mp4"
        tone = ("-f", "lavfi", "-i", f"sine=440:duration={seconds}")
        made = ("-map", "0:v", "-map", "1:a", "-c:v", "copy", str(path))
        command = [*open_command(silent), *tone, *made]
        subprocess.run(command, capture_output=True, check=True)
        return path

    return with_sound


def loudness(video):
    """The loudest sample of each quarter of a second, 0 to 1."""
    rate = ("-map", "0:a", "-ac", "1", "-ar", "8000", "-f", "s16le", "-")
    done = subprocess.run(
        [*open_command(video), *rate], capture_output=True, check=True
    )
    samples = np.abs(np.frombuffer(done.stdout, "<i2") / 32768)
    return [samples[at : at + 2000].max() for at in range(0, len(samples), 2000)]


@pytest.mark.parametrize(("seconds", "heard"), [(1, 1), (5, 2)])
def test_it_is_kept_from_the_start_to_the_end_of_the_video(
    with_sound, tmp_path, seconds, heard
):
    source, video = with_sound(seconds), write(tmp_path / "new.mp4", 16)
    before, comment = list(read_frames(video)), read_comment(video)
    keep_sound(source, video)
    assert all(map(np.array_equal, read_frames(video), before))
    assert probe(video).num_frames == 16
    assert read_comment(video) == comment
    loud = loudness(video)
    assert min(loud[: 4 * heard]) > 0.05
    assert len(loud) <= 4 * heard + 1
    assert not list(tmp_path.glob("*.sound"))


def test_a_silent_source_leaves_the_file_as_it_is(tmp_path):
    source, video = write(tmp_path / "a.mp4", 2), write(tmp_path / "b.mp4", 2)
    content = video.read_bytes()
    keep_sound(source, video)
    assert video.read_bytes() == content


def test_what_goes_wrong_leaves_the_file_as_it_is(with_sound, tmp_path):
    source, video = with_sound(1), tmp_path / "b.mp4"
    content = b"broken"
    video.write_bytes(content)
    with pytest.raises(UserError, match=r"b\.mp4 isn't a video"):
        keep_sound(source, video)
    assert video.read_bytes() == content


def test_a_system_that_refuses_costs_the_sound_alone(with_sound, tmp_path, monkeypatch):
    source, video = with_sound(1), write(tmp_path / "new.mp4", 9)

    def refuse(_path, _target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.replace", refuse)
    with pytest.raises(UserError, match=r"sound of source\.mp4 .*: Permission denied"):
        keep_sound(source, video)
    assert probe(video).num_frames == 9
    assert [each.name for each in tmp_path.glob("*.sound")] == []
