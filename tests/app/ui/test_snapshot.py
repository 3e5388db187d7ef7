"""What the page knows about the running job."""

from datetime import timedelta

import pytest

from app.ui import snapshot
from app.ui.progress import generate_label, player, progress_card
from app.ui.queue_rows import queue_rows, queue_title
from app.ui.services import Services
from engine.events import Phase, Preview, Started, Step, Warned
from engine.request import GenerationRequest

REQUEST = GenerationRequest(
    model="fake-model",
    prompt="a <b>red</b> ball",
    width=64,
    height=48,
    num_frames=9,
    fps=8,
    num_inference_steps=20,
    seed=1,
)


def start(services: Services) -> str:
    services.store.add([REQUEST])
    job = services.store.claim()
    assert job is not None
    services.store.record(Started(job=job.id, model="fake-model", attempt=1))
    return job.id


def say(services: Services, job: str, phase: str, step: int = 0) -> None:
    services.store.record(Phase(job=job, phase=phase))
    if step:
        services.store.record(
            Step(
                job=job,
                phase=phase,
                step=step,
                total=20,
                seconds_per_step=1.5,
                seconds_left=(20 - step) * 1.5,
            )
        )


def test_bar_never_goes_back(services: Services) -> None:
    job = start(services)
    seen = [snapshot.take(services).fraction]
    for phase, step in (
        ("load", 0),
        ("encode", 0),
        ("denoise", 1),
        ("denoise", 20),
        ("decode", 0),
        ("decode", 10),
        ("write", 0),
    ):
        say(services, job, phase, step)
        seen.append(snapshot.take(services).fraction)
    assert seen == sorted(seen)
    assert seen[0] == 0
    assert 0.9 < seen[-1] <= 1


def test_steps_of_an_earlier_phase_are_not_shown(services: Services) -> None:
    job = start(services)
    say(services, job, "denoise", 20)
    say(services, job, "decode")
    now = snapshot.take(services)
    assert now.step is None
    assert "step" not in progress_card(now)


def test_card_tells_phase_step_pace_and_time_left(services: Services) -> None:
    job = start(services)
    say(services, job, "denoise", 4)
    services.store.record(Warned(job=job, message="low on <memory>"))
    services.store.record(Preview(job=job, step=4, image="data:image/jpeg;base64,AA"))
    card = progress_card(snapshot.take(services))
    assert "step 4 of 20 · 1.5 s/step · 24 s left" in card
    assert 'src="data:image/jpeg;base64,AA"' in card
    assert "low on &lt;memory&gt;" in card
    assert "a &lt;b&gt;red&lt;/b&gt; ball" in card
    assert f'data-action="cancel" data-job="{job}"' in card


def test_card_says_that_it_is_cancelling(services: Services) -> None:
    job = start(services)
    services.store.cancel(job)
    card = progress_card(snapshot.take(services))
    assert "Cancelling" in card
    assert "data-action" not in card


def test_time_left_counts_the_phases_after_the_steps(services: Services) -> None:
    first = start(services)
    services.store.finish(first, "/x.mp4")
    job = start(services)
    say(services, job, "denoise", 20)
    now = snapshot.take(services)
    done = next(each for each in now.ended)
    running = now.running
    assert running is not None
    assert running.started_at is not None
    assert done.started_at is not None
    took = timedelta(seconds=100)
    later = snapshot.Snapshot(
        **{
            **vars(now),
            "ended": [done.model_copy(update={"finished_at": done.started_at + took})],
            "now": running.started_at + timedelta(seconds=60),
        }
    )
    assert later.job_seconds_left == pytest.approx(40)


def test_failed_job_says_why_and_offers_to_retry(services: Services) -> None:
    job = start(services)
    services.store.fail(job, "out of memory: choose a smaller size")
    card = progress_card(snapshot.take(services))
    assert "Out of memory: choose a smaller size." in card
    assert 'data-action="retry"' in card


def test_paused_queue_says_what_to_press(services: Services) -> None:
    services.store.pause()
    services.store.add([REQUEST, REQUEST])
    now = snapshot.take(services)
    assert "2 videos wait. Press Resume" in progress_card(now)
    assert "paused" in queue_title(now)
    assert generate_label(now) == "Add to queue (2 ahead)"


def test_rows_offer_only_what_a_job_allows(services: Services) -> None:
    start(services)
    services.store.add([REQUEST, REQUEST])
    rows = queue_rows(snapshot.take(services), services.settings).split('class="job ')[
        1:
    ]
    actions = [
        [name for name in ("up", "down", "cancel", "retry") if f'n="{name}"' in row]
        for row in rows
    ]
    assert actions == [["cancel"], ["down", "cancel"], ["up", "cancel"]]


def test_nothing_yet_says_what_to_do(services: Services) -> None:
    now = snapshot.take(services)
    assert "Write a prompt and press Generate." in player(now)
    assert "The queue is empty" in queue_rows(now, services.settings)
    assert progress_card(now) == ""


def test_key_changes_with_every_event_and_every_video(services: Services) -> None:
    keys = [snapshot.key(services)]
    job = start(services)
    keys.append(snapshot.key(services))
    say(services, job, "load")
    keys.append(snapshot.key(services))
    (services.settings.outputs / "new.mp4").write_bytes(b"x")
    keys.append(snapshot.key(services))
    assert len(set(keys)) == len(keys)


def test_a_download_is_told_in_mebibytes_and_has_the_bar_for_itself(
    services: Services,
) -> None:
    job = start(services)
    services.store.record(Phase(job=job, phase="download", message="downloading Wan"))
    step = Step(
        job=job,
        phase="download",
        step=6500,
        total=26000,
        seconds_per_step=1 / 85,
        seconds_left=229,
    )
    services.store.record(step)
    now = snapshot.take(services)
    assert now.fraction == 0.25
    card = progress_card(now)
    assert "Downloading Wan" in card
    assert "6,500 of 26,000 MiB, 85 MiB/s · 3 min 49 s left" in card
    say(services, job, "load")
    assert snapshot.take(services).fraction == 0
