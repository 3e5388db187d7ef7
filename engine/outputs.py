"""Finished videos: where each goes, which there are, and taking one away."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from engine.errors import UnreadableFile, UserError
from engine.media.metadata import read_request
from engine.request import GenerationRequest

PART_FOLDER = ".part"
"""Below an output folder: videos that aren't finished yet."""

SLUG_BYTES = 60


@dataclass(frozen=True)
class Output:
    """One finished video."""

    path: Path
    created_at: datetime
    bytes: int
    request: GenerationRequest | None
    """What it was made from; ``None`` when the file doesn't say."""


def output_path(
    job_id: str, created_at: datetime, request: GenerationRequest, folder: Path
) -> Path:
    """Where the video of this job goes: always the same path for the same job, so
    that a second attempt can't leave a second video."""
    name = "_".join(
        (
            created_at.astimezone().strftime("%Y-%m-%d_%Hh%Mm%Ss"),
            slug(request.model),
            slug(request.prompt),
            f"seed{request.seed}",
            slug(job_id),
        )
    )
    return folder / f"{name}.mp4"


def slug(text: str) -> str:
    """Letters and digits of any script, joined by hyphens, short enough for a file
    name on every system."""
    words = re.findall(r"[^\W_]+", unicodedata.normalize("NFC", text).lower())
    joined = "-".join(words)
    cut = joined.encode()[:SLUG_BYTES].decode(errors="ignore")
    return cut.strip("-") or "video"


def part_path(output: Path, job: str) -> Path:
    """Where ``job`` writes before its video is whole and moves to ``output``."""
    return output.parent / PART_FOLDER / f"{slug(job)}{output.suffix}"


def remove_part(output: Path, job: str) -> None:
    """Delete what a dead worker has left of the video of ``job``."""
    part = part_path(output, job)
    for file in part.parent.glob(f"{part.name}*"):  # beside it lie its tags
        with contextlib.suppress(OSError):  # in use on Windows: it stays for now
            file.unlink()


@contextmanager
def appearing_when_finished(output: Path, job: str) -> Iterator[Path]:
    """A path to write to; its file moves to ``output`` in one step if the block ends
    well, and vanishes if it doesn't.

    Raises ``UserError`` when ``output`` is a folder or can't be written to.
    """
    if output.is_dir():
        raise UserError(f"{output} is a folder; name a file for the video")
    part = part_path(output, job)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        part.touch()
    except OSError as error:
        raise cannot_write(output.parent, error) from error
    try:
        yield part
        _publish(part, output)
    finally:
        part.unlink(missing_ok=True)


def cannot_write(folder: Path, error: OSError) -> UserError:
    """The sentence for a folder that refused a file."""
    reason = error.strerror or str(error)
    return UserError(
        f"can't write the video into {folder}: {reason}. Free some space or choose "
        "another output folder, then retry"
    )


def list_outputs(folder: Path) -> list[Output]:
    """The finished videos in ``folder``, newest first."""
    found = []
    for path in folder.glob("*.mp4"):
        try:
            status = path.stat()
        except FileNotFoundError:  # deleted since it was listed
            continue
        found.append(
            Output(
                path=path,
                created_at=datetime.fromtimestamp(status.st_mtime, UTC),
                bytes=status.st_size,
                request=_request_in(path),
            )
        )
    return sorted(found, key=lambda output: output.created_at, reverse=True)


def delete_output(path: Path, folder: Path) -> None:
    """Delete a finished video and its sidecar.

    Raises ``UserError`` when it isn't a video in ``folder``, or the system refuses.
    """
    if path.suffix != ".mp4" or path.resolve().parent != folder.resolve():
        raise UserError(f"{path.name} isn't a video in {folder}")
    try:
        path.unlink()
    except FileNotFoundError as error:
        raise UserError(f"{path.name} is already gone") from error
    except OSError as error:
        raise UserError(f"can't delete {path.name}: {error.strerror}") from error
    with contextlib.suppress(OSError):
        sidecar_path(path).unlink()


def sidecar_path(video: Path) -> Path:
    """Where the request of ``video`` goes when settings ask for a separate file."""
    return video.with_suffix(".json")


def _request_in(path: Path) -> GenerationRequest | None:
    try:
        return read_request(path)
    except UnreadableFile:
        return None


def _publish(part: Path, output: Path) -> None:
    try:
        _flush(part)
        part.replace(output)
        _flush(output.parent)
    except OSError as error:
        raise cannot_write(output.parent, error) from error


def _flush(path: Path) -> None:
    """Force a file, or a folder's list of files, onto the disk."""
    if path.is_dir() and os.name == "nt":  # Windows can't open a folder
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
