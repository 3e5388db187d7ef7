"""The finished videos, listed again only when the folder changed."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from engine.outputs import Output, delete_output, list_outputs

SETTLED_NS = 1_000_000_000
"""Two files can share a folder's time stamp; past this age none is missed."""


class Gallery:
    """The videos in ``folder``, newest first. Safe to call from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._stamp: tuple[int, bool] | None = None
        self._outputs: list[Output] = []

    def stamp(self) -> tuple[int, bool]:
        """Changes when a video was added or taken away."""
        try:
            changed = self.folder.stat().st_mtime_ns
        except FileNotFoundError:
            return 0, True
        return changed, time.time_ns() - changed > SETTLED_NS

    def outputs(self) -> list[Output]:
        stamp = self.stamp()
        with self._lock:
            if stamp != self._stamp:
                self._outputs = list_outputs(self.folder)
                self._stamp = stamp
            return self._outputs

    def find(self, name: str) -> Output | None:
        """The video with this file name."""
        return next((each for each in self.outputs() if each.path.name == name), None)

    def delete(self, name: str) -> None:
        """Raises ``UserError`` when there is no such video."""
        delete_output(self.folder / name, self.folder)
