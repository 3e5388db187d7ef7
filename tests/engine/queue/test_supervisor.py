import os
import signal
import time
from multiprocessing import active_children
from pathlib import Path
from threading import Event

import psutil
import pytest

from engine.errors import EngineError, UserError
from engine.events import Failed, Phase, Saved, Started, Step, Stopped, Warned
from engine.media.metadata import read_request
from engine.outputs import output_path, part_path, remove_part
from engine.queue import supervisor as supervisor_module
from engine.queue.job import JobStatus
from engine.queue.messages import Ready
from engine.queue.store import SqliteJobStore
from engine.queue.supervisor import Supervisor
from engine.validate import accept
from tests.fakes import fake_worker_main


def deaf_worker(connection, settings):
    """Takes a job, says so, and obeys nothing."""
    connection.recv()
    connection.send(Ready())
    run = connection.recv()
    connection.send(Started(job=run.job, model="fake-model", attempt=1))
    while True:
        time.sleep(60)


def broken_worker(connection, settings):
    os._exit(7)


def dying_after_the_video(connection, settings):
    """Dies between the finished file and the word about it."""
    connection.recv()
    connection.send(Ready())
    run = connection.recv()
    Path(run.output).parent.mkdir(parents=True, exist_ok=True)
    Path(run.output).write_bytes(b"a whole video")
    os.kill(os.getpid(), signal.SIGSEGV)


def crashing_while_warming_up(connection, settings):
    command = connection.recv()
    if command.model is not None:
        os.kill(os.getpid(), signal.SIGSEGV)
    connection.send(Ready())
    connection.recv()


def killed_from_outside_at_first(connection, settings):
    starts = settings.root / "starts"
    starts.mkdir(exist_ok=True)
    (starts / str(os.getpid())).touch()
    if len(list(starts.iterdir())) <= 5:
        os.kill(os.getpid(), signal.SIGKILL)
    fake_worker_main(connection, settings)


class App:
    """A store with a supervisor, as the app has them."""

    def __init__(self, settings, **options):
        self.settings = settings
        self.store = SqliteJobStore(settings.root / "queue.sqlite")
        self.heard = []
        options = {"worker": fake_worker_main, **options}
        self.supervisor = Supervisor(
            self.store, settings, on_event=self.heard.append, **options
        )

    def add(self, *prompts):
        requests = [
            accept(
                {"model": "fake-model", "prompt": prompt, "seed": 1},
                folder=None,
                settings=self.settings,
            )
            for prompt in prompts
        ]
        return [job.id for job in self.store.add(requests)]

    def status(self, job):
        return self.store.get(job).status

    def until(self, is_so, seconds=20):
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, self.supervisor.status()
            time.sleep(0.005)

    def until_step(self, job):
        self.until(lambda: any(isinstance(e, Step) for e in self.store.events(job)))

    def said(self, kind):
        return [event for event in self.heard if isinstance(event, kind)]

    def worker(self):
        [worker] = (
            child
            for child in psutil.Process().children()
            if "--multiprocessing-fork" in child.cmdline()
        )
        return worker

    def close(self):
        self.supervisor.stop()
        self.store.close()


@pytest.fixture
def start(settings, use_fake_family):
    apps = []

    def start(**options):
        app = App(settings, **options)
        apps.append(app)
        app.supervisor.start()
        return app

    yield start
    for app in apps:
        app.close()


def videos(settings):
    return sorted(path.name for path in settings.outputs.glob("*.mp4"))


def parts(settings):
    return list((settings.outputs / ".part").glob("*"))


def leave_part(job, settings):
    """Half a video of ``job``, as a dead worker leaves it; returns where the whole one
    would be."""
    output = output_path(job.id, job.created_at, job.request, settings.outputs)
    part = part_path(output, job.id)
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(b"half a video")
    part.with_name(f"{part.name}.tags").write_bytes(b"what it will carry")
    return output


def leave_cancelled(settings):
    """A job that an app ran, was told to cancel, and died before it had; returns its
    id."""
    dead = App(settings)
    [job] = dead.add("a red ball")
    leave_part(dead.store.claim(), settings)
    dead.store.cancel(job)
    dead.store.close()
    return job


def test_job_becomes_a_video_that_carries_its_request(start, settings):
    app = start()
    [job] = app.add("a red ball")
    app.supervisor.wait_until_empty()
    done = app.store.get(job)
    assert done.status is JobStatus.done
    assert read_request(Path(done.output)).prompt == "a red ball"
    assert Path(done.output).is_absolute()
    assert Path(done.output) == output_path(
        job, done.created_at, done.request, settings.outputs
    )
    assert parts(settings) == []


