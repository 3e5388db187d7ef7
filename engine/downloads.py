"""Models whose files are on the way: the one list of downloads of this copy of the app.

They run in threads of the app's own process, one after the other, beside the worker:
a job whose files are still coming lets others go first. Needs no torch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from engine.catalogue import all_models, get_model
from engine.errors import Cancelled, MissingWeights, UserError
from engine.family import ModelVariant, WeightFile
from engine.loading.download import Transfer, may_download, plan_transfer
from engine.loading.machine import machine_memory
from engine.loading.precision import choose_files
from engine.loading.weights import find_weights
from engine.progress import never
from engine.settings import Settings

HERE_SECONDS = 2.0
"""For so long a model whose files were found isn't looked for again."""

CANCELLED = "the download of its files was cancelled. Retry begins it again"
CRASHED = (
    "the download of its files ended in an unexpected error. Retry goes on with it"
)


@dataclass(frozen=True)
class Download:
    """How far the files of one model are."""

    model: str
    title: str
    is_waiting: bool
    """For those before it."""
    done: int
    """Bytes."""
    total: int
    """Bytes that have to come; 0 until the hub has said it."""
    rate: float
    """Bytes per second."""

    @property
    def seconds_left(self) -> float | None:
        """``None`` when nothing tells."""
        if self.rate <= 0 or not self.total:
            return None
        return max(self.total - self.done, 0) / self.rate


@dataclass
class _Entry:
    variant: ModelVariant
    transfer: Transfer
    by_hand: bool = False
    """Wanted by a person, not only by jobs."""
    jobs: list[str] = field(default_factory=list)
    """Ids of those that wait for it, in the order of the queue."""
    is_running: bool = False


def nobody() -> None:
    """Nobody wants to know."""


