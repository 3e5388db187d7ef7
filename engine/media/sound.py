"""The sound of a source video, in the video that is made of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from engine.errors import UserError
from engine.media.video import open_command, probe


def keep_sound(source: Path, video: Path) -> None:
    """Give ``video`` the first sound track of ``source``, from its start and cut to the
    video's length. Without one, nothing changes.

    Raises ``UserError`` when that fails; ``video`` is then as it was.
    """
    if not _has_sound(source):
        return
    seconds = probe(video).seconds
    made = Path(f"{video}.sound")  # beside a part, and removed with it
    command = [
        *(*open_command(video, source), "-loglevel", "error", "-y"),
        *("-map", "0:v:0", "-map", "1:a:0", "-map_metadata", "0", "-c:v", "copy"),
        *("-af", f"atrim=end={seconds:.6f}", "-c:a", "aac", "-b:a", "192k"),
        *("-movflags", "+faststart", "-f", "mp4", f"file:{made}"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").strip().splitlines()
            reason = lines[-1] if lines else f"exit status {done.returncode}"
            raise UserError(f"the sound of {source.name} can't be kept: {reason}")
        made.replace(video)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(
            f"the sound of {source.name} can't be kept: {reason}"
        ) from error
    finally:
        made.unlink(missing_ok=True)


def _has_sound(video: Path) -> bool:
    command = [*open_command(video), "-t", "0", "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, check=False)
    return b": Audio:" in done.stderr