def test_events_are_told_and_stored_in_order(start):
    app = start()
    [job] = app.add("a red ball")
    app.supervisor.wait_until_empty()
    assert isinstance(app.heard[0], Started)
    assert isinstance(app.heard[-1], Saved)
    phases = [event.phase for event in app.said(Phase)]
    assert list(dict.fromkeys(phases)) == [
        "load",
        "encode",
        "denoise",
        "decode",
        "write",
    ]
    stored = app.store.events(job)
    assert stored[0] == app.heard[0]
    assert stored[-1] == app.heard[-1]
    assert app.said(Saved)[0].path == app.store.get(job).output


def test_failed_job_says_why_and_the_next_one_runs(start):
    app = start()
    bad, oom, good = app.add("fail", "oom", "a blue ball")
    app.supervisor.wait_until_empty()
    assert [app.status(job) for job in (bad, oom, good)] == [
        JobStatus.failed,
        JobStatus.failed,
        JobStatus.done,
    ]
    assert app.store.get(bad).error == (
        "Something unexpected happened while making the video: ValueError: the fake "
        "was told to fail"
    )
    assert app.store.get(oom).error.startswith("out of memory on cpu with fake-model")
    told = app.said(Failed)
    assert "Traceback" in told[0].detail
    assert "_end_badly" in told[0].detail
    assert [event.job for event in told] == [bad, oom]


def test_missing_file_fails_the_job_with_a_sentence_for_a_person(start, settings):
    app = start()
    settings.outputs.parent.mkdir(parents=True, exist_ok=True)
    settings.outputs.write_text("not a folder")
    [job] = app.add("a red ball")
    app.supervisor.wait_until_empty()
    assert app.store.get(job).error.startswith("can't write the video into")


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [("crash", "segmentation fault (SIGSEGV)"), ("exit", "exit code 3")],
)
def test_job_that_kills_three_workers_fails_and_the_next_one_runs(
    start, prompt, reason
):
    app = start()
    bad, good = app.add(prompt, "a blue ball")
    app.supervisor.wait_until_empty()
    failed = app.store.get(bad)
    assert failed.status is JobStatus.failed
    assert failed.attempts == 3
    assert failed.error == f"the worker died 3 times on this job: {reason}"
    assert app.status(good) is JobStatus.done
    assert [event.attempt for event in app.said(Started)] == [1, 2, 3, 1]
    assert [event.message for event in app.said(Warned)] == [
        f"The worker died: {reason}. The job starts again, attempt 2 of 3.",
        f"The worker died: {reason}. The job starts again, attempt 3 of 3.",
        f"The worker died: {reason}. The job is given up.",
    ]
    assert [event.error for event in app.said(Failed)] == [failed.error]
    assert parts(app.settings) == []


def test_worker_killed_from_outside_is_replaced_and_nobody_blamed(start):
    app = start()
    [job] = app.add("slow green ball")
    for _ in range(4):
        seen = len(app.said(Started))
        app.until(lambda seen=seen: len(app.said(Started)) > seen or not seen)
        app.until_step(job)
        app.worker().kill()
        app.until(lambda seen=seen: len(app.said(Warned)) > seen)
    app.supervisor.wait_until_empty()
    done = app.store.get(job)
    assert (done.status, done.attempts) == (JobStatus.done, 0)
    assert app.said(Warned)[0].message == (
        "The worker died: killed (SIGKILL). The job starts again."
    )


def test_worker_that_dies_idle_is_replaced(start):
    app = start()
    app.until(lambda: app.supervisor.status() == "idle")
    first = app.worker()
    first.kill()
    [job] = app.add("a red ball")
    app.supervisor.wait_until_empty()
    assert app.status(job) is JobStatus.done
    assert app.worker().pid != first.pid


def test_video_whose_worker_died_before_it_could_say_so_is_done(start, settings):
    app = start(worker=dying_after_the_video)
    [job] = app.add("a red ball")
    app.supervisor.wait_until_empty()
    assert app.status(job) is JobStatus.done
    assert len(videos(settings)) == 1
    assert len(app.said(Saved)) == 1
    assert len(app.said(Started)) == 0


def test_running_job_stops_within_a_step_when_cancelled(start, settings):
    app = start()
    stalled, after = app.add("stall", "a red ball")
    app.until_step(stalled)
    began = time.monotonic()
    assert app.store.cancel(stalled) is JobStatus.running
    app.until(lambda: app.status(stalled) is JobStatus.cancelled)
    assert time.monotonic() - began < 1
    app.supervisor.wait_until_empty()
    assert app.status(after) is JobStatus.done
    assert [event.job for event in app.said(Stopped)] == [stalled]
    assert len(videos(settings)) == 1
    assert parts(settings) == []


