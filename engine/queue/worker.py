"""The child process that generates. It owns the GPU and may die at any moment: what
must not be lost is in the supervisor's process."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NoReturn

from engine.errors import Cancelled, OutOfMemory, UserError
from engine.events import Event, Failed, Phase, Saved, Started, Stopped
from engine.queue.messages import Cancel, Ready, Run, WarmUp
from engine.settings import Settings
from engine.timing import Stopwatch

if TYPE_CHECKING:
    from engine.generate import Generator

DOING = {
    "download": "downloading the model",
    "load": "loading the model",
    "encode": "reading the prompt",
    "denoise": "making the video",
    "decode": "decoding the frames",
    "write": "writing the file",
}

MOST_DETAIL = 20_000
"""Characters of a traceback that are kept, its end."""


def main(connection: Connection, settings: Settings) -> None:
    """Obey the commands that come through ``connection`` until its other end is
    gone."""
    if os.name == "posix":
        # Or a program that a library starts might hold the pipe open after the
        # worker's death, and nobody would notice it.
        os.set_inheritable(connection.fileno(), False)
    _leave_the_terminal()
    _share_no_locks()
    commands = _Commands(connection)
    from engine.generate import Generator

    generator = Generator(settings)
    while True:
        command = commands.next()
        if isinstance(command, WarmUp):
            _warm_up(generator, command.model)
            connection.send(Ready())
        else:
            connection.send(_run(generator, command, connection, commands))


class _Commands:
    """Reads the commands in a thread of its own, so that a cancel arrives while the
    main thread generates, and so does the end of the app."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: SimpleQueue[WarmUp | Run] = SimpleQueue()
        self._cancelled: set[str] = set()
        threading.Thread(target=self._read, name="commands", daemon=True).start()

    def next(self) -> WarmUp | Run:
        return self._waiting.get()

    def is_cancelled(self, job: str) -> bool:
        return job in self._cancelled

    def _read(self) -> None:
        while True:
            try:
                command = self._connection.recv()
            except (EOFError, OSError):  # the app is gone: nobody wants the GPU
                _end_now()
            if isinstance(command, Cancel):
                self._cancelled.add(command.job)
            else:
                if isinstance(command, Run):  # it may be a retry of a cancelled one
                    self._cancelled.discard(command.job)
                self._waiting.put(command)


def _leave_the_terminal() -> None:
    """Ctrl-C is for the app, which then decides; stdout is for what it prints."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # started without a terminal or a file
        os.dup2(2, 1)
        faulthandler.enable()
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # so that ffmpeg, too, is spared and ends with the worker


def _share_no_locks() -> None:
    """A worker that is killed can't give back tqdm's own lock, which is the system's;
    Python would complain of it when the app ends."""
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())


def _end_now() -> NoReturn:
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _warm_up(generator: Generator, model: str | None) -> None:
    try:
        generator.warm_up(model)
    except UserError:
        pass  # the first job that needs it fails with the same words
    except Exception:
        sys.stderr.write(f"The worker couldn't warm up:\n{traceback.format_exc()}")


def _run(
    generator: Generator, run: Run, connection: Connection, commands: _Commands
) -> Event:
    """Generate; the job's last event is the answer."""
    began, doing = time.monotonic(), "starting"
    stopwatch = Stopwatch()

    def on_event(event: Event) -> None:
        nonlocal doing
        if isinstance(event, Phase):
            doing = DOING[event.phase]
        stopwatch.on_event(event)
        connection.send(event)

    try:
        on_event(Started(job=run.job, model=run.request.model, attempt=run.attempt))
        path = generator.generate(
            run.request,
            Path(run.output),
            job=run.job,
            on_event=on_event,
            is_cancelled=lambda: commands.is_cancelled(run.job),
        )
    except Cancelled:
        return Stopped(job=run.job)
    except (UserError, OutOfMemory) as error:
        return Failed(job=run.job, error=str(error), detail=_detail())
    except Exception as error:
        sentence = f"Something unexpected happened while {doing}: {_told(error)}"
        return Failed(job=run.job, error=sentence, detail=_detail())
    return Saved(
        job=run.job,
        path=str(path),
        seconds=time.monotonic() - began,
        timing=stopwatch.finish(**generator.counted),
    )


def _told(error: Exception) -> str:
    name, text = type(error).__name__, str(error).strip()
    return f"{name}: {text}" if text else name


def _detail() -> str:
    return traceback.format_exc()[-MOST_DETAIL:]
