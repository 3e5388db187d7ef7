"""How fast bytes come, and how long to wait so that they don't come faster."""

from __future__ import annotations

import threading
import time
from collections import deque

PACE_SECONDS = 10.0
"""A rate is that of the last so many seconds."""

PACE_SLACK = 0.25
"""So many seconds that nothing came in may be made up for under a limit."""


class Pace:
    """How fast bytes come."""

    def __init__(self) -> None:
        self._came: deque[tuple[float, int]] = deque()
        self._due = 0.0
        self._lock = threading.Lock()

    def came(self, size: int) -> None:
        with self._lock:
            self._came.append((time.monotonic(), size))
            self._forget()

    def due(self, seconds: float) -> float:
        """How long to wait for what came to have taken ``seconds``, in all."""
        now = time.monotonic()
        self._due = max(self._due, now - PACE_SLACK) + seconds
        return max(self._due - now, 0.0)

    def rate(self) -> float:
        """Bytes per second, of late."""
        with self._lock:
            self._forget()
            if not self._came:
                return 0.0
            gone = time.monotonic() - self._came[0][0]
            return sum(size for _, size in self._came) / max(gone, 1.0)

    def _forget(self) -> None:
        while self._came and time.monotonic() - self._came[0][0] > PACE_SECONDS:
            self._came.popleft()
