"""The request inside a finished video: the ``comment`` tag of an MP4.

Read by walking the file's boxes (ISO/IEC 14496-12) rather than through ffmpeg, so
that a gallery of a thousand videos is listed at once and a file that is no MP4 never
reaches a demuxer.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from engine.errors import UnreadableFile
from engine.request import SCHEMA, GenerationRequest

_COMMENT = (b"udta", b"meta", b"ilst", b"\xa9cmt", b"data")
_MOST_BYTES = 1 << 20
_MOST_BOXES = 10_000


def read_request(video: Path) -> GenerationRequest:
    """The request that ``video`` was made from.

    Raises ``UnreadableFile`` when it isn't an MP4 or carries no request.
    """
    comment = read_comment(video)
    if comment is None:
        raise UnreadableFile(f"{video.name} carries no settings: it has no comment tag")
    try:
        stored = json.loads(comment)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile(
            f"{video.name} carries no settings: its comment isn't JSON"
        ) from error
    schema = stored.get("schema") if isinstance(stored, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise UnreadableFile(
            f"{video.name} was made by a newer version of this app; update to read it"
        )
    try:
        return GenerationRequest.model_validate(stored)
    except ValidationError as error:
        raise UnreadableFile(
            f"{video.name} carries no settings: its comment is something else"
        ) from error


def read_comment(video: Path) -> str | None:
    """The ``comment`` tag of an MP4, ``None`` when it has none.

    Raises ``UnreadableFile`` when it can't be read or isn't an MP4.
    """
    try:
        with video.open("rb") as file:
            size = file.seek(0, 2)
            if not _is_mp4(file):
                raise UnreadableFile(f"{video.name} isn't an MP4 video")
            for kind, start, end in _boxes(file, 0, size):
                if kind == b"moov":
                    return _text_at(file, start, end, _COMMENT)
    except OSError as error:
        raise UnreadableFile(f"can't read {video.name}: {error.strerror}") from error
    raise UnreadableFile(f"{video.name} isn't a whole MP4 video: its index is missing")


def ffmetadata(tags: dict[str, str]) -> str:
    """``tags`` in ffmpeg's metadata file format, special characters escaped.

    A value mustn't end in a backslash (JSON never does): ffmpeg's reader would take
    the next line for its continuation.
    """
    special = str.maketrans({mark: f"\\{mark}" for mark in "=;#\\\n"})
    lines = (f"{key}={value.translate(special)}" for key, value in tags.items())
    return "\n".join((";FFMETADATA1", *lines, ""))


def _is_mp4(file: BinaryIO) -> bool:
    file.seek(4)
    return file.read(4) == b"ftyp"


def _text_at(
    file: BinaryIO, start: int, end: int, names: tuple[bytes, ...]
) -> str | None:
    """The text in the box that ``names`` lead to, from the box that spans this."""
    for kind, inner, inner_end in _boxes(file, start, end):
        if kind != names[0]:
            continue
        if len(names) > 1:
            skipped = 4 if kind == b"meta" else 0  # version and flags
            return _text_at(file, inner + skipped, inner_end, names[1:])
        file.seek(inner + 8)  # type and locale
        content = file.read(min(max(inner_end - inner - 8, 0), _MOST_BYTES))
        return content.decode("utf-8", errors="replace")
    return None


def _boxes(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end of content) of each box between two offsets."""
    for _ in range(_MOST_BOXES):
        file.seek(start)
        head = file.read(8)
        if start + 8 > end or len(head) < 8:
            return
        size, kind = struct.unpack(">I4s", head)
        content = start + 8
        if size == 1:  # a 64-bit size follows
            size = struct.unpack(">Q", file.read(8).rjust(8, b"\0"))[0]
            content += 8
        elif size == 0:  # reaches to the end
            size = end - start
        if start + size > end or start + size < content:
            return
        yield kind, content, start + size
        start += size
