"""Which licences have to be accepted, and every door that asks whether they were."""

import json
import time
from pathlib import Path

import pytest

from engine.downloads import Downloads
from engine.errors import (
    LicenceNotAccepted,
    MissingWeights,
    RequestError,
    UnreadableFile,
    UserError,
)
from engine.family import all_variants, get_variant
from engine.generate import generate
from engine.licences import (
    ENVIRONMENT,
    HUNYUAN,
    LICENCES,
    accept_licence,
    accepted_licences,
    get_licence,
    licence_refusal,
)
from engine.loading import download
from engine.loading.resident import ResidentModel
from engine.progress import Progress
from engine.queue import archive
from engine.queue.job import JobStatus
from engine.queue.store import SqliteJobStore
from engine.queue.supervisor import Supervisor
from engine.validate import accept
from tests.fakes import LIMITED, fake_worker_main

ASKED = {"model": "fake-limited", "prompt": "a red square", "seed": 1}

pytestmark = pytest.mark.usefixtures("use_fake_family")


@pytest.fixture(autouse=True)
def nothing_accepted(monkeypatch):
    monkeypatch.delenv(ENVIRONMENT, raising=False)


def refused(settings, data=ASKED):
    with pytest.raises(RequestError) as raised:
        accept(data, folder=None, settings=settings)
    (problem,) = raised.value.problems
    assert problem.field == "model"
    return problem.message


def test_every_row_has_a_licence_of_the_table():
    assert {row.licence for row in all_variants().values()} <= set(LICENCES)


def test_every_licence_that_limits_has_an_address_and_says_how():
    for licence in LICENCES.values():
        assert licence.address.startswith("https://")
        assert licence.limits.endswith(".") or licence.name == "Apache-2.0"


def test_models_under_tencents_licence_are_refused_and_no_others(settings):
    refused = {
        row.id for row in all_variants().values() if licence_refusal(row, settings)
    }
    tencents = {
        row.id
        for row in all_variants().values()
        if row.id.startswith(("hunyuan-video", "framepack"))
    }
    assert len(tencents) >= 10
    assert refused == tencents | {"fake-limited"}


def test_refusal_names_the_licence_its_limits_and_how_to_accept(settings):
    message = refused(settings)
    assert message.startswith(
        "fake-limited is under the Tencent Hunyuan Community License (https://"
    )
    for said in ("European Union", "United Kingdom", "South Korea", "100 million"):
        assert said in message
    assert '--accept-licence "Tencent Hunyuan Community License"' in message
    assert ENVIRONMENT in message


@pytest.mark.parametrize(
    ("model", "repository"),
    [
        ("hunyuan-video-t2v", "HunyuanVideo/blob"),
        ("hunyuan-video-i2v-33ch", "HunyuanVideo-I2V/blob"),
        ("hunyuan-video-1.5-i2v-480p", "HunyuanVideo-1.5/blob"),
        ("framepack-i2v", "HunyuanVideo/blob"),
    ],
)
def test_refusal_links_to_the_text_that_the_model_came_with(
    settings, model, repository
):
    refusal = licence_refusal(get_variant(model), settings)
    assert refusal is not None
    assert f"(https://github.com/Tencent-Hunyuan/{repository}/main/LICENSE" in refusal


def test_accepted_once_is_accepted_in_that_data_root_only(settings, tmp_path):
    accept_licence(HUNYUAN.name, settings)
    assert accept(ASKED, folder=None, settings=settings).model == "fake-limited"
    stored = json.loads((settings.root / "settings" / "licences.json").read_text())
    assert list(stored) == [HUNYUAN.name]
    assert stored[HUNYUAN.name].startswith("20")
    elsewhere = settings.model_copy(update={"root": tmp_path / "other"})
    assert "is under the" in refused(elsewhere)


def test_the_first_acceptance_keeps_its_date(settings):
    settings.licences.parent.mkdir(parents=True)
    settings.licences.write_text(json.dumps({HUNYUAN.name: "2026-01-01"}))
    accept_licence(HUNYUAN.name, settings)
    assert accepted_licences(settings) == {HUNYUAN.name: "2026-01-01"}
    assert [file.name for file in settings.licences.parent.iterdir()] == [
        "licences.json"
    ]


@pytest.mark.parametrize(
    "names",
    [
        "Tencent Hunyuan Community License",
        "tencent hunyuan community license",
        "Apache-2.0, Tencent Hunyuan Community License,",
    ],
)
def test_the_environment_accepts_while_it_is_set(settings, monkeypatch, names):
    monkeypatch.setenv(ENVIRONMENT, names)
    assert accept(ASKED, folder=None, settings=settings)
    assert not settings.root.exists()
    monkeypatch.setenv(ENVIRONMENT, "Apache-2.0")
    assert "is under the" in refused(settings)


