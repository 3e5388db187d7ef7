"""Input pictures and clips as arrays, in the size and at the rate of the video.

Everything is scaled to cover the size and cut at the centre, with Lanczos.
"""

from __future__ import annotations

import struct
import subprocess
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import UnreadableFile
from engine.media.video import open_command, probe

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

IMAGES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are opened. Pillow knows more, among them one that runs a program."""


def load_image(path: str | Path, width: int, height: int) -> np.ndarray:
    """The picture, uint8 (height, width, 3): turned as its EXIF says, what is
    transparent over black.

    Raises ``UnreadableFile``.
    """
    import numpy as np
    from PIL import Image, ImageOps

    picture = read_image(path)
    fitted = ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
    return np.asarray(fitted)


def read_image(path: str | Path) -> Image.Image:
    """The picture in its own size, RGB: turned as its EXIF says, what is transparent
    over black.

    Raises ``UnreadableFile``.
    """
    from PIL import ImageOps

    with _opened(Path(path)) as image:
        return _as_rgb(ImageOps.exif_transpose(image))


def load_clip(
    path: str | Path,
    width: int,
    height: int,
    fps: float,
    *,
    last: int | None = None,
    first: int | None = None,
) -> np.ndarray:
    """The video at ``fps`` frames per second, uint8 (frames, height, width, 3); only
    its ``first`` or ``last`` so many frames if that is given.

    Raises ``UnreadableFile``.
    """
    import numpy as np

    frames = islice(read_clip(path, width, height, fps), first)
    return np.stack(list(frames if last is None else deque(frames, maxlen=last)))


def read_clip(
    path: str | Path, width: int, height: int, fps: float
) -> Iterator[np.ndarray]:
    """Each frame of the video at ``fps`` frames per second, uint8 (height, width, 3).

    Raises ``UnreadableFile`` when there is none.
    """
    import numpy as np

    count = 0
    for data in _decoded(Path(path), fps, _cover(width, height), width * height * 3):
        count += 1
        yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
    if not count:
        raise UnreadableFile(f"{Path(path).name} isn't a video that can be read")


def all_but_last(frames: Iterator[np.ndarray], last: int) -> Iterator[np.ndarray]:
    """``frames`` without the last so many; never holds more than those."""
    waiting: deque[np.ndarray] = deque()
    for frame in frames:
        waiting.append(frame)
        if len(waiting) > last:
            yield waiting.popleft()


def save_last_frame(video: str | Path, picture: Path) -> None:
    """Write the last frame of ``video`` as a PNG, in its own size.

    Raises ``UnreadableFile``.
    """
    from PIL import Image

    info = probe(Path(video))
    frames = load_clip(video, info.width, info.height, info.fps, last=1)
    Image.fromarray(frames[-1]).save(picture)


def count_frames(path: str | Path, fps: float, most: int) -> int:
    """How many frames the video has at ``fps`` frames per second, counted up to
    ``most``.

    Raises ``UnreadableFile`` when there is none.
    """
    smallest = "scale=1:1,format=rgb24"  # what the frames show doesn't matter
    count = sum(1 for _ in islice(_decoded(Path(path), fps, smallest, 3), most))
    if not count:
        raise UnreadableFile(f"{Path(path).name} isn't a video that can be read")
    return count


def check_image(path: str | Path) -> None:
    """Raises ``UnreadableFile`` when the picture doesn't decode."""
    with _opened(Path(path)):
        pass


def check_video(path: str | Path) -> None:
    """Raises ``UnreadableFile`` when the video has no frame that decodes."""
    count_frames(path, 1, 1)


def is_video(path: str | Path) -> bool:
    """Whether the file is a video, told by its content; an animated GIF is one.

    Raises ``UnreadableFile`` when it is neither a video nor a picture.
    """
    try:
        with _opened(Path(path)) as image:
            return image.format == "GIF" and getattr(image, "n_frames", 1) > 1
    except UnreadableFile:
        pass
    try:
        check_video(path)
    except UnreadableFile as error:
        raise UnreadableFile(
            f"{Path(path).name} is neither a picture nor a video that can be read"
        ) from error
    return True


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture, decoded."""
    from PIL import Image

    try:
        with Image.open(path, formats=IMAGES) as image:
            image.load()
            yield image
    except Image.DecompressionBombError as error:
        raise UnreadableFile(f"{path.name} has too many pixels to be read") from error
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        raise UnreadableFile(f"{path.name} isn't a picture that can be read") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        image = image.convert("I").point(lambda level: level / 256).convert("L")
    if image.has_transparency_data:
        black = Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, image.convert("RGBA"))
    return image.convert("RGB")


def _cover(width: int, height: int) -> str:
    """ffmpeg's filters that fill this size, the colours converted before the cut so
    that it may fall between two chroma samples."""
    return (
        f"scale={width}:{height}:force_original_aspect_ratio=increase"
        ":flags=lanczos+accurate_rnd+full_chroma_int,format=rgb24"
        f",crop={width}:{height}"
    )


def _decoded(path: Path, fps: float, filters: str, size: int) -> Iterator[bytes]:
    """Each frame as ``size`` bytes."""
    if not path.is_file():
        raise UnreadableFile(f"there is no file {path}")
    rate = Fraction(fps).limit_denominator(1001)
    # pass: a video shorter than half a frame still has one.
    filters = f"fps={rate}:eof_action=pass,{filters}"
    command = [
        *(*open_command(path), "-map", "0:v:0", "-vf", filters),
        *("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        try:
            while len(data := process.stdout.read(size)) == size:
                yield data
        finally:
            process.kill()
