"""The queue: its jobs as HTML rows, and what their buttons do."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from app.reporters import duration
from app.ui.markup import action, empty, facts, media_words, one_line, sentence
from app.ui.snapshot import Snapshot
from engine.catalogue import all_models
from engine.queue.job import Job, JobStatus, JobStore
from engine.settings import Settings

MOST_ENDED = 6
STATUS = {
    JobStatus.queued: "Waiting",
    JobStatus.running: "Running",
    JobStatus.done: "Done",
    JobStatus.failed: "Failed",
    JobStatus.cancelled: "Cancelled",
}


def queue_rows(now: Snapshot, settings: Settings) -> str:
    """The running job, the waiting ones in their order, the last that ended."""
    titles = {variant.id: variant.title for variant in all_models(settings).values()}
    running = [now.running] if now.running else []
    waiting = [
        _row(
            job,
            titles,
            place=place,
            last=place == len(now.queued),
            downloading=job.id in now.downloading,
        )
        for place, job in enumerate(now.queued, start=1)
    ]
    rows = [*(_row(job, titles) for job in running), *waiting]
    if not rows:
        rows = [empty("The queue is empty", "New videos line up here.")]
    ended = now.ended[:MOST_ENDED]
    if ended:
        rows.append(
            f'<div class="earlier"><span>Earlier</span>{action("tidy", "Tidy up")}'
            "</div>"
        )
        rows += [_row(job, titles) for job in ended]
    return f'<div class="jobs" role="list">{"".join(rows)}</div>'


def queue_title(now: Snapshot) -> str:
    ahead = len(now.queued) + (now.running is not None)
    note = " · paused" if now.paused else ""
    return f"<h2>Queue <small>{ahead or 'empty'}{note}</small></h2>"


def act(store: JobStore, name: str, job: str) -> None:
    """Do what a button of a row says.

    Raises ``UserError`` when the job doesn't allow it any more.
    """
    if name == "up":
        store.move(job, -1)
    elif name == "down":
        store.move(job, 1)
    elif name == "cancel":
        store.cancel(job)
    elif name == "retry":
        store.retry(job)
    elif name == "remove":
        store.remove(job)
    elif name == "tidy":
        ended = (JobStatus.done, JobStatus.failed, JobStatus.cancelled)
        for each in store.list_jobs(*ended):
            store.remove(each.id)


def _row(
    job: Job,
    titles: Mapping[str, str],
    place: int | None = None,
    last: bool = False,
    downloading: bool = False,
) -> str:
    status = "Downloading" if downloading else STATUS[job.status]
    model = titles.get(job.request.model, job.request.model)
    media = media_words(job.request)
    count = len(job.request.enabled_loras)
    loras = f"{count} LoRA{'s' if count > 1 else ''}" if count else ""
    told = (escape(model), facts(job.request), media, loras)
    known = " · ".join(filter(None, told))
    error = f'<p class="error">{escape(sentence(job.error))}</p>' if job.error else ""
    return (
        f'<div class="job {job.status.value}" role="listitem" data-job="{job.id}" '
        f'data-status="{job.status.value}">'
        f'<span class="place">{place or ""}</span><div class="about">'
        f'<p class="prompt" title="{escape(job.request.prompt)}">'
        f"{one_line(job.request.prompt)}</p>"
        f'<p class="facts">{known}{_took(job)}</p>'
        f'{error}</div><span class="status">{status}</span>'
        f'<span class="acts">{_buttons(job, place, last)}</span></div>'
    )


def _took(job: Job) -> str:
    if job.status is not JobStatus.done or not (job.started_at and job.finished_at):
        return ""
    return f" · took {duration((job.finished_at - job.started_at).total_seconds())}"


def _buttons(job: Job, place: int | None, last: bool) -> str:
    if job.status is JobStatus.queued:
        up = action("up", "↑", title="Move up", job=job.id) if place != 1 else ""
        down = action("down", "↓", title="Move down", job=job.id) if not last else ""
        return up + down + action("cancel", "✕", title="Cancel", job=job.id)
    if job.status is JobStatus.running:
        return action("cancel", "✕", title="Cancel", job=job.id)
    again = ""
    if job.status is not JobStatus.done:
        again = action("retry", "↻", title="Retry", job=job.id)
    return again + action("remove", "✕", title="Remove from this list", job=job.id)
