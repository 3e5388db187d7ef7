import os
from datetime import UTC, datetime

import numpy as np
import pytest

from engine.errors import UserError
from engine.media.video import VideoWriter
from engine.outputs import (
    appearing_when_finished,
    delete_output,
    list_outputs,
    output_path,
    sidecar_path,
    slug,
)
from engine.request import GenerationRequest

NOON = datetime(2026, 11, 23, 12, 0, 5, tzinfo=UTC)
REQUEST = GenerationRequest(model="wan-demo", prompt="A red ball, on grass!", seed=7)


def write_video(path, request=REQUEST):
    with VideoWriter(
        path, width=64, height=48, fps=8, tags={"comment": request.to_json()}
    ) as video:
        video.write(np.zeros((5, 48, 64, 3), np.uint8))
    return path


def test_a_job_has_one_path_for_ever(tmp_path):
    path = output_path("3f2a", NOON, REQUEST, tmp_path)
    local = NOON.astimezone().strftime("%Y-%m-%d_%Hh%Mm%Ss")
    assert path == tmp_path / f"{local}_wan-demo_a-red-ball-on-grass_seed7_3f2a.mp4"
    assert output_path("3f2a", NOON, REQUEST, tmp_path) == path
    assert output_path("3f2b", NOON, REQUEST, tmp_path) != path


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("A red ball", "a-red-ball"),
        ("../../etc/passwd", "etc-passwd"),
        ("two\nlines: a|b?*", "two-lines-a-b"),
        ("été à Noël", "été-à-noël"),
        ("夜の東京", "夜の東京"),
        ("!!!", "video"),
        ("word " * 100, ("word-" * 12).strip("-")),
    ],
)
def test_any_prompt_becomes_a_file_name(text, name):
    assert slug(text) == name
    assert len(slug(text).encode()) <= 60


def test_long_prompts_of_any_script_make_files_that_can_be_written(tmp_path):
    request = REQUEST.with_values(prompt="夜" * 5000, model="m" * 200)
    path = output_path("x" * 64, NOON, request, tmp_path)
    path.write_bytes(b"")
    assert len(path.name.encode()) < 255


def test_a_file_appears_only_when_the_block_ends_well(tmp_path):
    output = tmp_path / "out" / "a.mp4"
    with appearing_when_finished(output, "job") as part:
        part.write_bytes(b"video")
        assert not output.exists()
        assert part == tmp_path / "out" / ".part" / "job.mp4"
    assert output.read_bytes() == b"video"
    assert not part.exists()


def test_a_file_vanishes_when_the_block_fails(tmp_path):
    output = tmp_path / "a.mp4"
    with pytest.raises(ValueError, match="odd"), appearing_when_finished(output, "job"):
        raise ValueError("odd")
    assert [file.name for file in tmp_path.rglob("*")] == [".part"]


def test_a_part_of_an_earlier_attempt_is_replaced(tmp_path):
    part = tmp_path / ".part" / "job.mp4"
    part.parent.mkdir()
    part.write_bytes(b"half of a video")
    with appearing_when_finished(tmp_path / "a.mp4", "job") as fresh:
        assert fresh.read_bytes() == b""


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(UserError, match=r"can't write the video into .*file"),
        appearing_when_finished(tmp_path / "file" / "a.mp4", "job"),
    ):
        pass


def test_a_folder_of_the_videos_name_is_told_before_anything_is_made(tmp_path):
    with (
        pytest.raises(UserError, match="is a folder; name a file"),
        appearing_when_finished(tmp_path, "job"),
    ):
        pytest.fail("hours of work")


def test_finished_videos_are_listed_newest_first_with_their_requests(tmp_path):
    old = write_video(tmp_path / "old.mp4")
    new = write_video(tmp_path / "new.mp4", REQUEST.with_values(seed=8))
    os.utime(old, (1_000_000, 1_000_000))
    (tmp_path / ".part").mkdir()
    write_video(tmp_path / ".part" / "half.mp4")
    (tmp_path / "notes.txt").write_text("notes")
    (tmp_path / "foreign.mp4").write_bytes(b"no video")
    os.utime(tmp_path / "foreign.mp4", (500_000, 500_000))
    listed = list_outputs(tmp_path)
    assert [output.path.name for output in listed] == [
        "new.mp4",
        "old.mp4",
        "foreign.mp4",
    ]
    assert [output.request and output.request.seed for output in listed] == [8, 7, None]
    assert listed[0].bytes == new.stat().st_size
    assert listed[1].created_at == datetime.fromtimestamp(1_000_000, UTC)


def test_an_absent_folder_holds_no_videos(tmp_path):
    assert list_outputs(tmp_path / "none") == []


def test_a_video_is_deleted_with_its_sidecar(tmp_path):
    video = write_video(tmp_path / "a.mp4")
    sidecar_path(video).write_text("{}")
    delete_output(video, tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match="already gone"):
        delete_output(video, tmp_path)


def test_a_video_that_the_system_keeps_is_told(tmp_path, monkeypatch):
    video = write_video(tmp_path / "a.mp4")

    def refuse(_path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with pytest.raises(UserError, match=r"can't delete a\.mp4: Permission denied"):
        delete_output(video, tmp_path)


def test_only_videos_of_the_folder_can_be_deleted(tmp_path):
    folder = tmp_path / "outputs"
    folder.mkdir()
    outside = write_video(tmp_path / "a.mp4")
    (folder / "app.json").write_text("{}")
    for path in (outside, folder / ".." / "a.mp4", folder / "app.json"):
        with pytest.raises(UserError, match="isn't a video in"):
            delete_output(path, folder)
    assert outside.exists()
