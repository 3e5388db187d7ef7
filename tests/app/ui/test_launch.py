"""Starting and ending the page's process."""

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from app.ui.launch import choose_port, missing_weights
from engine.errors import UserError
from engine.family import get_variant
from engine.queue.job import JobStatus
from engine.queue.store import SqliteJobStore
from engine.request import GenerationRequest
from engine.settings import PROJECT, Settings

HEAVY = ("torch", "diffusers", "transformers", "mmgp", "accelerate")
COMMAND = [sys.executable, "-m", "tests.fake_app", "--gpu", "cpu"]


@contextmanager
def running(root: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The app, once its page answers; its address is in ``app.address``."""
    command = [*COMMAND, "--root", str(root), "--server-port", "0", *options]
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as app:
        assert app.stdout is not None
        app.address = next(line for line in app.stdout if line.startswith("Open "))
        try:
            yield app
        finally:
            if app.poll() is None:
                app.send_signal(signal.SIGTERM)
            app.communicate(timeout=30)


def test_page_answers_after_less_than_six_seconds_of_work(tmp_path: Path) -> None:
    with running(tmp_path) as app:
        url = app.address.split()[1]
        assert urllib.request.urlopen(f"{url}/config").status == 200
        # Its own work: how long it waits for a processor is up to the machine.
        used = psutil.Process(app.pid).cpu_times()
        assert used.user + used.system < 6


def test_process_of_the_page_loads_nothing_heavy() -> None:
    code = (
        "import json, sys; import wgp; import app.cli, app.ui.launch, app.ui.page; "
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, check=True
    )
    assert json.loads(out.stdout) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_running_job_is_back_in_the_queue_after_the_end(
    how: signal.Signals, tmp_path: Path
) -> None:
    store = SqliteJobStore(tmp_path / "queue.sqlite")
    request = GenerationRequest(
        model="fake-model",
        prompt="stall",
        width=64,
        height=48,
        num_frames=9,
        fps=8,
        num_inference_steps=4,
        guidance_scale=1,
        negative_prompt="",
        flow_shift=3,
        scheduler="euler",
        seed=1,
    )
    (job,) = store.add([request])
    store.close()
    with running(tmp_path) as app:
        time.sleep(4)
        app.send_signal(how)
        out, errors = app.communicate(timeout=30)
    assert app.returncode == 0
    assert "Traceback" not in errors + out
    store = SqliteJobStore(tmp_path / "queue.sqlite")
    kept = store.get(job.id)
    assert kept.status is JobStatus.queued
    assert kept.attempts == 0
    store.close()


def test_second_copy_on_the_same_root_is_refused_with_the_pid_of_the_first(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as app:
        second = subprocess.run(
            [*COMMAND, "--root", str(tmp_path), "--server-port", "0"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert second.returncode == 2
        assert str(app.pid) in second.stderr
        assert "Traceback" not in second.stderr


def test_taken_port_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = subprocess.run(
            [*COMMAND, "--root", str(tmp_path), "--server-port", str(port)],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}" in refused.stderr
    assert "--server-port" in refused.stderr


def test_port_zero_is_any_free_one() -> None:
    assert choose_port("127.0.0.1", 0) > 1023


def test_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(UserError, match="--server-port"):
        choose_port("192.0.2.1", 7860)


def test_process_keeps_its_data_below_the_root(tmp_path: Path) -> None:
    before = {entry.name for entry in PROJECT.iterdir()}
    with running(tmp_path / "data"):
        made = {entry.name for entry in (tmp_path / "data").iterdir()}
    assert {"outputs", "cache", "queue.sqlite"} <= made
    assert {entry.name for entry in PROJECT.iterdir()} - before <= {
        ".pytest_cache",
        "__pycache__",
    }
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("forbidden", [False, True])
def test_missing_files_are_announced_or_told_how_to_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forbidden: bool
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    settings = Settings(root=tmp_path, download=not forbidden)
    said = missing_weights(get_variant("wan2.1-t2v-1.3b"), settings)
    if forbidden:
        assert said is not None
        assert "Get the 29 GB with: hf download" in said
    else:
        assert said == "its files will be downloaded with the first video (29 GB)"


def test_an_address_that_is_none_of_this_machine_is_told() -> None:
    with pytest.raises(UserError, match="addresses with --server-name"):
        choose_port("::1", 0)
