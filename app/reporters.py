"""Shows the events of a run on a terminal, as plain lines, or as lines of JSON."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from engine.events import (
    Event,
    Failed,
    Phase,
    Saved,
    Started,
    Step,
    Stopped,
    Warned,
    dump,
)
from engine.queue.job import Job
from engine.timing import timing_told

PHASES = {
    "download": "Downloading the model",
    "load": "Loading the model",
    "encode": "Reading the prompt",
    "denoise": "Making the video",
    "decode": "Decoding the frames",
    "write": "Writing the file",
}


class Reporter(AbstractContextManager[object], Protocol):
    """Shows events while its ``with`` block runs. Called from any thread."""

    def on_event(self, event: Event) -> None: ...


def choose_reporter(jobs: Sequence[Job], *, as_json: bool, verbose: int) -> Reporter:
    """The reporter that fits where the output goes. ``verbose`` 0 tells only how jobs
    end, 2 and more adds tracebacks."""
    if as_json:
        return JsonReporter()
    if sys.stdout.isatty() and verbose > 0:
        return BarReporter(jobs, verbose)
    return PlainReporter(jobs, verbose)


def fall_silent() -> None:
    """Nobody reads standard output any more: what is printed from now on is lost."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def duration(seconds: float) -> str:
    """``4 s``, ``1 min 05 s`` or ``2 h 03 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min"


def phase_title(phase: Phase) -> str:
    """What the phase does, in its own words where it has some."""
    text = phase.message or PHASES[phase.phase]
    return text[:1].upper() + text[1:]


def pace(step: Step) -> str:
    """``step 3/20, 1.25 s/step, 21 s left``."""
    if step.phase == "download":
        return f"{download_pace(step)}, {duration(step.seconds_left)} left"
    unit = step_unit(step)
    return (
        f"{unit} {step.step}/{step.total}, {step.seconds_per_step:.3g} s/{unit}, "
        f"{duration(step.seconds_left)} left"
    )


def step_unit(step: Step) -> str:
    """What is counted."""
    return "frame" if step.phase in ("decode", "write") else "step"


def download_pace(step: Step) -> str:
    """``512 of 26,000 MiB, 85 MiB/s``."""
    speed = 1 / step.seconds_per_step if step.seconds_per_step else 0.0
    return f"{step.step:,} of {step.total:,} MiB, {speed:.0f} MiB/s"


class JsonReporter(AbstractContextManager["JsonReporter"]):
    """One event per line on stdout and nothing else."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def on_event(self, event: Event) -> None:
        with self._lock:
            sys.stdout.write(dump(event) + "\n")
            sys.stdout.flush()

    def __exit__(self, *_: object) -> None:
        return None


class PlainReporter(AbstractContextManager["PlainReporter"]):
    """A line for each thing worth a line in a log, steps only now and then."""

    def __init__(
        self, jobs: Sequence[Job], verbose: int = 1, seconds_between_steps: float = 2
    ) -> None:
        self._titles = _titles(jobs)
        self._verbose = verbose
        self._between = seconds_between_steps
        self._step_at = 0.0
        self._lock = threading.Lock()

    def on_event(self, event: Event) -> None:
        if self._verbose == 0 and isinstance(event, Started | Phase | Step):
            return
        line = _line(event, self._verbose)
        with self._lock:
            if isinstance(event, Step):
                if time.monotonic() - self._step_at < self._between:
                    return
                self._step_at = time.monotonic()
            if line:
                sys.stdout.write(f"{self._titles[event.job]}: {line}\n")
                sys.stdout.flush()

    def __exit__(self, *_: object) -> None:
        return None


class BarReporter(AbstractContextManager["BarReporter"]):
    """A bar for the running job; what is done or went wrong stays above it."""

    def __init__(
        self, jobs: Sequence[Job], verbose: int = 1, console: Console | None = None
    ) -> None:
        self._titles = _titles(jobs)
        self._verbose = verbose
        self._bars: dict[str, TaskID] = {}
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[pace]}"),
            console=console,
            transient=True,
        )

    def __enter__(self) -> BarReporter:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_event(self, event: Event) -> None:
        if isinstance(event, Started):
            self._drop_bar(event.job)
            self._print(self._titles[event.job])
            self._bars[event.job] = self._progress.add_task("", total=None, pace="")
        elif isinstance(event, Saved | Failed | Stopped | Warned):
            if not isinstance(event, Warned):
                self._drop_bar(event.job)
            self._print(f"  {_line(event, self._verbose)}")
        elif isinstance(event, Phase) and event.job not in self._bars:
            # Its files are fetched while it waits.
            bar = self._progress.add_task(
                escape(phase_title(event)), total=None, pace=""
            )
            self._bars[event.job] = bar
        elif event.job in self._bars:
            self._move_bar(self._bars[event.job], event)

    def _print(self, line: str) -> None:
        # Long paths stay whole, so that a terminal can open them.
        self._progress.console.print(escape(line), soft_wrap=True, highlight=False)

    def _move_bar(self, bar: TaskID, event: Event) -> None:
        if isinstance(event, Phase):
            self._progress.reset(
                bar, total=None, description=escape(phase_title(event)), pace=""
            )
        elif isinstance(event, Step):
            self._progress.update(
                bar, completed=event.step, total=event.total, pace=pace(event)
            )

    def _drop_bar(self, job: str) -> None:
        if job in self._bars:
            self._progress.remove_task(self._bars.pop(job))


def _titles(jobs: Sequence[Job]) -> dict[str, str]:
    """``[1/3] a red ball moving left`` by job id."""
    titles = {}
    for number, job in enumerate(jobs, start=1):
        prompt = " ".join(job.request.prompt.split())
        short = prompt if len(prompt) <= 40 else prompt[:39] + "…"
        titles[job.id] = f"[{number}/{len(jobs)}] {short}"
    return titles


def _line(event: Event, verbose: int) -> str:
    """What a log says of this event; previews say nothing."""
    match event:
        case Started(attempt=1):
            line = f"started with {event.model}"
        case Started():
            line = f"started with {event.model} (attempt {event.attempt})"
        case Phase():
            line = phase_title(event)
        case Step():
            line = pace(event)
        case Warned():
            line = f"warning: {event.message}"
        case Saved():
            line = f"saved {event.path} after {duration(event.seconds)}"
            if verbose > 0 and event.timing:
                line += f" ({timing_told(event.timing)})"
        case Failed():
            detail = f"\n{event.detail}" if verbose > 1 and event.detail else ""
            line = f"failed: {event.error}{detail}"
        case Stopped():
            line = "cancelled"
        case _:
            line = ""
    return line