def test_queued_job_that_is_cancelled_never_runs(start):
    app = start()
    running, queued = app.add("slow red ball", "a blue ball")
    app.until_step(running)
    app.store.cancel(queued)
    app.supervisor.wait_until_empty()
    assert app.status(queued) is JobStatus.cancelled
    assert {event.job for event in app.said(Started)} == {running}


def test_cancelled_job_can_be_retried_in_the_same_worker(start):
    app = start()
    [job] = app.add("slow red ball")
    app.until_step(job)
    app.store.cancel(job)
    app.supervisor.wait_until_empty()
    app.store.retry(job)
    app.supervisor.wait_until_empty()
    assert app.status(job) is JobStatus.done


def test_worker_that_does_not_obey_is_killed_after_the_grace_time(start):
    app = start(worker=deaf_worker, cancel_grace=0.3)
    [job] = app.add("a red ball")
    app.until(lambda: app.said(Started))
    worker = app.worker()
    app.store.cancel(job)
    began = time.monotonic()
    app.supervisor.wait_until_empty()
    assert 0.2 < time.monotonic() - began < 3
    assert app.status(job) is JobStatus.cancelled
    assert [event.job for event in app.said(Stopped)] == [job]
    app.until(lambda: app.supervisor.status() == "idle")
    assert not worker.is_running()
    assert app.worker().pid != worker.pid


def test_stopped_process_is_killed_when_its_job_is_cancelled(start):
    app = start(cancel_grace=0.2)
    [job] = app.add("slow red ball")
    app.until_step(job)
    app.worker().suspend()
    app.store.cancel(job)
    app.supervisor.wait_until_empty()
    assert app.status(job) is JobStatus.cancelled


def test_paused_queue_lets_the_running_job_end_and_starts_no_other(start):
    app = start()
    first, second = app.add("slow red ball", "a blue ball")
    app.until_step(first)
    app.store.pause()
    app.until(lambda: app.status(first) is JobStatus.done)
    time.sleep(0.2)
    assert app.status(second) is JobStatus.queued
    app.store.resume()
    app.supervisor.wait_until_empty()
    assert app.status(second) is JobStatus.done


def test_stop_gives_the_running_job_back_and_the_next_start_goes_on(start, settings):
    app = start()
    first, second = app.add("slow red ball", "a blue ball")
    app.until_step(first)
    worker = app.worker()
    began = time.monotonic()
    app.close()
    assert time.monotonic() - began < 2
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert active_children() == []

    again = start()
    again.supervisor.wait_until_empty()
    assert [again.status(job) for job in (first, second)] == [JobStatus.done] * 2
    assert [event.job for event in again.said(Saved)] == [first, second]
    assert again.store.get(first).attempts == 0
    assert len(videos(settings)) == 2
    assert parts(settings) == []


def test_job_left_running_by_a_dead_app_is_done_if_its_video_is_there(
    settings, use_fake_family, start
):
    dead = App(settings)
    with_video, without = dead.add("a red ball", "a blue ball")
    for _ in range(2):
        job = dead.store.claim()
        output = leave_part(job, settings)
        if job.id == with_video:
            output.write_bytes(b"a whole video")
    dead.store.close()

    app = start()
    app.supervisor.wait_until_empty()
    assert Path(app.store.get(with_video).output).read_bytes() == b"a whole video"
    assert [event.job for event in app.said(Started)] == [without]
    assert len(videos(settings)) == 2
    assert parts(settings) == []


def test_cancel_that_the_app_did_not_survive_is_not_forgotten(
    settings, use_fake_family, start
):
    job = leave_cancelled(settings)
    app = start()
    app.supervisor.wait_until_empty()
    assert app.status(job) is JobStatus.cancelled
    assert app.said(Started) == []
    assert parts(settings) == []


def test_queue_is_not_empty_before_what_a_dead_app_left_is_removed(
    settings, use_fake_family, start, monkeypatch
):
    removing, may_remove = Event(), Event()

    def remove_slowly(output, job):
        removing.set()
        assert may_remove.wait(20)
        remove_part(output, job)

    monkeypatch.setattr(supervisor_module, "remove_part", remove_slowly)
    job = leave_cancelled(settings)
    app = start()
    assert removing.wait(20)
    assert app.status(job) is JobStatus.running
    may_remove.set()
    assert app.supervisor.wait_until_empty()
    assert parts(settings) == []


