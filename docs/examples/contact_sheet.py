"""Writes a picture of the newest video in a folder beside it, and prints both paths:
``python -m docs.examples.contact_sheet outputs/demo``."""

from __future__ import annotations

import sys
from pathlib import Path

from engine.media.video import contact_sheet
from engine.outputs import list_outputs


def main(folder: Path) -> int:
    videos = list_outputs(folder)
    if not videos:
        sys.stderr.write(f"there is no video in {folder}\n")
        return 1
    video = videos[0].path
    picture = video.with_suffix(".png")
    contact_sheet(video, picture)
    sys.stdout.write(f"{video}\n{picture}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
