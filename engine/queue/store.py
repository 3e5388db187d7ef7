"""The queue in one SQLite file."""

from __future__ import annotations

import re
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

from engine import events
from engine.errors import UserError
from engine.events import Event, Preview, Started, Step, Warned
from engine.queue.database import JOB_COLUMNS, job_in, open_database, transaction
from engine.queue.job import ENDED, MOST_ATTEMPTS, Job, JobStatus, always
from engine.request import GenerationRequest

MOST_ENDED = 1000
"""So many ended jobs are remembered; their videos stay whatever happens."""


class SqliteJobStore:
    """A ``JobStore`` in ``file``. One process at a time may use it."""

    def __init__(self, file: Path) -> None:
        self._lock = threading.RLock()
        self._db, self.warning = open_database(file)
        self._version = 0
        self._listeners: list[Callable[[], None]] = []
        self._running_events: dict[str, list[Event]] = {}

    def add(
        self,
        requests: Sequence[GenerationRequest],
        priority: int = 0,
        ids: Sequence[str] | None = None,
    ) -> list[Job]:
        wanted = ids or [""] * len(requests)
        with self._changing() as db:
            return [
                self._insert(db, request, priority, self._free_id(db, wish))
                for request, wish in zip(requests, wanted, strict=True)
            ]

    def get(self, job: str) -> Job:
        with self._reading() as db:
            return _job(self._row(db, job))

    def list_jobs(self, *statuses: JobStatus) -> list[Job]:
        wanted = [status.value for status in statuses or JobStatus]
        marks = ", ".join("?" for _ in wanted)
        with self._reading() as db:
            rows = db.execute(
                f"SELECT {JOB_COLUMNS} FROM jobs WHERE status IN ({marks}) ORDER BY "
                "CASE status WHEN 'running' THEN 0 WHEN 'queued' THEN 1 ELSE 2 END, "
                "finished_at DESC, priority DESC, position",
                wanted,
            )
            return [_job(row) for row in rows]

    def claim(self, is_ready: Callable[[Job], bool] = always) -> Job | None:
        with self._lock:
            # Without this look, every call would begin a transaction for nothing.
            if self.is_paused() or (next_one := self._next_queued(is_ready)) is None:
                return None
            with self._changing() as db:
                row = db.execute(
                    "UPDATE jobs SET status = 'running', started_at = ? "
                    f"WHERE id = ? RETURNING {JOB_COLUMNS}",
                    (_now(), next_one),
                ).fetchall()[0]
                job = _job(row)
                self._running_events[job.id] = self._stored_events(db, job.id)
                return job

    def record(self, event: Event) -> None:
        with self._lock:
            kept = self._running_events.get(event.job)
            if kept is not None:
                self._running_events[event.job] = _with(kept, event)
                self._version += 1
                return
            with self._writing() as db:
                self._row(db, event.job)
                kept = _with(self._stored_events(db, event.job), event)
                self._store_events(db, event.job, kept)

    def events(self, job: str) -> list[Event]:
        with self._reading() as db:
            if job in self._running_events:
                return list(self._running_events[job])
            self._row(db, job)
            return self._stored_events(db, job)

    def finish(self, job: str, output: str) -> None:
        with self._changing() as db:
            self._require(db, job, JobStatus.running)
            self._end(db, job, JobStatus.done, output=output)

    def fail(self, job: str, error: str) -> None:
        with self._changing() as db:
            self._require(db, job, JobStatus.queued, JobStatus.running)
            db.execute("UPDATE jobs SET attempts = attempts + 1 WHERE id = ?", (job,))
            self._end(db, job, JobStatus.failed, error=error)

    def interrupted(self, job: str, reason: str, *, blame: bool) -> Job:
        with self._changing() as db:
            row = self._require(db, job, JobStatus.running)
            attempts = row["attempts"] + blame
            db.execute("UPDATE jobs SET attempts = ? WHERE id = ?", (attempts, job))
            if self._wants_cancel(db, job):
                self._end(db, job, JobStatus.cancelled)
            elif attempts >= MOST_ATTEMPTS:
                error = f"the worker died {attempts} times on this job: {reason}"
                self._end(db, job, JobStatus.failed, error=error)
            else:
                self._requeue_at_head(db, row)
            return self.get(job)

    def cancel(self, job: str) -> JobStatus:
        with self._changing() as db:
            row = self._require(db, job, JobStatus.queued, JobStatus.running)
            if row["status"] == JobStatus.running.value:
                db.execute("UPDATE jobs SET cancel_wanted = 1 WHERE id = ?", (job,))
                return JobStatus.running
            self._end(db, job, JobStatus.cancelled)
            return JobStatus.cancelled

    def is_cancel_wanted(self, job: str) -> bool:
        with self._reading() as db:
            self._row(db, job)
            return self._wants_cancel(db, job)

    def stopped(self, job: str) -> None:
        with self._changing() as db:
            self._require(db, job, JobStatus.running)
            self._end(db, job, JobStatus.cancelled)

    def retry(self, job: str) -> None:
        with self._changing() as db:
            row = self._require(db, job, JobStatus.failed, JobStatus.cancelled)
            db.execute(
                "UPDATE jobs SET status = 'queued', position = ?, attempts = 0, "
                "started_at = NULL, finished_at = NULL, error = NULL, "
                "cancel_wanted = 0, events = '' WHERE id = ?",
                (self._last_position(db, row["priority"]) + 1, job),
            )

    def move(self, job: str, offset: int) -> None:
        with self._changing() as db:
            self._require(db, job, JobStatus.queued)
            order = db.execute(
                "SELECT id, priority, position FROM jobs WHERE status = 'queued' "
                "ORDER BY priority DESC, position"
            ).fetchall()
            ids = [row["id"] for row in order]
            old = ids.index(job)
            new = min(max(old + offset, 0), len(ids) - 1)
            neighbour, own = order[new]["priority"], order[old]["priority"]
            ids.insert(new, ids.pop(old))
            priority = max(own, neighbour) if new < old else min(own, neighbour)
            db.execute("UPDATE jobs SET priority = ? WHERE id = ?", (priority, job))
            positions = {row["id"]: row["position"] for row in order}
            db.executemany(
                "UPDATE jobs SET position = ? WHERE id = ?",
                [
                    (position, each)
                    for position, each in enumerate(ids)
                    if positions[each] != position
                ],
            )

    def set_priority(self, job: str, priority: int) -> None:
        with self._changing() as db:
            self._require(db, job, JobStatus.queued)
            last = self._last_position(db, priority)
            db.execute(
                "UPDATE jobs SET priority = ?, position = ? WHERE id = ?",
                (priority, last + 1, job),
            )

    def remove(self, job: str) -> None:
        with self._changing() as db:
            self._require(db, job, JobStatus.queued, *ENDED)
            db.execute("DELETE FROM jobs WHERE id = ?", (job,))

    def clear(self) -> int:
        with self._changing() as db:
            return db.execute("DELETE FROM jobs WHERE status = 'queued'").rowcount

    def pause(self) -> None:
        with self._changing() as db:
            db.execute("INSERT OR IGNORE INTO flags VALUES ('paused')")

    def resume(self) -> None:
        with self._changing() as db:
            db.execute("DELETE FROM flags WHERE name = 'paused'")

    def is_paused(self) -> bool:
        with self._reading() as db:
            found = db.execute("SELECT 1 FROM flags WHERE name = 'paused'")
            return found.fetchone() is not None

    def version(self) -> int:
        return self._version

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _told_plainly("read"):
            yield self._db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock, _told_plainly("written"), transaction(self._db) as db:
            yield db
            self._version += 1

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._writing() as db:
            yield db
        for listener in self._listeners:
            listener()

    def _insert(
        self,
        db: sqlite3.Connection,
        request: GenerationRequest,
        priority: int,
        id_: str,
    ) -> Job:
        rows = db.execute(
            "INSERT INTO jobs (id, status, request, priority, position, created_at) "
            f"VALUES (?, 'queued', ?, ?, ?, ?) RETURNING {JOB_COLUMNS}",
            (
                id_,
                request.to_json(),
                priority,
                self._last_position(db, priority) + 1,
                _now(),
            ),
        )
        return _job(rows.fetchall()[0])

    def _free_id(self, db: sqlite3.Connection, wish: str) -> str:
        fit = re.fullmatch("[0-9a-f]{12}", wish)
        id_ = wish if fit else uuid.uuid4().hex[:12]
        while db.execute("SELECT 1 FROM jobs WHERE id = ?", (id_,)).fetchone():
            id_ = uuid.uuid4().hex[:12]
        return id_

    def _last_position(self, db: sqlite3.Connection, priority: int) -> int:
        found = db.execute(
            "SELECT max(position) FROM jobs WHERE status = 'queued' AND priority = ?",
            (priority,),
        )
        last = found.fetchone()[0]
        return -1 if last is None else int(last)

    def _requeue_at_head(self, db: sqlite3.Connection, row: sqlite3.Row) -> None:
        db.execute(
            "UPDATE jobs SET status = 'queued', started_at = NULL, position = ("
            "SELECT coalesce(min(position), 0) - 1 FROM jobs "
            "WHERE status = 'queued' AND priority = ?) WHERE id = ?",
            (row["priority"], row["id"]),
        )
        self._settle_events(db, row["id"])

    def _end(
        self,
        db: sqlite3.Connection,
        job: str,
        status: JobStatus,
        *,
        output: str | None = None,
        error: str | None = None,
    ) -> None:
        db.execute(
            "UPDATE jobs SET status = ?, finished_at = ?, output = ?, error = ? "
            "WHERE id = ?",
            (status.value, _now(), output, error, job),
        )
        self._settle_events(db, job)
        db.execute(
            "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs "
            "WHERE status IN ('done', 'failed', 'cancelled') "
            "ORDER BY finished_at DESC LIMIT -1 OFFSET ?)",
            (MOST_ENDED,),
        )

    def _settle_events(self, db: sqlite3.Connection, job: str) -> None:
        """The attempt is over: its events go to the disk, but for the preview."""
        kept = self._running_events.pop(job, None)
        if kept is not None:
            lasting = [event for event in kept if not isinstance(event, Preview)]
            self._store_events(db, job, lasting)

    def _stored_events(self, db: sqlite3.Connection, job: str) -> list[Event]:
        found = db.execute("SELECT events FROM jobs WHERE id = ?", (job,))
        # splitlines would also split at what JSON allows inside a text
        lines = filter(None, found.fetchone()["events"].split("\n"))
        return [events.load(line) for line in lines]

    def _store_events(
        self, db: sqlite3.Connection, job: str, kept: Sequence[Event]
    ) -> None:
        lines = "\n".join(events.dump(event) for event in kept)
        db.execute("UPDATE jobs SET events = ? WHERE id = ?", (lines, job))

    def _next_queued(self, is_ready: Callable[[Job], bool]) -> str | None:
        with self._reading() as db:
            rows = db.execute(
                f"SELECT {JOB_COLUMNS} FROM jobs WHERE status = 'queued' "
                "ORDER BY priority DESC, position"
            )
            jobs = map(_job, rows)
            return next((job.id for job in jobs if is_ready(job)), None)

    def _wants_cancel(self, db: sqlite3.Connection, job: str) -> bool:
        found = db.execute("SELECT cancel_wanted FROM jobs WHERE id = ?", (job,))
        return bool(found.fetchone()["cancel_wanted"])

    def _row(self, db: sqlite3.Connection, job: str) -> sqlite3.Row:
        found = db.execute(f"SELECT {JOB_COLUMNS} FROM jobs WHERE id = ?", (job,))
        row: sqlite3.Row | None = found.fetchone()
        if row is None:
            raise UserError(f"there is no job {job[:40]!r}; it may have been removed")
        return row

    def _require(
        self, db: sqlite3.Connection, job: str, *allowed: JobStatus
    ) -> sqlite3.Row:
        row = self._row(db, job)
        if JobStatus(row["status"]) not in allowed:
            names = " or ".join(status.value for status in allowed)
            raise UserError(
                f"job {job} is {row['status']}; only a job that is {names} allows this"
            )
        return row


@lru_cache(maxsize=2 * MOST_ENDED)
def _request(text: str) -> GenerationRequest:
    """Parsed once: a page lists all jobs again and again."""
    return GenerationRequest.model_validate_json(text)


def _job(row: sqlite3.Row) -> Job:
    return job_in(row, _request(row["request"]))


def _with(kept: Sequence[Event], event: Event) -> list[Event]:
    """``kept`` and ``event``, without what it makes obsolete."""
    if isinstance(event, Started):
        # Why the attempt before it ended is worth knowing during this one.
        kept = [earlier for earlier in kept if isinstance(earlier, Warned)][-1:]
    elif isinstance(event, Preview | Step):
        kept = [earlier for earlier in kept if type(earlier) is not type(event)]
    return [*kept, event]


def _now() -> str:
    return datetime.now(UTC).isoformat()


@contextmanager
def _told_plainly(verb: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise UserError(f"the queue can't be {verb}: {error}") from error
