"""The tables of the queue's file, one step after the other.

A step that has been released is never edited: a later one changes what it made.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from engine.errors import UserError


def m001_jobs(db: sqlite3.Connection) -> None:
    db.execute(
        """
        CREATE TABLE jobs (
            id TEXT PRIMARY KEY,
            status TEXT NOT NULL,
            request TEXT NOT NULL,
            priority INTEGER NOT NULL,
            position INTEGER NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0,
            created_at TEXT NOT NULL,
            started_at TEXT,
            finished_at TEXT,
            output TEXT,
            error TEXT,
            cancel_wanted INTEGER NOT NULL DEFAULT 0,
            events TEXT NOT NULL DEFAULT ''
        ) STRICT
        """
    )
    db.execute("CREATE INDEX jobs_order ON jobs (status, priority DESC, position)")
    db.execute("CREATE INDEX jobs_ended ON jobs (status, finished_at)")
    db.execute("CREATE TABLE flags (name TEXT PRIMARY KEY) STRICT")


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (m001_jobs,)


def migrate(db: sqlite3.Connection, file: Path) -> None:
    """Bring the tables of ``db``, read from ``file``, to what this version needs.

    Raises ``UserError`` when a newer version of the app has written them.
    """
    with db:  # commits, or rolls back when a step fails
        db.execute("BEGIN IMMEDIATE")
        db.execute(
            "CREATE TABLE IF NOT EXISTS migrations "
            "(name TEXT PRIMARY KEY, applied_at TEXT NOT NULL) STRICT"
        )
        applied = {name for (name,) in db.execute("SELECT name FROM migrations")}
        unknown = applied - {step.__name__ for step in MIGRATIONS}
        if unknown:
            raise UserError(
                f"the queue in {file} was written by a newer version of this app "
                f"({min(unknown)} is unknown here). Update the app, or move the file "
                "away to start with an empty queue"
            )
        for step in MIGRATIONS:
            if step.__name__ not in applied:
                step(db)
                now = datetime.now(UTC).isoformat()
                db.execute("INSERT INTO migrations VALUES (?, ?)", (step.__name__, now))
