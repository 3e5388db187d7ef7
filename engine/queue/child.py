"""The worker's process as its supervisor sees it, and what it died of."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

from engine.queue.messages import Command
from engine.settings import Settings

EXIT_SECONDS = 5.0
"""A worker that has closed its pipe gets so long to end by itself."""

OUTSIDE_SIGNALS = {"SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"}
"""What people and systems end processes with; no job does this to itself."""

MEMORY_WINDOW_SECONDS = 30.0


@dataclass(frozen=True)
class Death:
    """How a worker ended; its last message."""

    reason: str
    """Such as ``segmentation fault (SIGSEGV)``."""
    is_jobs_fault: bool


class Child:
    """A worker process. ``on_message(child, message)`` is called, in a thread of its
    own, with all that it sends and at last with its ``Death``."""

    def __init__(
        self,
        worker: Callable[..., Any],
        settings: Settings,
        on_message: Callable[[Child, object], None],
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        # A daemon, so that an app that ends by an error doesn't wait for it.
        self._process = context.Process(
            target=worker, args=(far_end, settings), name="worker", daemon=True
        )
        self._memory = MemoryWatch()
        self._on_message = on_message
        self._is_gone = False
        self._lock = threading.Lock()
        self._process.start()
        far_end.close()  # or its end would never be seen here
        self.pid: int = self._process.pid or 0
        threading.Thread(target=self._relay, name="worker's news", daemon=True).start()

    def send(self, command: Command) -> None:
        with contextlib.suppress(OSError):  # it died: its ``Death`` is on the way
            self._pipe.send(command)

    def watch_memory(self) -> None:
        """To be called now and then, for ``Death`` to know who ran out of memory."""
        self._memory.look()

    def kill(self) -> None:
        """End it at once, with the programs that it has started."""
        with self._lock:
            if self._is_gone:  # its pid may be another's by now
                return
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except (AttributeError, OSError):  # Windows, or too young for a group
                self._process.kill()

    def _relay(self) -> None:
        while True:
            try:
                message = self._pipe.recv()
            except (EOFError, OSError):
                break
            self._on_message(self, message)
        connection.wait([self._process.sentinel], EXIT_SECONDS)
        self.kill()  # before its pid is given back: what it has started may live on
        with self._lock:
            self._process.join()
            self._is_gone = True
        self._pipe.close()
        code = self._process.exitcode
        self._on_message(self, death(code, out_of_memory=self._memory.ran_out()))


def death(exit_code: int | None, *, out_of_memory: bool) -> Death:
    """What an exit code as ``multiprocessing`` gives it (a signal's is negative)
    means. ``out_of_memory`` says whether the system has just ended a process because
    memory ran out."""
    if exit_code is None:  # somebody else in this process has asked for it first
        return Death("unknown cause", is_jobs_fault=False)
    if exit_code >= 0:
        shown = hex(exit_code) if exit_code > 0xFFFF else str(exit_code)
        return Death(f"exit code {shown}", is_jobs_fault=True)
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        return Death(f"signal {-exit_code}", is_jobs_fault=True)
    if name == "SIGKILL" and out_of_memory:
        reason = "the system's memory ran out (SIGKILL by the out-of-memory killer)"
        return Death(reason, is_jobs_fault=True)
    meaning = (signal.strsignal(-exit_code) or "signal").lower()
    return Death(f"{meaning} ({name})", is_jobs_fault=name not in OUTSIDE_SIGNALS)


class MemoryWatch:
    """Tells whether the out-of-memory killer was at work of late. Linux only."""

    def __init__(self, file: Path = Path("/proc/vmstat")) -> None:
        self._file = file
        self._before = self._now = self._count()
        self._looked_at = time.monotonic()

    def look(self) -> None:
        """Forget what happened more than two windows ago."""
        # Two readings, for one that is too fresh may already count the kill whose
        # victim hasn't ended yet.
        now = time.monotonic()
        if now - self._looked_at >= MEMORY_WINDOW_SECONDS:
            self._before, self._now = self._now, self._count()
            self._looked_at = now

    def ran_out(self) -> bool:
        return self._count() > self._before

    def _count(self) -> int:
        try:
            lines = self._file.read_text(encoding="ascii").splitlines()
        except OSError:
            return 0
        return next(
            (int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0
        )