def test_queued_job_whose_video_is_there_does_not_run_again(
    settings, use_fake_family, start
):
    dead = App(settings)
    [job] = dead.add("a red ball")
    output = leave_part(dead.store.get(job), settings)
    output.write_bytes(b"a whole video")
    dead.store.close()
    app = start()
    app.supervisor.wait_until_empty()
    assert (app.status(job), app.said(Started)) == (JobStatus.done, [])
    assert output.read_bytes() == b"a whole video"
    assert parts(settings) == []


def test_worker_that_can_not_start_is_tried_slowly_and_the_queue_stays(
    start, monkeypatch
):
    monkeypatch.setattr(supervisor_module, "RESTART_SECONDS", (0.0, 0.05, 0.1, 60.0))
    app = start(worker=broken_worker)
    [job] = app.add("a red ball")
    app.until(lambda: "3 times in a row" in app.supervisor.status())
    assert app.supervisor.status() == (
        "the worker can't start; it died 3 times in a row: exit code 7. The next try "
        "is in 60 s"
    )
    assert (app.status(job), app.store.get(job).attempts) == (JobStatus.queued, 0)
    began = time.monotonic()
    app.close()
    assert time.monotonic() - began < 1


def test_waiting_ends_when_the_worker_can_not_start(start, monkeypatch):
    monkeypatch.setattr(supervisor_module, "RESTART_SECONDS", (0.0,))
    app = start(worker=broken_worker)
    app.add("a red ball")
    with pytest.raises(
        UserError, match=r"the worker can't start; it died .* exit code"
    ):
        app.supervisor.wait_until_empty()


def test_worker_killed_from_outside_while_it_starts_is_tried_again(start, monkeypatch):
    monkeypatch.setattr(supervisor_module, "RESTART_SECONDS", (0.0, 0.05))
    app = start(worker=killed_from_outside_at_first)
    [job] = app.add("a red ball")
    app.supervisor.wait_until_empty()
    assert (app.status(job), app.store.get(job).attempts) == (JobStatus.done, 0)


def test_waiting_ends_when_the_supervisor_does(start):
    app = start()
    app.store.pause()
    app.add("a red ball")
    app.supervisor.stop()
    with pytest.raises(EngineError, match="ended before the queue was empty"):
        app.supervisor.wait_until_empty()


def test_model_that_crashes_while_warming_up_keeps_nothing_from_starting(
    start, monkeypatch
):
    monkeypatch.setattr(supervisor_module, "RESTART_SECONDS", (0.0,))
    app = start(worker=crashing_while_warming_up, warm_model="fake-model")
    app.until(lambda: app.supervisor.status() == "idle")


def test_store_that_refuses_does_not_end_the_supervisor(start, monkeypatch):
    monkeypatch.setattr(supervisor_module, "STORE_RETRY_SECONDS", 0.1)
    app = start()
    app.until(lambda: app.supervisor.status() == "idle")
    claim = app.store.claim

    def refuse(*_):
        raise UserError("the queue can't be written: database or disk is full")

    monkeypatch.setattr(app.store, "claim", refuse)
    [job] = app.add("a red ball")
    app.until(lambda: "disk is full" in app.supervisor.status())
    monkeypatch.setattr(app.store, "claim", claim)
    app.supervisor.wait_until_empty()
    assert app.status(job) is JobStatus.done


def test_warning_of_the_store_is_in_the_status(start, settings):
    settings.root.mkdir(parents=True)
    (settings.root / "queue.sqlite").write_bytes(b"no database" * 100)
    app = start()
    app.until(lambda: "was damaged" in app.supervisor.status())


def test_job_starts_at_once_when_the_worker_is_idle(start):
    app = start()
    app.add("a red ball")
    app.supervisor.wait_until_empty()
    took = []
    for _ in range(10):
        [job] = app.add("a red ball")
        began = time.perf_counter()
        app.until(lambda job=job: app.said(Started)[-1].job == job)
        took.append(time.perf_counter() - began)
        app.supervisor.wait_until_empty()
    assert sorted(took)[5] < 0.05


def test_what_the_worker_prints_stays_out_of_stdout(start, capfd):
    app = start(worker=chatty_worker)
    app.until(lambda: app.supervisor.status() == "idle")
    out, err = capfd.readouterr()
    assert out == ""
    assert "chatter of a library" in err


def chatty_worker(connection, settings):
    from engine import generate
    from engine.queue import worker

    class Chatty(generate.Generator):
        def warm_up(self, model=None):
            os.write(1, b"chatter of a library\n")

    generate.Generator = Chatty
    worker.main(connection, settings)
