"""One copy of the app per data folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from engine.errors import AlreadyRunning, UserError


@contextmanager
def hold(root: Path) -> Iterator[None]:
    """Hold the data folder ``root`` while the block runs. The system lets go of it
    when the process ends, however that happens.

    Raises ``AlreadyRunning`` with the holder's pid, or ``UserError`` when the folder
    can't be written to.
    """
    lock = FileLock(root / "queue.sqlite.lock", timeout=0)
    pid_file = root / "queue.sqlite.pid"  # apart: locking empties the lock's file
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        pid_file.write_text(f"{os.getpid()}\n", encoding="ascii")
    except Timeout as error:
        raise AlreadyRunning(
            f"{root} is already used by another copy of the app{_told(pid_file)}. End "
            "that one first, or choose another folder with --root"
        ) from error
    except OSError as error:
        lock.release()
        raise UserError(f"can't use {root} for data: {error.strerror}") from error
    try:
        yield
    finally:
        pid_file.unlink(missing_ok=True)
        lock.release()


def _told(pid_file: Path) -> str:
    try:
        return f" (pid {int(pid_file.read_text(encoding='ascii'))})"
    except (OSError, ValueError):  # it has only just begun, or is about to end
        return ""
