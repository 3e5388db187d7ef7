import json
import struct

import numpy as np
import pytest

from engine.errors import UnreadableFile
from engine.media.metadata import read_comment, read_request
from engine.media.video import VideoWriter
from engine.request import GenerationRequest


def write(path, comment):
    with VideoWriter(
        path, width=64, height=48, fps=8, tags={"comment": comment, "title": "a=b"}
    ) as video:
        video.write(np.zeros((5, 48, 64, 3), np.uint8))
    return path


@pytest.mark.parametrize(
    "prompt",
    [
        'a "red" ball',
        "two\nlines\r\nand a\ttab",
        "é ñ ü 日本語 🎬",
        "; = # \\ \\\\ ;FFMETADATA1 [STREAM] %s {0} $HOME",
        "'single' `back` <tag> & \x1b[0m",
        "x" * 20_000,
    ],
)
def test_a_request_survives_the_way_through_a_video(tmp_path, prompt):
    request = GenerationRequest(
        model="wan-demo", prompt=prompt, negative_prompt=prompt[:5], seed=7, fps=12.5
    )
    video = write(tmp_path / "a.mp4", request.to_json())
    assert read_request(video) == request
    assert json.loads(read_comment(video))["schema"] == 1


def test_a_video_without_settings_says_so(tmp_path):
    video = write(tmp_path / "a.mp4", "shot on holiday")
    with pytest.raises(UnreadableFile, match="its comment isn't JSON"):
        read_request(video)
    video = write(tmp_path / "b.mp4", '{"song": "la"}')
    with pytest.raises(UnreadableFile, match="its comment is something else"):
        read_request(video)
    video = write(tmp_path / "c.mp4", "")
    with pytest.raises(UnreadableFile, match="it has no comment tag"):
        read_request(video)


def test_a_video_of_a_newer_version_says_so(tmp_path):
    video = write(tmp_path / "a.mp4", '{"schema": 99, "model": "m", "prompt": "p"}')
    with pytest.raises(UnreadableFile, match="newer version of this app"):
        read_request(video)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"PK\3\4 a zip",
        b"\0\0\0\x18ftypisom",
        b"\0\0\0\x08ftyp" + struct.pack(">I4s", 2**31, b"moov"),
        b"\0\0\0\x08ftyp" + b"\0\0\0\1moov" + b"\xff" * 8,
        b"\0\0\0\x08ftyp" + b"\0\0\0\4free" * 50_000,
    ],
)
def test_what_is_no_whole_mp4_is_refused(tmp_path, content):
    file = tmp_path / "a.mp4"
    file.write_bytes(content)
    with pytest.raises(UnreadableFile, match=r"a\.mp4 isn't a"):
        read_request(file)


def test_a_damaged_mp4_never_raises_anything_else(tmp_path):
    video = write(tmp_path / "a.mp4", '{"model": "m", "prompt": "p"}')
    content = bytearray(video.read_bytes())
    damaged = tmp_path / "b.mp4"
    for position in range(0, len(content), 7):
        content[position] ^= 0xFF
        damaged.write_bytes(content)
        content[position] ^= 0xFF
        try:
            read_request(damaged)
        except UnreadableFile:
            continue


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UnreadableFile, match=r"can't read none\.mp4: No such file"):
        read_request(tmp_path / "none.mp4")
