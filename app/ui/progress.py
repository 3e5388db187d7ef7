"""The card of the running job and the newest finished video, as HTML."""

from __future__ import annotations

from html import escape

from app.reporters import download_pace, duration, phase_title, step_unit
from app.ui.markup import action, empty, facts, one_line, sentence, video_url
from app.ui.snapshot import Snapshot
from engine.events import Phase, Warned
from engine.queue.job import Job, JobStatus

QUIET_STATES = ("idle", "starting", "running", "stopped")
"""Of the worker: while there is nothing to do, nobody needs to know of these."""


def progress_card(now: Snapshot) -> str:
    """What the worker does at this moment, or why it does nothing."""
    if now.running is not None:
        return _running(now, now.running)
    if now.paused and now.queued:
        waiting = count(len(now.queued), "video waits", "videos wait")
        return _card("paused", "Paused", f"{waiting}. Press Resume to go on.")
    if now.queued:
        # The list of downloads says it where all wait for files.
        ready = [job for job in now.queued if job.id not in now.downloading]
        said = sentence(now.worker)
        return _card("starting", "Getting ready", said) if ready else ""
    if now.ended and now.ended[0].status is JobStatus.failed:
        return _failed(now.ended[0])
    if now.worker.startswith(QUIET_STATES):
        return ""
    return _card("trouble", "Not ready", sentence(now.worker))


def player(now: Snapshot) -> str:
    """The newest finished video, playing; what to do when there is none."""
    if not now.outputs and (now.running or now.queued):
        return empty("Your first video is on its way", "It plays here when it is done.")
    if not now.outputs:
        return empty("No videos yet", "Write a prompt and press Generate.")
    newest = now.outputs[0]
    name = escape(newest.path.name)
    below = f'<p class="facts">{name}</p>'
    if newest.request is not None:
        below = (
            f'<div class="about"><p class="prompt">{one_line(newest.request.prompt)}'
            f'</p><p class="facts">{facts(newest.request)} · seed '
            f"{newest.request.seed}</p></div>"
            f'<button type="button" class="act text" data-action="use" '
            f'data-name="{name}">Use these settings</button>'
        )
    return (
        f'<figure class="player"><video id="newest-video" data-name="{name}" '
        f'src="{video_url(newest.path)}" autoplay loop muted playsinline controls>'
        f"</video><figcaption>{below}</figcaption></figure>"
    )


def generate_label(now: Snapshot) -> str:
    """What the button says: pressing it while others wait adds to them."""
    ahead = len(now.queued) + (now.running is not None)
    return f"Add to queue ({ahead} ahead)" if ahead else "Generate"


def count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _running(now: Snapshot, job: Job) -> str:
    phase, warned, step = now.newest(Phase), now.newest(Warned), now.step
    title = phase_title(phase) if phase else "Starting"
    numbers = []
    if step is not None and step.phase == "download":
        numbers.append(download_pace(step))
    elif step is not None:
        unit = step_unit(step)
        numbers.append(f"{unit} {step.step} of {step.total}")
        numbers.append(f"{step.seconds_per_step:.3g} s/{unit}")
    if (left := now.job_seconds_left) is not None:
        numbers.append(f"{duration(left)} left")
    if now.queued and (whole := now.queue_seconds_left) is not None:
        numbers.append(f"whole queue {duration(whole)}")
    percent = round(100 * now.fraction)
    picture = (
        f'<img class="preview" alt="Preview of the video so far" src="{now.preview}">'
        if now.preview
        else '<div class="preview blank" aria-hidden="true"></div>'
    )
    busy = "" if step else " busy"
    note = f'<p class="facts warn">{escape(warned.message)}</p>' if warned else ""
    return (
        f'<section class="card running" data-job="{job.id}" data-percent="{percent}">'
        f'{picture}<div class="doing"><p class="prompt">{one_line(job.request.prompt)}'
        f'</p><p class="phase">{escape(title)}</p>'
        f'<div class="bar{busy}" role="progressbar" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{percent}">'
        f'<span style="width:{percent}%"></span></div>'
        f'<p class="facts">{escape(" · ".join(numbers))}</p>{note}</div>'
        f"{_cancel(now, job)}</section>"
    )


def _cancel(now: Snapshot, job: Job) -> str:
    if now.cancelling:
        return '<p class="facts">Cancelling…</p>'
    return action("cancel", "Cancel", job=job.id)


def _failed(job: Job) -> str:
    return (
        f'<section class="card failed" data-job="{job.id}" role="alert">'
        f'<div class="doing"><p class="phase">This video failed</p>'
        f'<p class="prompt">{one_line(job.request.prompt)}</p>'
        f'<p class="error">{escape(sentence(job.error))}</p></div>'
        f"{action('retry', 'Retry', job=job.id)}"
        f"{action('remove', 'Dismiss', job=job.id)}</section>"
    )


def _card(kind: str, title: str, text: str) -> str:
    return (
        f'<section class="card {kind}" role="status"><div class="doing">'
        f'<p class="phase">{escape(title)}</p><p class="facts">{escape(text)}</p>'
        "</div></section>"
    )
