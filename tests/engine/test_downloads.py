"""Models on their way, in the real queue, from a hub on the loopback device."""

import time

import pytest

from engine.downloads import Downloads
from engine.errors import LicenceNotAccepted, MissingWeights
from engine.events import Failed, Phase, Saved, Started, Step, Stopped
from engine.loading import download as downloading
from engine.loading.download import MIB
from engine.queue.job import JobStatus
from engine.queue.store import SqliteJobStore
from engine.queue.supervisor import Supervisor
from engine.validate import accept
from tests.fakes import FETCHED, LIMITED, fake_worker_main
from tests.hub_server import FakeHub, ask, safetensors

LARGE = safetensors(3 * MIB)
SMALL = safetensors(3)
CONTENT = {"fake/model": {"large.safetensors": LARGE, "vae/small.safetensors": SMALL}}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with FakeHub({name: dict(files) for name, files in CONTENT.items()}).serving() as h:
        ask(monkeypatch, h.address, tmp_path / "cache")
        monkeypatch.setattr(downloading, "POLL_SECONDS", 0.02)
        yield h


@pytest.fixture
def settings(settings, use_fake_family):
    """Into the data folder, where the worker, which knows no hub, finds the files."""
    return settings.model_copy(update={"download_to": "ckpts"})


class App:
    def __init__(self, settings):
        self.settings = settings
        self.store = SqliteJobStore(settings.root / "queue.sqlite")
        self.heard = []
        self.supervisor = Supervisor(
            self.store, settings, worker=fake_worker_main, on_event=self.heard.append
        )
        self.downloads = self.supervisor.downloads

    def add(self, model, prompt="a red square"):
        asked = {"model": model, "prompt": prompt, "seed": 1}
        request = accept(asked, folder=None, settings=self.settings)
        return self.store.add([request])[0].id

    def status(self, job):
        return self.store.get(job).status

    def until(self, is_so, seconds=30):
        end = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < end, self.supervisor.status()
            time.sleep(0.01)

    def said(self, job, kind):
        return [e for e in self.heard if isinstance(e, kind) and e.job == job]


@pytest.fixture
def app(settings, hub):
    app = App(settings)
    yield app
    app.supervisor.stop()
    app.store.close()


def is_still(hub):
    """Whether nothing was sent for longer than between two blocks."""
    before = hub.sent
    time.sleep(2 * hub.pause + 0.1)
    return hub.sent == before


def slow(hub, seconds):
    """The large file takes about so long."""
    hub.block = 1 << 14
    hub.pause = seconds * hub.block / len(LARGE)


def test_others_run_while_a_jobs_files_come_and_then_it_runs(app, hub):
    slow(hub, 600)
    fetched, other = app.add("fake-fetched"), app.add("fake-model")
    app.supervisor.start()
    app.until(lambda: app.status(other) is JobStatus.done)
    assert app.status(fetched) is JobStatus.queued
    [shown] = app.downloads.list()
    assert (shown.model, shown.title) == ("fake-fetched", FETCHED.title)
    hub.pause = 0
    app.supervisor.wait_until_empty()
    assert app.status(fetched) is JobStatus.done
    assert app.downloads.list() == []
    place = app.settings.root / "ckpts" / "fake" / "model"
    assert (place / "large.safetensors").read_bytes() == LARGE
    assert (place / "vae" / "small.safetensors").read_bytes() == SMALL
    kinds = [type(event) for event in app.heard if event.job == fetched]
    assert kinds[0] is Phase
    assert kinds.index(Started) < kinds.index(Saved)


def test_progress_has_bytes_rate_and_time_left(app, hub):
    slow(hub, 5)
    job = app.add("fake-fetched")
    app.supervisor.start()
    app.until(lambda: app.downloads.list() and app.downloads.list()[0].done > MIB)
    [shown] = app.downloads.list()
    assert shown.total == len(LARGE) + len(SMALL)
    assert 0 < shown.rate < 4 * len(LARGE)
    assert 0 < shown.seconds_left < 30
    app.until(lambda: app.supervisor.status() == f"downloading {FETCHED.title}")
    app.until(lambda: app.said(job, Step))
    hub.pause = 0
    app.supervisor.wait_until_empty()
    steps = [step.step for step in app.said(job, Step) if step.phase == "download"]
    assert steps == sorted(set(steps))
    assert steps


def test_cancelling_the_job_stops_its_download_and_keeps_what_came(app, hub):
    slow(hub, 60)
    job = app.add("fake-fetched")
    app.supervisor.start()
    app.until(lambda: hub.sent > 100_000)
    app.store.cancel(job)
    app.until(lambda: app.downloads.list() == [])
    app.until(lambda: is_still(hub))
    assert hub.sent < len(LARGE) // 2
    hub.pause = 0
    app.store.retry(job)
    app.supervisor.wait_until_empty()
    assert app.status(job) is JobStatus.done
    # The rest only; what stood in a socket when it was cut may come twice.
    assert hub.sent < len(LARGE) + MIB


