import multiprocessing
import os
import signal
import time

import psutil
import pytest

from engine.events import Failed, Phase, Saved, Started, Step, Stopped
from engine.queue.messages import Cancel, Ready, Run, WarmUp
from engine.validate import accept
from tests.fakes import fake_worker_main


class Parent:
    """The app's end of the pipe, and the worker's process."""

    def __init__(self, settings):
        context = multiprocessing.get_context("spawn")
        self.settings = settings
        self.pipe, far_end = context.Pipe()
        self.process = context.Process(
            target=fake_worker_main, args=(far_end, settings)
        )
        self.process.start()
        far_end.close()

    def run(self, prompt, job="j1", attempt=1):
        request = accept(
            {"model": "fake-model", "prompt": prompt, "seed": 1},
            folder=None,
            settings=self.settings,
        )
        output = str(self.settings.outputs / f"{job}.mp4")
        self.pipe.send(Run(job, request, output, attempt))

    def hear(self):
        assert self.pipe.poll(20)
        return self.pipe.recv()

    def hear_until(self, kind):
        heard = [self.hear()]
        while not isinstance(heard[-1], kind):
            heard.append(self.hear())
        return heard


@pytest.fixture
def parent(settings, use_fake_family):
    parent = Parent(settings)
    yield parent
    parent.pipe.close()
    parent.process.join(5)
    parent.process.kill()


def test_warm_worker_says_that_it_is_ready(parent):
    for model in (None, "fake-model", "no-such-model"):
        parent.pipe.send(WarmUp(model))
        assert parent.hear() == Ready()


def test_job_starts_with_its_attempt_and_ends_with_its_video(parent, settings):
    parent.run("a red ball", attempt=2)
    heard = parent.hear_until(Saved)
    assert heard[0] == Started(job="j1", model="fake-model", attempt=2)
    assert heard[-1].path == str(settings.outputs / "j1.mp4")
    assert (settings.outputs / "j1.mp4").stat().st_size > 0
    assert {event.job for event in heard} == {"j1"}


def test_model_stays_between_jobs(parent):
    parent.run("a red ball")
    first = [
        event.message for event in parent.hear_until(Saved) if type(event) is Phase
    ]
    parent.run("a blue ball", job="j2")
    second = [
        event.message for event in parent.hear_until(Saved) if type(event) is Phase
    ]
    assert "loading the transformer" in first
    assert "loading the transformer" not in second


def test_error_names_the_phase_and_has_the_traceback(parent):
    parent.run("fail")
    failed = parent.hear_until(Failed)[-1]
    assert failed.error == (
        "Something unexpected happened while making the video: ValueError: the fake "
        "was told to fail"
    )
    assert failed.detail.startswith("Traceback")
    parent.run("a red ball", job="j2")
    assert parent.hear_until(Saved)


def test_cancel_stops_the_job_and_only_this_one(parent):
    parent.run("stall")
    parent.hear_until(Step)
    parent.pipe.send(Cancel("j1"))
    assert parent.hear_until(Stopped)[-1] == Stopped(job="j1")
    parent.run("a red ball", job="j2")
    assert parent.hear_until(Saved)


def test_cancelled_job_runs_when_it_is_sent_again(parent):
    parent.pipe.send(Cancel("j1"))
    parent.run("a red ball")
    assert parent.hear_until(Saved)


def test_ctrl_c_in_the_terminal_is_left_to_the_app(parent):
    parent.run("slow red ball")
    parent.hear_until(Step)
    assert os.getpgid(parent.process.pid) != os.getpgrp()
    os.kill(parent.process.pid, signal.SIGINT)
    assert parent.hear_until(Saved)


def test_worker_without_an_app_ends_at_once_with_all_it_started(parent):
    parent.run("stall")
    parent.hear_until(Step)
    worker = psutil.Process(parent.process.pid)
    began = time.monotonic()
    parent.pipe.close()
    parent.process.join(5)
    assert time.monotonic() - began < 1
    assert not worker.is_running()
