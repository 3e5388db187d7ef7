"""Opens the queue's file, and goes on when it is damaged.

A damaged file is never deleted: it is renamed, and the jobs that can still be read
are copied into the new one.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from pydantic import ValidationError

from engine.errors import UserError
from engine.queue.job import Job
from engine.queue.migrations import migrate
from engine.request import GenerationRequest

BUSY_SECONDS = 10

SQLITE_CORRUPT, SQLITE_NOTADB = 11, 26

JOB_COLUMNS = (
    "id, status, request, priority, position, attempts, created_at, started_at, "
    "finished_at, output, error"
)


class DamagedQueue(sqlite3.DatabaseError):
    """The file is a database, but what it says can't be."""


def open_database(file: Path) -> tuple[sqlite3.Connection, str]:
    """A connection to the queue in ``file``, made if there is none, and a warning if
    it was damaged (else empty).

    Raises ``UserError`` when the file can't be used or is of a newer version.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _open(file), ""
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            return _start_anew(file, str(error))
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"can't use the queue in {file}: {error}. Check that the folder can be "
            "written to and the disk isn't full"
        ) from error


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """All that the block writes is on the disk when it ends, or none of it."""
    with db:
        db.execute("BEGIN IMMEDIATE")
        yield db


def job_in(row: sqlite3.Row, request: GenerationRequest | None = None) -> Job:
    """The job that a row with ``JOB_COLUMNS`` holds; ``request`` is the one in it if
    it is known already. Raises ``pydantic.ValidationError``."""
    request = request or GenerationRequest.model_validate_json(row["request"])
    values = {name: row[name] for name in JOB_COLUMNS.split(", ")}
    return Job.model_validate({**values, "request": request})


def _open(file: Path) -> sqlite3.Connection:
    db = sqlite3.connect(
        file, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # acknowledged jobs survive power cuts
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise DamagedQueue(verdict)
        migrate(db, file)
        _check_jobs(db)
    except (UserError, sqlite3.Error):
        db.close()
        raise
    return db


def _check_jobs(db: sqlite3.Connection) -> None:
    # SQLite has no checksums: a flipped bit in a text shows only when it is read.
    for row in db.execute(f"SELECT {JOB_COLUMNS} FROM jobs"):
        try:
            job_in(row)
        except ValidationError as error:
            raise DamagedQueue(f"job {row['id']} can't be read") from error


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without its details
    return isinstance(error, DamagedQueue) or code in {SQLITE_CORRUPT, SQLITE_NOTADB}


def _start_anew(file: Path, reason: str) -> tuple[sqlite3.Connection, str]:
    bad = _unused_name(file)
    # The log beside the file goes along: with it more may be readable.
    for ending in ("-wal", "-shm", ""):
        part = Path(f"{file}{ending}")
        if part.exists():
            part.rename(f"{bad}{ending}")
    db = _open(file)
    saved = _salvage(bad, db)
    what = {0: "no job", 1: "1 job"}.get(saved, f"{saved} jobs")
    return db, (
        f"The queue's file was damaged ({reason}). It was kept as {bad.name}; {what} "
        "could be read and went into a new queue."
    )


def _unused_name(file: Path) -> Path:
    stem = f"{file.stem}.bad-{time.strftime('%Y-%m-%d_%Hh%Mm%Ss')}"
    bad, number = file.with_name(f"{stem}{file.suffix}"), 2
    while bad.exists():
        bad, number = file.with_name(f"{stem}-{number}{file.suffix}"), number + 1
    return bad


def _salvage(bad: Path, db: sqlite3.Connection) -> int:
    """Copy the jobs that can be read from ``bad``; returns how many."""
    marks = ", ".join("?" for _ in JOB_COLUMNS.split(", "))
    insert = f"INSERT OR IGNORE INTO jobs ({JOB_COLUMNS}) VALUES ({marks})"
    copied = 0
    with closing(sqlite3.connect(bad)) as source, transaction(db):
        source.row_factory = sqlite3.Row
        try:
            for row in source.execute(f"SELECT {JOB_COLUMNS} FROM jobs"):
                try:
                    job_in(row)
                except ValidationError:
                    continue
                copied += db.execute(insert, tuple(row)).rowcount
        except sqlite3.DatabaseError:  # unreadable from here on
            return copied
    return copied
