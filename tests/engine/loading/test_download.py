import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from engine.errors import Cancelled, MissingWeights
from engine.family import WeightFile, get_variant
from engine.generate import Generator
from engine.loading import download as downloading
from engine.loading.download import (
    MIB,
    Goal,
    Transfer,
    check_space,
    follow,
    get_weights,
)
from engine.loading.pace import PACE_SLACK
from engine.loading.weights import find_weights
from engine.progress import Progress
from engine.settings import PROJECT
from tests.engine.loading.test_weights import FILES, write_layout
from tests.hub_server import FakeHub, ask
from tests.tiny_wan import write_tiny_wan

LARGE = os.urandom(3 * MIB)
REPOSITORY = "someone/model"
FILE = WeightFile(REPOSITORY, "large.safetensors", 0.003)
SMALL = get_variant("wan2.1-t2v-1.3b")
ROW = replace(
    SMALL,
    hub=None,
    folder="row",
    files={
        "transformer": (FILE, WeightFile(REPOSITORY, "small_int8.safetensors", 0.001)),
        "text_encoder": (WeightFile(REPOSITORY, "text_encoder", 0.001),),
    },
)
FOLDER = {
    "text_encoder/config.json": b"{}",
    "text_encoder/model.safetensors": b"weights",
    "text_encoder/model.fp16.safetensors": b"other weights",
    "text_encoder/pytorch_model.bin": b"older weights",
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with one large file, and an empty cache."""
    content = {"large.safetensors": LARGE, "small_int8.safetensors": b"x", **FOLDER}
    with FakeHub({REPOSITORY: content}).serving() as hub:
        ask(monkeypatch, hub.address, tmp_path / "cache")
        monkeypatch.setattr(downloading, "POLL_SECONDS", 0.02)
        yield hub


@pytest.fixture
def settings(settings, tmp_path, monkeypatch):
    monkeypatch.setattr("engine.settings.PROJECT", tmp_path / "project")
    return settings


class Listener:
    def __init__(self):
        self.events = []
        self.cancelled = threading.Event()
        self.progress = Progress("job", self.events.append, self.cancelled.is_set)

    @property
    def steps(self):
        return [event for event in self.events if event.event == "step"]


@pytest.fixture
def listener():
    return Listener()


def cached(cache):
    return sorted(
        str(p.relative_to(cache)) for p in cache.rglob("blobs/*") if p.is_file()
    )


def download(file, listener):
    follow(Transfer([file]), "downloading", listener.progress)


def gets(hub):
    return [line for line in hub.requests if line.startswith("GET")]


def test_a_file_comes_whole_into_the_hubs_cache(hub, listener, settings, tmp_path):
    chosen = {"transformer": FILE}
    found = get_weights(ROW, settings, listener.progress, chosen)
    assert found["transformer"].read_bytes() == LARGE
    assert found["transformer"].is_relative_to(tmp_path / "cache")
    assert {p.name for p in found["text_encoder"].iterdir()} == {
        "config.json",
        "model.safetensors",
    }
    digest = hashlib.sha256(LARGE).hexdigest()
    assert f"models--someone--model/blobs/{digest}" in cached(tmp_path / "cache")
    # The second time nobody is asked.
    hub.requests.clear()
    assert get_weights(ROW, settings, listener.progress, chosen) == found
    assert hub.requests == []


def test_only_what_the_precision_needs_comes(hub, listener, settings):
    int8 = ROW.files["transformer"][1]
    found = get_weights(ROW, settings, listener.progress, {"transformer": int8})
    assert found["transformer"].read_bytes() == b"x"
    assert not any("large" in line for line in hub.requests)


def test_a_whole_repository_gives_the_components_of_its_index(
    hub, listener, settings, tmp_path
):
    folder = write_layout(tmp_path / "published")
    extra = {"README.md": b"#", "assets/video.mp4": b"0", "other.safetensors": b"1"}
    hub.files[SMALL.hub] = extra | {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file()
    }
    found = get_weights(SMALL, settings, listener.progress, {})
    snapshot = found["vae"].parent
    got = {str(p.relative_to(snapshot)) for p in snapshot.rglob("*") if p.is_file()}
    assert got >= set(FILES) | {"model_index.json"}
    assert not got & set(extra)


def test_a_repository_without_an_index_is_one_component(hub, listener, settings):
    hub.files["someone/network"] = {
        "README.md": b"#",
        "config.json": b"{}",
        "diffusion_pytorch_model.safetensors": b"weights",
    }
    network = (WeightFile("someone/network", "", 0.001),)
    row = replace(ROW, files={"transformer": network})
    place = get_weights(row, settings, listener.progress, {})["transformer"]
    assert (place / "diffusion_pytorch_model.safetensors").read_bytes() == b"weights"
    assert not (place / "README.md").exists()


def test_progress_counts_mebibytes(hub, listener):
    hub.pause = 0.01
    download(FILE, listener)
    assert listener.events[0].phase == "download"
    assert {step.total for step in listener.steps} == {3}
    done = [step.step for step in listener.steps]
    assert done == sorted(set(done))
    assert done[-1] >= 2
    assert all(step.seconds_left >= 0 for step in listener.steps)


def test_a_cut_connection_goes_on_where_it_stopped(hub, listener, settings):
    hub.cut_after = len(LARGE) * 99 // 100
    found = get_weights(ROW, settings, listener.progress, {})
    assert found["transformer"].read_bytes() == LARGE
    starts = [line for line in gets(hub) if "large" in line]
    assert starts == [
        "GET someone/model/resolve/main/large.safetensors 0-",
        f"GET someone/model/resolve/main/large.safetensors {len(LARGE) * 99 // 100}-",
    ]
    assert hub.sent < len(LARGE) * 1.01


def test_cancelling_stops_the_transfer_and_keeps_what_came(
    hub, listener, settings, monkeypatch
):
    hub.block, hub.pause = 4096, 0.005  # the whole would take 4 s
    threading.Timer(0.5, listener.cancelled.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        get_weights(ROW, settings, listener.progress, {})
    assert time.monotonic() - began < 1.5
    time.sleep(0.3)
    sent = hub.sent
    time.sleep(0.3)
    assert hub.sent == sent  # nothing flows any more
    assert 0 < sent < len(LARGE) // 2
    # A retry asks for the rest only.
    hub.pause, listener.cancelled = 0, threading.Event()
    hub.requests.clear()
    again = Listener()
    assert get_weights(ROW, settings, again.progress, {})["transformer"].exists()
    first = next(line for line in gets(hub) if "large" in line)
    assert int(first.split()[-1].rstrip("-")) > 0


def test_a_stalled_connection_can_be_cancelled_within_a_second(hub, listener):
    hub.block, hub.pause = MIB, 5.0
    threading.Timer(0.3, listener.cancelled.set).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        download(FILE, listener)
    assert time.monotonic() - began < 1.3


def test_a_file_with_the_wrong_hash_is_thrown_away(hub, listener, settings, tmp_path):
    hub.garbled = True
    with pytest.raises(MissingWeights, match="arrived damaged") as caught:
        get_weights(ROW, settings, listener.progress, {})
    assert "large.safetensors of someone/model" in str(caught.value)
    assert cached(tmp_path / "cache") == []
    hub.garbled = False
    assert get_weights(ROW, settings, listener.progress, {})


def test_a_file_other_than_the_known_one_is_refused(hub, listener):
    with pytest.raises(MissingWeights, match=r"its sha256 is .* instead of abc"):
        download(replace(FILE, sha256="abc"), listener)
    assert gets(hub) == []


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "GatedRepo", "someone/model wants its terms accepted before"),
        (401, "GatedRepo", "sign in with `hf auth login`"),
        (401, "RepoNotFound", "the hub knows no repository someone/model"),
        (403, "", "the hub refuses large.safetensors of someone/model"),
        (503, "", "the hub answered 503 for large.safetensors of someone/model"),
    ],
)
def test_a_refusal_says_what_to_do(hub, listener, status, code, said):
    hub.refusals[REPOSITORY] = (status, code)
    with pytest.raises(MissingWeights) as caught:
        download(FILE, listener)
    assert said in str(caught.value)


def test_a_file_that_is_gone_is_named(hub, listener):
    gone = replace(FILE, path="gone.safetensors")
    with pytest.raises(MissingWeights) as caught:
        download(gone, listener)
    assert str(caught.value).startswith("someone/model has no gone.safetensors any")


def test_without_a_connection_the_address_is_named(
    hub, listener, monkeypatch, tmp_path
):
    closed = "http://127.0.0.1:9"
    ask(monkeypatch, closed, tmp_path / "cache")
    with pytest.raises(MissingWeights) as caught:
        download(FILE, listener)
    assert f"couldn't be downloaded from {closed}: " in str(caught.value)
    assert "Check the connection" in str(caught.value)


def test_a_disk_too_small_is_noticed_before_a_byte_comes(hub, listener, monkeypatch):
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(
        downloading.shutil, "disk_usage", lambda _: usage._replace(free=2 * MIB)
    )
    with pytest.raises(MissingWeights, match=r"0\.0 GB free\. Free some space"):
        download(FILE, listener)
    assert gets(hub) == []


def test_space_is_asked_for_only_when_something_comes(tmp_path):
    check_space(0, tmp_path)
    with pytest.raises(MissingWeights, match=str(tmp_path)):
        check_space(10**18, tmp_path / "not" / "there")


def test_a_disk_that_fills_up_is_told(hub, listener, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloading, "_append", full)
    with pytest.raises(MissingWeights, match=r"the disk of .* is full"):
        download(FILE, listener)


def test_a_full_data_folder_is_told_by_its_name(hub, listener, settings, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloading, "_append", full)
    settings = settings.model_copy(update={"download_to": "ckpts"})
    with pytest.raises(MissingWeights, match=str(settings.root / "ckpts")):
        get_weights(ROW, settings, listener.progress, {})


def test_two_that_want_the_same_file_fetch_it_once(hub, tmp_path):
    hub.block, hub.pause = 1 << 14, 0.005  # 1 s
    transfers = [Transfer([FILE]), Transfer([FILE])]
    threads = [threading.Thread(target=each.run) for each in transfers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hub.sent == len(LARGE)
    assert len(cached(tmp_path / "cache")) == 1


@pytest.mark.parametrize("path", ["../../outside.safetensors", "/outside.safetensors"])
def test_a_hub_can_not_write_elsewhere(hub, listener, settings, path):
    hub.files[REPOSITORY][path] = b"bad"
    row = replace(ROW, files={"transformer": (replace(FILE, path=""),)})
    settings = settings.model_copy(update={"download_to": "ckpts"})
    with pytest.raises(MissingWeights, match="leads elsewhere"):
        get_weights(row, settings, listener.progress, {})


@pytest.mark.parametrize("rate", [1.0, 4.0])
def test_a_limit_holds_within_a_tenth(hub, rate):
    transfer = Transfer([FILE], Goal(most_per_second=rate * MIB))
    began = time.monotonic()
    transfer.run()
    took = time.monotonic() - began
    assert took > 0.9 * len(LARGE) / MIB / rate - PACE_SLACK
    assert took < 1.1 * len(LARGE) / MIB / rate + 1.0


def test_the_token_goes_with_each_request_to_the_hub(hub, listener, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    download(FILE, listener)
    assert hub.tokens == {"Bearer hf_secret"}


@pytest.mark.parametrize("why", ["setting", "offline"])
def test_nothing_is_downloaded_that_may_not_be(
    hub, listener, settings, monkeypatch, why
):
    if why == "setting":
        settings = settings.model_copy(update={"download": False})
    else:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(MissingWeights, match=r"Get them with: hf download someone/mod"):
        get_weights(ROW, settings, listener.progress, {})
    assert hub.requests == []
    assert listener.events == []


@pytest.mark.usefixtures("use_fake_family")
def test_warming_up_downloads_nothing(hub, settings, monkeypatch):
    variant = replace(get_variant("fake-model"), files=ROW.files)
    monkeypatch.setattr("engine.generate.get_model", lambda *_: variant)
    with pytest.raises(MissingWeights):
        Generator(settings).warm_up("fake-model")
    assert hub.requests == []


def test_the_demo_is_never_downloaded(hub, listener, settings):
    with pytest.raises(MissingWeights, match="They come with the app"):
        get_weights(
            replace(get_variant("wan-demo"), folder="gone"),
            settings,
            listener.progress,
            {},
        )
    assert hub.requests == []


def test_the_users_own_files_are_not_downloaded(hub, listener, settings):
    folder = settings.root / "ckpts"
    (folder / "row" / "text_encoder").mkdir(parents=True)
    (folder / "large.safetensors").write_bytes(b"mine")
    for name in ("config.json", "model.safetensors"):
        (folder / "row" / "text_encoder" / name).write_text("{}")
    found = get_weights(ROW, settings, listener.progress, {})
    assert found == find_weights(ROW, settings)
    assert found["transformer"] == folder / "large.safetensors"
    assert hub.requests == []


def test_a_job_downloads_its_model_and_runs(tmp_path):
    """Through the command line, with the hub's address from the environment."""
    folder = write_tiny_wan(tmp_path / "published")
    files = {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file()
    }
    asked = {"model": SMALL.id, "prompt": "a red ball", "num_inference_steps": 1}
    asked |= {"width": 128, "height": 128, "num_frames": 5, "seed": 1}
    (tmp_path / "request.json").write_text(json.dumps(asked))
    options = ["--process", "request.json", "--json", "--root", "root", "--gpu", "cpu"]
    with FakeHub({SMALL.hub: files}).serving() as hub:
        environment = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0"}
        run = subprocess.run(
            [sys.executable, str(PROJECT / "wgp.py"), *options],
            cwd=tmp_path,
            env={**os.environ, **environment, "HF_HOME": str(tmp_path / "hf")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert run.returncode == 0, run.stdout + run.stderr
    events = [json.loads(line) for line in run.stdout.splitlines()]
    phases = [event["phase"] for event in events if event["event"] == "phase"]
    assert list(dict.fromkeys(phases))[:3] == ["download", "load", "encode"]
    assert events[-1]["event"] == "saved"
    assert (tmp_path / "hf" / "hub").is_dir()


def test_of_the_base_of_a_model_only_what_its_file_leaves_comes(
    hub, listener, settings, tmp_path
):
    folder = write_layout(tmp_path / "published")
    hub.files[SMALL.hub] = {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file()
    }
    own = {"folder": "row", "base_folder": SMALL.folder}
    row = replace(SMALL, **own, files={"transformer": (FILE,)})
    found = get_weights(row, settings, listener.progress, {})
    assert found["transformer"].read_bytes() == LARGE
    assert (found["transformer/base"] / "config.json").is_file()
    wanted = [line for line in hub.requests if f"{SMALL.hub}/resolve" in line]
    assert any("vae/diffusion_pytorch_model.safetensors" in line for line in wanted)
    assert not [line for line in wanted if "transformer/diffusion" in line]

    ckpts = settings.model_copy(update={"download_to": "ckpts"})
    shutil.rmtree(tmp_path / "cache")
    found = get_weights(row, ckpts, listener.progress, {})
    assert found["vae"] == settings.root / "ckpts" / SMALL.folder / "vae"
