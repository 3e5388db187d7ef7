"""Runs a file of requests without a page: ``wgp.py --process FILE``.

Everything in the file is checked before anything runs or is written. The jobs go
through a queue of their own and the same worker process as the page's, so a crash
costs one job and other copies of the app aren't disturbed.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.options import Options
from app.reporters import choose_reporter, fall_silent
from engine.errors import Problem, RequestError, UnreadableFile, UserError
from engine.events import Event, OnEvent, Stopped
from engine.queue import archive
from engine.queue.job import JobStatus, JobStore
from engine.queue.store import SqliteJobStore
from engine.queue.supervisor import Supervisor
from engine.queue.worker import main as worker_main
from engine.request import GenerationRequest
from engine.settings import Settings
from engine.validate import accept, check, read_json, read_start

ALL_DONE, SOME_FAILED, INVALID, INTERRUPTED = 0, 1, 2, 130


def process(options: Options, worker: Callable[..., Any] | None = None) -> int:
    """Run the file ``options.process``; returns the exit code.

    0 all done, 1 some failed, 2 invalid input (nothing ran), 130 interrupted.
    """
    file = Path(options.process or "")
    with tempfile.TemporaryDirectory(prefix="wgp-") as name:
        scratch = Path(name)
        try:
            requests, folder = read_requests(file, options.settings, scratch)
        except UserError as error:
            _refuse(error, as_json=options.json)
            return INVALID
        if options.dry_run:
            _show(requests, as_json=options.json)
            return ALL_DONE
        try:
            kept = [
                accept(each, folder=folder, settings=options.settings)
                for each in requests
            ]
        except UserError as error:  # such as a medium that can't be copied
            _refuse(error, as_json=options.json)
            return INVALID
        return _run(kept, options, worker or worker_main, scratch)


def read_requests(
    file: Path, settings: Settings, scratch: Path
) -> tuple[list[GenerationRequest], Path]:
    """The complete requests in ``file`` (one as JSON, a JSON list, or a saved queue)
    and the folder that their media lie in.

    Writes nothing but a saved queue's media, below ``scratch``. Raises
    ``UnreadableFile``, or ``RequestError`` with every problem of every request.
    """
    try:
        content = read_start(file)
    except OSError as error:
        raise UnreadableFile(f"can't read {file}: {error.strerror}") from error
    if content.startswith(b"PK"):
        saved = archive.read_requests(file, scratch, settings)
        if not saved:
            raise UnreadableFile(f"{file} is a saved queue without jobs")
        return saved, scratch
    data = read_json(content, file.name)
    items = data if isinstance(data, list) else [data]
    if not items:
        raise UnreadableFile(f"{file.name} holds no request: the list is empty")
    requests: list[GenerationRequest] = []
    problems: list[Problem] = []
    for number, item in enumerate(items, start=1):
        try:
            requests.append(check(item, folder=file.parent, settings=settings))
        except RequestError as error:
            prefix = f"request {number} of {len(items)}: " if len(items) > 1 else ""
            problems += [
                Problem(problem.field, prefix + problem.message)
                for problem in error.problems
            ]
    if problems:
        raise RequestError(problems)
    return requests, file.parent


def _refuse(error: UserError, *, as_json: bool) -> None:
    problems = error.problems if isinstance(error, RequestError) else []
    for line in [str(problem) for problem in problems] or [str(error)]:
        sys.stderr.write(f"wgp: {line}\n")
    if as_json:
        listed = [
            {"field": problem.field, "message": problem.message} for problem in problems
        ]
        _print_json({"event": "invalid", "error": str(error), "problems": listed})


def _show(requests: list[GenerationRequest], *, as_json: bool) -> None:
    complete = [json.loads(request.to_json()) for request in requests]
    if as_json:
        for request in complete:
            _print_json({"event": "valid", "request": request})
    else:
        sys.stdout.write(json.dumps(complete, indent=2, ensure_ascii=False) + "\n")


def _print_json(data: object) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


def _run(
    requests: list[GenerationRequest],
    options: Options,
    worker: Callable[..., Any],
    scratch: Path,
) -> int:
    store = SqliteJobStore(scratch / "queue.sqlite")
    jobs = store.add(requests)
    reporter = choose_reporter(
        jobs, as_json=options.json, verbose=options.settings.verbose
    )

    def on_event(event: Event) -> None:
        try:
            reporter.on_event(event)
        except OSError:  # such as a closed pipe; the videos are wanted all the same
            fall_silent()

    supervisor = Supervisor(
        store,
        options.settings,
        worker=worker,
        outputs=options.output_dir or options.settings.outputs,
        on_event=on_event,
    )
    try:
        with reporter, _interrupts_noted() as is_interrupted:
            supervisor.start()
            if not supervisor.wait_until_empty(is_interrupted):
                _cancel_all(store, on_event)
                supervisor.wait_until_empty()
                return INTERRUPTED
        return SOME_FAILED if store.list_jobs(JobStatus.failed) else ALL_DONE
    except UserError as error:  # the worker can't start
        sys.stderr.write(f"wgp: {error}\n")
        return SOME_FAILED
    finally:
        supervisor.stop()
        store.close()


@contextmanager
def _interrupts_noted() -> Iterator[Callable[[], bool]]:
    """Ctrl-C raises nothing but is remembered; a second one ends the program.

    Raised, it might leave a lock taken that another thread waits for.
    """
    interrupts: list[int] = []
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, _frame: object) -> None:
        interrupts.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(interrupts)
    finally:
        signal.signal(signal.SIGINT, before)


def _cancel_all(store: JobStore, on_event: OnEvent) -> None:
    for job in store.list_jobs(JobStatus.queued):
        if store.cancel(job.id) is JobStatus.cancelled:
            on_event(Stopped(job=job.id))
    for job in store.list_jobs(JobStatus.running):
        store.cancel(job.id)
