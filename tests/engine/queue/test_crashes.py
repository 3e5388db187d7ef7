"""The worker and the whole app are killed at random moments: no job is lost, and
none leaves two videos."""

import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from engine.media.metadata import read_request
from engine.media.video import probe
from engine.queue.job import JobStatus
from engine.queue.store import SqliteJobStore
from engine.validate import accept

ROOT = Path(__file__).parents[3]
KILLS = 20
JOBS = 6


class KilledApp:
    """A copy of the app in its own process, on the data of ``settings``."""

    def __init__(self, settings):
        self.settings = settings
        self.pids = set()
        self.added = 0
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "tests.engine.queue.crash_app"]
        self.process = subprocess.Popen(
            [*command, str(self.settings.root)],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        self.pids.add(self.process.pid)

    def worker(self, besides=None):
        """The worker's process once there is one, and it isn't ``besides``."""
        end = time.monotonic() + 20
        while self.process.poll() is None and time.monotonic() < end:
            try:
                for child in psutil.Process(self.process.pid).children():
                    is_worker = "--multiprocessing-fork" in child.cmdline()
                    if is_worker and child != besides:
                        self.pids.add(child.pid)
                        return child
            except psutil.NoSuchProcess:
                continue
            time.sleep(0.005)
        return None

    def store(self):
        return SqliteJobStore(self.settings.root / "queue.sqlite")

    def add_jobs(self):
        store = self.store()
        prompts = [f"slow red ball {self.added + n}" for n in range(JOBS)]
        store.add(
            [
                accept(
                    {"model": "fake-model", "prompt": prompt, "seed": 1},
                    folder=None,
                    settings=self.settings,
                )
                for prompt in prompts
            ]
        )
        store.close()
        self.added += JOBS

    def end_of_queue(self):
        """Let it work off what is left."""
        if self.process.poll() is not None:
            self.start()
        assert self.process.wait(timeout=120) == 0

    def check_every_job_has_one_video(self):
        store = self.store()
        jobs = store.list_jobs()
        store.close()
        assert len(jobs) == self.added
        assert {job.status for job in jobs} == {JobStatus.done}
        videos = {str(path) for path in self.settings.outputs.glob("*.mp4")}
        assert videos == {job.output for job in jobs}
        assert len(videos) == self.added
        for job in jobs:
            video = Path(job.output)
            assert read_request(video).prompt == job.request.prompt
            assert probe(video).num_frames == 9
        assert list((self.settings.outputs / ".part").iterdir()) == []
        assert store.warning == ""

    def check_nothing_is_left_running(self):
        end = time.monotonic() + 10
        while alive := {pid for pid in self.pids if is_alive(pid)}:
            assert time.monotonic() < end, alive
            time.sleep(0.02)


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def app(settings, use_fake_family):
    settings.root.mkdir(parents=True)
    app = KilledApp(settings)
    yield app
    if app.process is not None:
        app.process.kill()
        app.process.wait()


def test_killed_worker_costs_no_job_and_doubles_none(app):
    moments = random.Random(1)
    kills, worker = 0, None
    while kills < KILLS // 2:
        if app.process is None or app.process.poll() is not None:
            app.add_jobs()
            app.start()
            worker = None
        worker = app.worker(besides=worker)
        time.sleep(moments.uniform(0, 0.8))
        if worker is not None and is_alive(worker.pid):
            worker.kill()
            kills += 1
    app.end_of_queue()
    app.check_every_job_has_one_video()
    app.check_nothing_is_left_running()


def test_killed_app_costs_no_job_and_doubles_none(app):
    moments = random.Random(2)
    kills = 0
    app.add_jobs()
    while kills < KILLS // 2:
        app.start()
        app.worker()
        time.sleep(moments.uniform(0, 1.2))
        if app.process.poll() is None:
            app.process.kill()
            kills += 1
        elif kills < KILLS // 2:
            app.add_jobs()
        app.process.wait()
    app.end_of_queue()
    app.check_every_job_has_one_video()
    app.check_nothing_is_left_running()


def test_worker_ends_at_once_when_its_app_is_killed(app):
    app.add_jobs()
    app.start()
    worker = app.worker()
    while not list((app.settings.outputs / ".part").glob("*")):
        time.sleep(0.01)
    app.process.kill()
    app.process.wait()
    worker.wait(timeout=2)


def test_second_app_on_the_same_data_is_refused_with_the_pid_of_the_first(app):
    app.add_jobs()
    app.start()
    app.worker()
    second = subprocess.run(
        [*app.process.args],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 2
    assert f"already used by another copy of the app (pid {app.process.pid})" in (
        second.stderr
    )
    app.end_of_queue()
    app.check_every_job_has_one_video()
