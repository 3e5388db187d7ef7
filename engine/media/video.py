"""Video files through ffmpeg: writing frames as they come, and reading them back.

ffmpeg comes with imageio-ffmpeg. Files are opened by content (``format_whitelist``)
and only from disk (``protocol_whitelist``): a playlist dressed up as a video can't
make ffmpeg fetch what it names.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import UnreadableFile, UserError
from engine.media.metadata import ffmetadata

if TYPE_CHECKING:
    import numpy as np

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,gif"
QUALITY = 17
"""x264's constant rate factor: visually lossless."""


@dataclass(frozen=True)
class VideoInfo:
    """What a video file holds. Sizes in pixels, fps in frames per second."""

    width: int
    height: int
    fps: float
    num_frames: int

    @property
    def seconds(self) -> float:
        return self.num_frames / self.fps


class VideoWriter:
    """Encodes frames to H.264 (``yuv420p``, BT.709) while they are being made.

    Used as a context manager. Leaving it normally ends the file and checks that it
    holds exactly what was written; leaving it by an exception ends ffmpeg. Raises
    ``UserError`` when the file can't be written.
    """

    def __init__(
        self, path: Path, *, width: int, height: int, fps: float, tags: dict[str, str]
    ) -> None:
        self.num_frames = 0
        self._path = path
        self._shape = (height, width, 3)
        self._fps = fps
        self._tags = Path(f"{path}.tags")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed on exit
        try:
            self._tags.write_text(ffmetadata(tags), encoding="utf-8")
            self._process = subprocess.Popen(
                _encode_command(path, self._tags, width, height, fps),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
            )
        except OSError as error:
            self._errors.close()
            self._tags.unlink(missing_ok=True)
            raise _refusal(path, error.strerror or str(error)) from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._end_process()
            self._tags.unlink(missing_ok=True)
            self._errors.close()

    def write(self, frames: np.ndarray) -> None:
        """Append ``frames``, uint8 (frames, height, width, 3).

        Raises ``UserError`` when the disk is full or the file can't be written.
        """
        if frames.shape[1:] != self._shape or frames.dtype.name != "uint8":
            raise ValueError(
                f"frames must be uint8 (n, {self._shape}), are {frames.dtype} "
                f"{frames.shape}"
            )
        assert self._process.stdin is not None
        try:
            for frame in frames:
                self._process.stdin.write(frame.tobytes())
        except OSError as error:  # ffmpeg has ended: it says why
            raise self._failure() from error
        self.num_frames += len(frames)

    def _finish(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
        except OSError as error:
            raise self._failure() from error
        if self._process.wait() != 0:
            raise self._failure()
        height, width, _ = self._shape
        found = probe(self._path)
        size = (found.width, found.height, found.num_frames)
        same_fps = abs(found.fps - self._fps) < 0.01  # ffmpeg tells two decimals
        if size != (width, height, self.num_frames) or not same_fps:
            raise UserError(
                f"the video came out as {found} instead of {self.num_frames} frames of "
                f"{width}x{height}; the disk may be failing: retry, or choose another "
                "output folder"
            )

    def _failure(self) -> UserError:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit status {self._process.returncode}"
        if any("No space left" in line for line in lines):
            reason = "no space is left on the disk; free some, then retry"
        return _refusal(self._path, reason)

    def _end_process(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):  # what it didn't take any more
                self._process.stdin.close()


def _refusal(path: Path, reason: str) -> UserError:
    return UserError(f"can't write the video into {path.parent}: {reason}")


def probe(video: Path) -> VideoInfo:
    """Size, rate and length of ``video``; its frames are counted, not estimated.

    Raises ``UnreadableFile`` when it isn't a video.
    """
    # Lists each frame on its stdout; what ffmpeg says of itself has no count in some
    # of its versions.
    frames = ("-map", "0:v:0", "-c", "copy", "-f", "framecrc", "-")
    done = _run([*open_command(video), *frames], video)
    log = done.stderr.decode(errors="replace")
    stream = re.search(r"Stream #0.*?: Video: .*?(\d{2,5})x(\d{2,5})[ ,\[].*", log)
    rate = re.search(r"([\d.]+)(k?) fps", stream.group(0)) if stream else None
    if stream is None or rate is None:
        raise UnreadableFile(f"{video.name} holds no video")
    fps = float(rate.group(1)) * (1000 if rate.group(2) else 1)
    count = sum(not line.startswith(b"#") for line in done.stdout.splitlines())
    return VideoInfo(int(stream.group(1)), int(stream.group(2)), fps, count)


def read_frames(video: Path) -> Iterator[np.ndarray]:
    """Each frame of ``video``, uint8 (height, width, 3).

    Raises ``UnreadableFile`` when it isn't a video.
    """
    import numpy as np

    info = probe(video)
    shape = (info.height, info.width, 3)
    command = [
        *(*open_command(video), "-map", "0:v:0", "-fps_mode", "passthrough"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        try:
            size = info.height * info.width * 3
            while len(data := process.stdout.read(size)) == size:
                yield np.frombuffer(data, np.uint8).reshape(shape)
        finally:
            process.kill()


def contact_sheet(video: Path, picture: Path, *, columns: int = 4) -> None:
    """Write a PNG with up to ``columns`` squared frames of ``video``, evenly spaced."""
    import numpy as np
    from PIL import Image

    frames = list(read_frames(video))
    wanted = np.linspace(0, len(frames) - 1, min(len(frames), columns**2))
    chosen = [frames[int(index)] for index in wanted]
    blank = [np.zeros_like(chosen[0])] * (-len(chosen) % columns)
    tiles = [*chosen, *blank]
    rows = [
        np.concatenate(tiles[start : start + columns], axis=1)
        for start in range(0, len(tiles), columns)
    ]
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(picture)


def open_command(*videos: Path) -> list[str]:
    """The start of an ffmpeg command that reads ``videos``, and nothing else."""
    command = [_ffmpeg(), "-nostdin", "-hide_banner"]
    for video in videos:
        command += ["-protocol_whitelist", "file,pipe"]
        command += ["-format_whitelist", CONTAINERS]
        command += ["-i", f"file:{video.resolve()}"]
    return command


def _run(command: list[str], video: Path) -> subprocess.CompletedProcess[bytes]:
    if not video.is_file():
        raise UnreadableFile(f"there is no file {video}")
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise UnreadableFile(f"{video.name} isn't a video that can be read")
    return done


def _encode_command(
    path: Path, tags: Path, width: int, height: int, fps: float
) -> list[str]:
    rate = Fraction(fps).limit_denominator(1001)
    return [
        *(_ffmpeg(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"),
        *("-r", str(rate), "-i", "pipe:0", "-f", "ffmetadata", "-i", f"file:{tags}"),
        *("-map", "0:v", "-map_metadata", "1", "-c:v", "libx264"),
        *("-crf", str(QUALITY), "-preset", "fast", "-pix_fmt", "yuv420p"),
        # Players guess the matrix of an untagged file from its size.
        *("-vf", "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd"),
        *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709"),
        *("-movflags", "+faststart", "-f", "mp4", f"file:{path}"),
    ]


def _ffmpeg() -> str:
    # Imported late: models can be measured on a machine that has none.
    from imageio_ffmpeg import get_ffmpeg_exe

    path: str = get_ffmpeg_exe()
    return path