class Downloads:
    """Fetches models, those first that were asked for first. ``on_change`` is called,
    in any thread, when a download begins or ends."""

    def __init__(
        self, settings: Settings, on_change: Callable[[], None] = nobody
    ) -> None:
        self._settings = settings
        self._on_change = on_change
        self._lock = threading.RLock()
        self._entries: dict[str, _Entry] = {}
        self._failed_jobs: dict[str, str] = {}
        self._failed_models: dict[str, str] = {}
        self._here: dict[str, float] = {}
        self._memory: tuple[int | None, int] | None = None
        self._ended = 0

    def follow_queue(self, jobs: Mapping[str, str]) -> None:
        """Fetch what the waiting ``jobs``, id → model, lack, and nothing any more that
        only others wanted."""
        with self._lock:
            for entry in self._entries.values():
                entry.jobs.clear()
            for job, model in jobs.items():
                self.is_ready(job, model)
            for model, entry in list(self._entries.items()):
                if not entry.jobs and not entry.by_hand:
                    self._drop(model)
            self._failed_jobs = {
                job: error for job, error in self._failed_jobs.items() if job in jobs
            }
            self._start_next()

    def is_ready(self, job: str, model: str) -> bool:
        """Whether the files of ``model`` are here for ``job``; they are fetched from
        now on, unless that failed: see ``take_failures``."""
        with self._lock:
            if job in self._failed_jobs:
                return False
            if not self._must_come(model):
                return True
            jobs = self._entries[model].jobs
            if job not in jobs:
                jobs.append(job)
            self._start_next()
            return False

    def take_failures(self) -> dict[str, str]:
        """Job → why its files didn't come; told once."""
        with self._lock:
            failed, self._failed_jobs = self._failed_jobs, {}
            return failed

    def fetch(self, model: str) -> bool:
        """Fetch what ``model`` lacks, for its own sake; False when it lacks nothing.

        Raises ``UserError`` when it may not be fetched or is on no hub.
        """
        variant = get_model(model, self._settings)
        with self._lock:
            self._failed_models.pop(model, None)
            self._here.pop(model, None)
            if model not in self._entries:
                transfer = plan_transfer(variant, self._settings, self.choose(variant))
                if transfer is None:
                    if not may_download(self._settings):
                        raise MissingWeights(
                            "downloads are turned off, by --offline, --no-download or "
                            "HF_HUB_OFFLINE"
                        )
                    # Says which files nobody offers.
                    find_weights(variant, self._settings, self.choose(variant))
                    return False
                self._entries[model] = _Entry(variant, transfer)
            self._entries[model].by_hand = True
            self._start_next()
        self._on_change()
        return True

    def cancel(self, model: str) -> None:
        """Stop fetching ``model``; what has arrived is kept. Jobs that wait for it
        fail."""
        with self._lock:
            entry = self._entries.get(model)
            if entry is None:
                return
            self._failed_jobs |= dict.fromkeys(entry.jobs, CANCELLED)
            self._drop(model)
            self._start_next()
        self._on_change()

    def list(self) -> list[Download]:
        """What is on the way, in its order."""
        with self._lock:
            return [
                Download(
                    model=model,
                    title=entry.variant.title,
                    is_waiting=not entry.is_running,
                    done=entry.transfer.done,
                    total=entry.transfer.total,
                    rate=entry.transfer.pace.rate() if entry.is_running else 0.0,
                )
                for model, entry in self._entries.items()
            ]

    def first_job(self, model: str) -> str | None:
        """The first of the jobs that wait for ``model``."""
        with self._lock:
            entry = self._entries.get(model)
            return entry.jobs[0] if entry and entry.jobs else None

    def jobs(self) -> frozenset[str]:
        """Ids of all jobs that wait for files."""
        with self._lock:
            entries = self._entries.values()
            return frozenset(job for entry in entries for job in entry.jobs)

    def failures(self) -> dict[str, str]:
        """Model → why it couldn't be fetched when a person asked for it last."""
        with self._lock:
            return dict(self._failed_models)

    def ended(self) -> int:
        """How many downloads have ended; the files on the disk are others then."""
        return self._ended

    def wait(
        self, model: str, seconds: float, is_interrupted: Callable[[], bool] = never
    ) -> bool:
        """Whether ``model`` is no longer on the way, after so many seconds at most, or
        as soon as ``is_interrupted``."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not is_interrupted():
            with self._lock:
                if model not in self._entries:
                    return True
            time.sleep(0.05)
        return False

    def close(self) -> None:
        """Stop all; nothing is written any more soon after."""
        with self._lock:
            for model in list(self._entries):
                self._drop(model)

    def choose(self, variant: ModelVariant) -> Mapping[str, WeightFile]:
        """The precisions that this machine should run."""
        if not variant.files:
            return {}
        if self._memory is None:  # asked once: later the worker holds a part of it
            self._memory = machine_memory(self._settings)
        return choose_files(variant, *self._memory)

    def _must_come(self, model: str) -> bool:
        """Whether files of ``model`` are on the way, or are from now on."""
        if model in self._entries:
            return True
        now = time.monotonic()
        variant = all_models(self._settings).get(model)
        if variant is None or now - self._here.get(model, -HERE_SECONDS) < HERE_SECONDS:
            return False
        try:
            transfer = plan_transfer(variant, self._settings, self.choose(variant))
        except UserError:  # the worker says it of the job
            return False
        if transfer is None:
            self._here[model] = now
            return False
        self._entries[model] = _Entry(variant, transfer)
        return True

    def _drop(self, model: str) -> None:
        entry = self._entries.pop(model)
        entry.transfer.stop.set()
        self._ended += 1

    def _start_next(self) -> None:
        entries = list(self._entries.values())
        if entries and not any(entry.is_running for entry in entries):
            entries[0].is_running = True
            threading.Thread(
                target=self._run, args=(entries[0],), name="download", daemon=True
            ).start()

    def _run(self, entry: _Entry) -> None:
        error: str | None = CRASHED
        try:
            entry.transfer.run()
            error = None
        except Cancelled:
            error = CANCELLED
        except UserError as told:
            error = str(told)
        finally:
            self._end(entry, error)

    def _end(self, entry: _Entry, error: str | None) -> None:
        model = entry.variant.id
        with self._lock:
            if self._entries.get(model) is not entry:  # dropped meanwhile
                return
            if error is not None:
                self._failed_jobs |= dict.fromkeys(entry.jobs, error)
                if entry.by_hand:
                    self._failed_models[model] = error
            self._drop(model)
            self._start_next()
        self._on_change()
