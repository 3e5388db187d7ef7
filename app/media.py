"""``--clean-media``: deletes kept input media that nothing needs any more."""

from __future__ import annotations

import sys

from app.models import size
from app.options import Options
from engine.errors import UserError
from engine.media.unused import UNUSED_DAYS, unused_media
from engine.queue import lock
from engine.queue.store import SqliteJobStore


def clean_media(options: Options) -> int:
    """Delete them, or only name them with ``--dry-run``; returns the exit code.

    Raises ``UserError`` when it can't be told what is needed, or another copy of the
    app uses the folder; nothing is deleted then.
    """
    settings = options.settings
    with lock.hold(settings.root):
        damaged = next(settings.root.glob("queue.bad-*"), None)
        if damaged is not None:
            raise UserError(
                f"{damaged} is a damaged queue whose jobs may need media. Move it "
                "elsewhere or delete it first; no media were deleted"
            )
        store = SqliteJobStore(settings.root / "queue.sqlite")
        try:
            if store.warning:
                raise UserError(f"{store.warning}. No media were deleted")
            requests = [job.request for job in store.list_jobs()]
        finally:
            store.close()
        files = unused_media(requests, settings)
        total = sum(file.stat().st_size for file in files)
        for file in files:
            _say(f"{'unused' if options.dry_run else 'deleted'}: {file}")
            if not options.dry_run:
                file.unlink()
    what = f"{len(files)} unused for {UNUSED_DAYS} days, {size(total)}"
    _say(what if options.dry_run or not files else f"{what}: deleted")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