def test_a_download_outlives_its_first_job_while_another_waits_for_it(app, hub):
    slow(hub, 60)
    first, second = app.add("fake-fetched"), app.add("fake-fetched", "a blue square")
    app.supervisor.start()
    app.until(lambda: hub.sent > 100_000)
    app.store.cancel(first)
    hub.pause = 0
    app.supervisor.wait_until_empty()
    assert app.status(second) is JobStatus.done
    assert hub.sent < len(LARGE) + 1000


def test_what_goes_wrong_fails_the_job_in_words_and_a_retry_begins_anew(app, hub):
    hub.refusals["fake/model"] = (403, "GatedRepo")
    job, other = app.add("fake-fetched"), app.add("fake-model")
    app.supervisor.start()
    app.supervisor.wait_until_empty()
    assert app.status(other) is JobStatus.done
    assert app.status(job) is JobStatus.failed
    said = app.store.get(job).error
    assert said.startswith("fake/model wants its terms accepted before large.safe")
    assert [event.error for event in app.said(job, Failed)] == [said]
    assert app.said(job, Started) == []
    hub.refusals.clear()
    app.store.retry(job)
    app.supervisor.wait_until_empty()
    assert app.status(job) is JobStatus.done, app.store.get(job).error


def test_what_goes_wrong_is_told_at_once_though_the_queue_is_paused(app, hub):
    hub.refusals["fake/model"] = (403, "GatedRepo")
    app.store.pause()
    job, other = app.add("fake-fetched"), app.add("fake-model")
    app.supervisor.start()
    app.until(lambda: app.status(job) is JobStatus.failed)
    assert "wants its terms accepted" in app.store.get(job).error
    assert [event.job for event in app.store.events(job)] == [job]
    assert app.status(other) is JobStatus.queued


def test_cancelling_the_download_fails_the_jobs_that_wait_for_it(app, hub):
    slow(hub, 60)
    job = app.add("fake-fetched")
    app.supervisor.start()
    app.until(lambda: hub.sent > 100_000)
    app.downloads.cancel("fake-fetched")
    app.supervisor.wait_until_empty()
    assert "download of its files was cancelled. Retry" in app.store.get(job).error
    assert app.said(job, Stopped) == []


def test_the_next_start_of_the_app_goes_on_with_the_download(app, settings, hub):
    slow(hub, 20)
    job = app.add("fake-fetched")
    app.supervisor.start()
    app.until(lambda: hub.sent > 1_000_000)
    app.supervisor.stop()
    time.sleep(0.2)
    before, hub.pause = hub.sent, 0
    hub.requests.clear()
    again = App(settings)
    try:
        again.supervisor.start()
        again.supervisor.wait_until_empty()
        assert again.status(job) is JobStatus.done
    finally:
        again.supervisor.stop()
        again.store.close()
    [large] = [
        each for each in hub.requests if each.startswith("GET") and "large" in each
    ]
    start = int(large.split()[-1].rstrip("-"))
    assert start > 500_000
    in_sockets = 1 << 17
    assert hub.sent - before < len(LARGE) - start + len(SMALL) + in_sockets


def test_models_wait_for_each_other(settings, hub, monkeypatch):
    slow(hub, 600)
    downloads = Downloads(settings)
    assert not downloads.is_ready("a", "fake-fetched")
    assert downloads.is_ready("b", "fake-model")
    downloads.fetch("wan2.1-t2v-1.3b")
    first, second = downloads.list()
    assert (first.is_waiting, second.is_waiting) == (False, True)
    assert second.model == "wan2.1-t2v-1.3b"
    # By hand it stays, though no job wants it. It fails as soon as its turn comes: the
    # lock keeps it in the list until that has been looked at.
    with downloads._lock:
        downloads.follow_queue({})
        assert [each.model for each in downloads.list()] == ["wan2.1-t2v-1.3b"]
    assert downloads.wait("wan2.1-t2v-1.3b", 10)
    assert "the hub knows no repository" in downloads.failures()["wan2.1-t2v-1.3b"]
    downloads.close()


def test_fetching_needs_the_licence(settings, hub):
    downloads = Downloads(settings)
    with pytest.raises(LicenceNotAccepted):
        downloads.fetch(LIMITED.id)
    assert hub.requests == []


@pytest.mark.parametrize("forbidden", [{"offline": True}, {"download": False}])
def test_nothing_is_fetched_that_may_not_be(settings, hub, forbidden):
    downloads = Downloads(settings.model_copy(update=forbidden))
    assert downloads.is_ready("a", "fake-fetched")
    with pytest.raises(MissingWeights, match="downloads are turned off"):
        downloads.fetch("fake-fetched")
    assert hub.requests == []


def test_what_is_here_is_not_fetched(settings, hub):
    downloads = Downloads(settings)
    assert downloads.fetch("fake-fetched")
    assert downloads.wait("fake-fetched", 10)
    hub.requests.clear()
    assert not downloads.fetch("fake-fetched")
    assert downloads.is_ready("a", "fake-fetched")
    assert hub.requests == []
