"""Starts the worker, hands it jobs, keeps what it says, and survives its death."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from engine.downloads import Downloads
from engine.errors import EngineError, UserError
from engine.events import (
    Event,
    Failed,
    OnEvent,
    Phase,
    Saved,
    Step,
    Stopped,
    Warned,
)
from engine.loading.download import MIB
from engine.outputs import output_path, remove_part
from engine.progress import never
from engine.queue import worker as default_worker
from engine.queue.child import Child, Death
from engine.queue.job import MOST_ATTEMPTS, Job, JobStatus, JobStore
from engine.queue.messages import Cancel, Ready, Run, WarmUp
from engine.settings import Settings

RESTART_SECONDS = (0.0, 1.0, 2.0, 5.0, 15.0, 60.0)
"""How long to wait before the next start, by how many in a row have failed."""

HOPELESS_STARTS = 4
"""After so many failed starts nobody waits for the queue to empty any more."""

STORE_RETRY_SECONDS = 5.0
TICK_SECONDS = 1.0
INTERRUPT_SECONDS = 0.25
KILL_SECONDS = 10.0


class Supervisor:
    """Works off ``store`` in a thread, with one worker process at a time.

    ``worker(connection, settings)`` runs in the child; videos go to ``outputs``;
    ``on_event`` hears every event once the store has it; ``warm_model`` is loaded
    when there is nothing else to do; a job that hasn't stopped ``cancel_grace``
    seconds after its cancel is stopped by force.
    """

    def __init__(
        self,
        store: JobStore,
        settings: Settings,
        *,
        worker: Callable[..., Any] = default_worker.main,
        outputs: Path | None = None,
        on_event: OnEvent | None = None,
        warm_model: str | None = None,
        cancel_grace: float = 30.0,
    ) -> None:
        self._store = store
        self._settings = settings
        self._worker = worker
        self._outputs = (outputs or settings.outputs).absolute()
        self._listener = on_event
        self.downloads = Downloads(settings, self._wake)
        """Models on their way; jobs for them let others go first."""
        self._told: dict[str, int] = {}
        self._warm_model = warm_model
        self._cancel_grace = cancel_grace

        self._inbox: SimpleQueue[tuple[Child | None, object]] = SimpleQueue()
        self._settled = threading.Event()
        self._is_changed = threading.Event()
        self._is_changed.set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(
            target=self._supervise, name="supervisor", daemon=True
        )
        self._status = "starting the worker"
        self._child: Child | None = None
        self._is_ready = False
        self._job: Job | None = None
        self._cancelled_at: float | None = None
        self._killed_at: float | None = None
        self._failed_starts = 0
        self._start_at = 0.0
        store.on_change(self._wake)

    def start(self) -> None:
        """Begin, with what an earlier run of the app has left over."""
        self._thread.start()

    def stop(self) -> None:
        """End the worker; a running job goes back to the queue unless it is done."""
        self._stopping.set()
        self.downloads.close()
        self._wake()
        if self._thread.ident is not None:
            self._thread.join()

    def wait_until_empty(self, is_interrupted: Callable[[], bool] = never) -> bool:
        """Return True when no job is queued or running, and ``on_event`` heard of all;
        False as soon as ``is_interrupted``.

        Raises ``UserError`` when the worker can't start, ``EngineError`` when the
        supervisor was stopped before.
        """
        waiting = (JobStatus.queued, JobStatus.running)
        while not is_interrupted():
            self._settled.clear()
            is_working = self._thread.is_alive()
            # In this order: a job leaves the store before it leaves the supervisor.
            if not self._store.list_jobs(*waiting) and self._job is None:
                return True
            if not is_working:
                raise EngineError("the supervisor ended before the queue was empty")
            if self._failed_starts >= HOPELESS_STARTS:
                raise UserError(f"{self._status}. What it printed says more")
            self._settled.wait(INTERRUPT_SECONDS)
        return False

    def status(self) -> str:
        """What the worker does, for a person: ``idle`` or a sentence."""
        if self._status == "idle" and self._store.warning:
            return self._store.warning
        return self._status

    def _supervise(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._recover()
                    while not self._stopping.is_set():
                        self._turn()
                except UserError as error:  # the store refused, as on a full disk
                    self._end_child()
                    self._job = None
                    self._status = f"waiting: {error}"
                    self._stopping.wait(STORE_RETRY_SECONDS)
        finally:
            self._end_child()
            with contextlib.suppress(UserError):  # then the next start sees to it
                self._recover()
            self._job = None
            self._status = "stopped"
            self._settled.set()

    def _recover(self) -> None:
        """Jobs that run while there is no worker: done if their video is there, else
        back to the queue, and it isn't their fault."""
        for job in self._store.list_jobs(JobStatus.running):
            self._job = job
            if not self._finish_if_saved(job):
                remove_part(self._output(job), job.id)
                self._store.interrupted(job.id, "the app ended", blame=False)
            self._job = None

    def _turn(self) -> None:
        """One round: bring everything up to date, then wait for news."""
        if self._child is None and time.monotonic() >= self._start_at:
            self._start_child()
        self._follow_downloads()
        self._fail_undownloaded()
        if self._is_ready and self._job is None:
            self._start_next_job()
        if self._child is not None:
            self._child.watch_memory()
        if self._job is not None:
            self._see_to_cancel(self._job)
        self._handle(self._news(TICK_SECONDS))

    def _news(self, seconds: float) -> tuple[Child | None, object]:
        if self._child is None:
            seconds = min(seconds, max(self._start_at - time.monotonic(), 0))
        elif self._cancelled_at is not None:
            seconds = min(seconds, self._cancel_grace / 4)
        try:
            return self._inbox.get(timeout=seconds)
        except Empty:
            return None, None

    def _wake(self) -> None:
        self._is_changed.set()
        self._settled.set()
        self._inbox.put((None, None))

    def _handle(self, news: tuple[Child | None, object]) -> None:
        child, message = news
        if child is None or child is not self._child:  # a wake-up, or from the dead
            return
        if isinstance(message, Ready):
            self._is_ready = True
            self._failed_starts = 0
            self._status = "idle"
        elif isinstance(message, Death):
            self._on_death(message)
        elif self._job is not None and getattr(message, "job", "") == self._job.id:
            self._on_event(message)  # type: ignore[arg-type]

    def _start_child(self) -> None:
        has_jobs = bool(self._store.list_jobs(JobStatus.queued))
        # A model that can't be loaded must not keep the worker from starting.
        is_cold = has_jobs or self._failed_starts > 0
        if self._failed_starts == 0:
            self._status = "starting the worker"
        try:
            self._child = Child(self._worker, self._settings, self._on_message)
        except OSError as error:
            self._failed_starts += 1
            self._schedule_start(f"the system refused: {error.strerror}")
            return
        self._child.send(WarmUp(None if is_cold else self._warm_model))

    def _on_message(self, child: Child, message: object) -> None:
        self._inbox.put((child, message))

    def _follow_downloads(self) -> None:
        """Have missing files fetched while their jobs wait; tell how far they are, of
        the first job that waits for each model. It isn't stored: the page has it from
        the list of downloads."""
        if self._is_changed.is_set():
            self._is_changed.clear()
            waiting = self._store.list_jobs(JobStatus.queued)
            jobs = {job.id: job.request.model for job in waiting}
            self.downloads.follow_queue(jobs)
        told, self._told = self._told, {}
        for each in self.downloads.list():
            job = self.downloads.first_job(each.model)
            if job is None or each.is_waiting:
                continue
            self._told[job] = told.get(job, 0)
            if job not in told:
                said = f"downloading {each.title}"
                self._tell(Phase(job=job, phase="download", message=said))
            done = each.done // MIB
            if each.total and done > self._told[job]:
                self._told[job] = done
                self._tell(
                    Step(
                        job=job,
                        phase="download",
                        step=done,
                        total=-(-each.total // MIB),
                        seconds_per_step=MIB / each.rate if each.rate else 0.0,
                        seconds_left=each.seconds_left or 0.0,
                    )
                )

    def _fail_undownloaded(self) -> None:
        """Jobs whose files didn't come fail at once: they hold up neither the others
        nor, behind a pause, the news."""
        for job, error in self.downloads.take_failures().items():
            failed = Failed(job=job, error=error)
            with contextlib.suppress(UserError):  # cancelled or removed meanwhile
                self._store.record(failed)
                self._store.fail(job, error)
                self._tell(failed)

    def _start_next_job(self) -> None:
        job = self._store.claim(
            lambda job: self.downloads.is_ready(job.id, job.request.model)
        )
        if job is None or self._child is None:
            coming = self.downloads.list()
            self._status = f"downloading {coming[0].title}" if coming else "idle"
            return
        self._job = job
        self._cancelled_at = self._killed_at = None
        if self._finish_if_saved(job):
            return
        self._status = f"running job {job.id}"
        run = Run(job.id, job.request, str(self._output(job)), job.attempts + 1)
        self._child.send(run)

    def _see_to_cancel(self, job: Job) -> None:
        if self._child is None:
            return
        now = time.monotonic()
        if self._cancelled_at is None:
            if self._store.is_cancel_wanted(job.id):
                self._cancelled_at = now
                self._child.send(Cancel(job.id))
        elif self._killed_at is None:
            if now - self._cancelled_at >= self._cancel_grace:
                self._killed_at = now
                self._child.kill()
        elif now - self._killed_at >= KILL_SECONDS:  # held by the kernel or a driver
            self._on_death(Death("it didn't end when killed", is_jobs_fault=False))

    def _on_event(self, event: Event) -> None:
        self._store.record(event)
        if isinstance(event, Saved):
            self._warm_model = self._job.request.model if self._job else None
            self._store.finish(event.job, event.path)
        elif isinstance(event, Failed):
            self._store.fail(event.job, event.error)
        elif isinstance(event, Stopped):
            self._store.stopped(event.job)
        self._tell(event)
        if isinstance(event, Saved | Failed | Stopped):
            self._job = None
            self._settled.set()

    def _on_death(self, death: Death) -> None:
        was_ready, self._child, self._is_ready = self._is_ready, None, False
        if not was_ready:
            # A kill from outside makes careful, but doesn't prove that it can't start.
            failed = self._failed_starts
            self._failed_starts = failed + 1 if death.is_jobs_fault else max(failed, 1)
        self._schedule_start(death.reason)
        job = self._job
        if job is None:
            return
        if not self._finish_if_saved(job):
            remove_part(self._output(job), job.id)
            if self._store.is_cancel_wanted(job.id):
                self._on_event(Stopped(job=job.id))
            else:
                self._give_back(job, death)

    def _tell(self, event: Event) -> None:
        if self._listener is not None:
            self._listener(event)

    def _give_back(self, job: Job, death: Death) -> None:
        """The worker died on ``job``: it runs again, or was the last straw."""
        attempts = job.attempts + death.is_jobs_fault
        what = "The job starts again."
        if attempts >= MOST_ATTEMPTS:
            what = "The job is given up."
        elif death.is_jobs_fault:
            what = f"The job starts again, attempt {attempts + 1} of {MOST_ATTEMPTS}."
        warned = Warned(job=job.id, message=f"The worker died: {death.reason}. {what}")
        self._store.record(warned)
        left = self._store.interrupted(job.id, death.reason, blame=death.is_jobs_fault)
        self._tell(warned)
        if left.status is JobStatus.failed:
            failed = Failed(job=job.id, error=left.error or "", detail=death.reason)
            self._store.record(failed)
            self._tell(failed)
        self._job = None
        self._settled.set()

    def _schedule_start(self, reason: str) -> None:
        failed = self._failed_starts
        seconds = RESTART_SECONDS[min(failed, len(RESTART_SECONDS) - 1)]
        self._start_at = time.monotonic() + seconds
        self._status = f"restarting the worker, which died: {reason}"
        if failed:
            times = "once" if failed == 1 else f"{failed} times in a row"
            self._status = (
                f"the worker can't start; it died {times}: {reason}. "
                f"The next try is in {seconds:.0f} s"
            )
        self._settled.set()

    def _finish_if_saved(self, job: Job) -> bool:
        """A video appears only when it is whole, so if it is there, it is done,
        though nobody lived to say so."""
        output = self._output(job)
        if not output.exists():
            return False
        began = job.started_at.timestamp() if job.started_at else 0.0
        seconds = max(output.stat().st_mtime - began, 0.0)
        remove_part(output, job.id)
        self._on_event(Saved(job=job.id, path=str(output), seconds=seconds))
        return True

    def _output(self, job: Job) -> Path:
        return output_path(job.id, job.created_at, job.request, self._outputs)

    def _end_child(self) -> None:
        child, self._child, self._is_ready = self._child, None, False
        if child is None:
            return
        child.kill()
        end = time.monotonic() + KILL_SECONDS
        while (left := end - time.monotonic()) > 0:
            with contextlib.suppress(Empty):
                sender, message = self._inbox.get(timeout=left)
                if sender is child and isinstance(message, Death):
                    return