def test_an_unknown_name_lists_the_known_ones(settings, monkeypatch):
    with pytest.raises(UserError, match="'MIT'; known are: Apache"):
        get_licence("MIT")
    monkeypatch.setenv(ENVIRONMENT, "MIT")
    with pytest.raises(UserError, match=f"^{ENVIRONMENT}: no licence is called 'MIT'"):
        accept(ASKED, folder=None, settings=settings)


@pytest.mark.parametrize("content", ["{", "[]", "\udcff"])
def test_a_broken_file_accepts_nothing_and_says_so(settings, content):
    settings.licences.parent.mkdir(parents=True)
    settings.licences.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UnreadableFile, match=r"licences\.json: .*Delete the file"):
        accept(ASKED, folder=None, settings=settings)
    free = {**ASKED, "model": "fake-model"}
    assert accept(free, folder=None, settings=settings)


def test_a_folder_that_cant_be_written_is_told(settings):
    settings.root.mkdir(parents=True)
    (settings.root / "settings").write_text("in the way")
    with pytest.raises(UserError, match=r"can't write .*licences\.json"):
        accept_licence(HUNYUAN.name, settings)


def test_a_script_is_refused_and_then_not(settings, tmp_path):
    video = tmp_path / "a.mp4"
    with pytest.raises(RequestError, match="is under the Tencent"):
        generate(ASKED, output=video, settings=settings)
    assert not video.exists()
    accept_licence(HUNYUAN.name, settings)
    assert generate(ASKED, output=video, settings=settings).is_file()


def test_the_model_is_neither_looked_for_nor_loaded_before(settings):
    resident, row = ResidentModel(settings), get_variant("hunyuan-video-t2v")
    with pytest.raises(LicenceNotAccepted, match="hunyuan-video-t2v is under the"):
        resident.get(row, Progress("job"))
    accept_licence(HUNYUAN.name, settings)
    with pytest.raises(MissingWeights):
        resident.get(row, Progress("job"))


def test_nothing_is_downloaded_before(settings, monkeypatch):
    monkeypatch.setattr(download.hub, "is_offline", lambda: False)
    row = get_variant("hunyuan-video-t2v")
    for door in (
        lambda: download.plan_transfer(row, settings, {}),
        lambda: download.get_weights(row, settings, Progress("job"), {}),
        lambda: Downloads(settings).fetch(row.id),
    ):
        with pytest.raises(LicenceNotAccepted, match="hunyuan-video-t2v is under the"):
            door()
    accept_licence(HUNYUAN.name, settings)
    assert download.plan_transfer(row, settings, {}) is not None


def test_a_loaded_model_stays_when_another_is_refused(settings):
    resident = ResidentModel(settings)
    loaded = resident.get(get_variant("fake-model"), Progress("job"))
    with pytest.raises(LicenceNotAccepted):
        resident.get(LIMITED, Progress("job"))
    assert resident.get(get_variant("fake-model"), Progress("job")) is loaded


def saved_queue(settings, file: Path, store) -> None:
    accept_licence(HUNYUAN.name, settings)
    store.add([accept(ASKED, folder=None, settings=settings)])
    archive.save(store.list_jobs(JobStatus.queued), file, settings.root)
    settings.licences.unlink()


@pytest.fixture
def store(settings):
    settings.root.mkdir(parents=True)
    opened = SqliteJobStore(settings.root / "queue.sqlite")
    yield opened
    opened.close()


def test_a_saved_queue_is_refused_whole(settings, tmp_path, store):
    file = tmp_path / "queue.zip"
    saved_queue(settings, file, store)
    with pytest.raises(RequestError, match="job 1 of 1: fake-limited is under the"):
        archive.restore(file, store, settings)
    assert len(store.list_jobs()) == 1  # the one that was there
    with pytest.raises(RequestError, match="job 1 of 1: fake-limited is under the"):
        archive.read_requests(file, tmp_path, settings)
    accept_licence(HUNYUAN.name, settings)
    assert len(archive.restore(file, store, settings)) == 1


def test_a_job_that_waits_in_the_queue_fails_in_the_worker(settings, store, tmp_path):
    saved_queue(settings, tmp_path / "queue.zip", store)
    supervisor = Supervisor(
        store, settings, worker=fake_worker_main, outputs=settings.outputs
    )
    supervisor.start()
    try:
        end = time.monotonic() + 20
        while not store.list_jobs(JobStatus.failed):
            assert time.monotonic() < end, supervisor.status()
            time.sleep(0.01)
    finally:
        supervisor.stop()
    (job,) = store.list_jobs()
    assert job.error is not None
    assert job.error.startswith("fake-limited is under the Tencent")
    assert not list(settings.outputs.rglob("*.mp4"))
