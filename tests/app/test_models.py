"""Models on the command line, with the hub on the loopback device: what is printed."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from engine.loading.download import MIB
from engine.settings import PROJECT
from tests.fakes import FETCHED, LIMITED
from tests.hub_server import FakeHub, safetensors

SIZE = 3 * MIB
MODEL = FETCHED.id
SPY = """
import os, sys

def look(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        text = f"{event} {arguments[1:]}"
        if "AF_UNIX" not in str(arguments[0]):
            with open(os.environ["SPIED"], "a") as file:
                file.write(text + "\\n")

sys.addaudithook(look)
"""


@pytest.fixture
def hub():
    files = {"large.safetensors": safetensors(SIZE), "vae/small.safetensors": b""}
    files["vae/small.safetensors"] = safetensors(3)
    with FakeHub({"fake/model": files}).serving() as hub:
        yield hub


@pytest.fixture
def start(tmp_path, hub):
    def start(*options, **environment):
        command = [sys.executable, "-m", "tests.fake_app", *options]
        command += ["--root", str(tmp_path / "root"), "--gpu", "cpu"]
        environment = {
            "HF_ENDPOINT": hub.address,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path / "hf"),
            **environment,
        }
        return subprocess.Popen(
            command,
            cwd=PROJECT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture
def run(start):
    def run(*options, answer="", **environment):
        process = start(*options, **environment)
        out, err = process.communicate(answer, timeout=60)
        return process.returncode, out, err

    return run


def test_a_model_is_fetched_from_the_mirror_and_listed(run, hub, tmp_path):
    own = tmp_path / "root" / "settings" / "models"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("- no model", "utf-8")
    code, out, err = run("--download", MODEL)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == f"{MODEL}: on this disk, 3 MB"
    hub.requests.clear()
    assert run("--download", MODEL)[1] == f"{MODEL}: all its files are here\n"
    code, out, _ = run("--list-models")
    assert code == 0
    [line] = [line for line in out.splitlines() if line.startswith(MODEL)]
    assert line.endswith("on this disk, 3 MB")
    assert out.splitlines()[-1].endswith("mine.yaml must map keys to values")
    assert run("--verify", MODEL)[1] == f"{MODEL}: 2 files are sound\n"
    assert hub.requests == []


def test_ctrl_c_keeps_what_has_come(start, run, hub):
    hub.block, hub.pause = 1 << 14, 0.05  # 10 s
    process = start("--download", MODEL)
    while hub.sent < MIB:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    assert out.splitlines()[-1] == f"{MODEL}: stopped; what has come is kept"
    assert re.search(r": \d of 4 MiB, [\d.]+ MiB/s, \d+ s left", out)
    hub.pause = 0
    assert run("--download", MODEL)[0] == 0
    assert hub.sent < SIZE + MIB // 2


def test_a_limit_of_the_rate_is_kept(run, hub, tmp_path):
    began = time.monotonic()
    assert run("--download", MODEL, "--bandwidth", "1")[0] == 0
    assert 2.5 < time.monotonic() - began < 12
    blobs = (tmp_path / "hf").rglob("blobs/*")
    assert sum(blob.stat().st_size for blob in blobs) > SIZE


def test_files_go_into_the_data_folder_if_wanted(run, tmp_path):
    assert run("--download", MODEL, "--download-to", "ckpts")[0] == 0
    place = tmp_path / "root" / "ckpts" / "fake" / "model" / "large.safetensors"
    assert place.stat().st_size > SIZE
    assert not list((tmp_path / "hf").rglob("blobs/*"))
    assert run("--verify", MODEL)[1] == f"{MODEL}: 2 files are sound\n"
    with place.open("r+b") as file:
        file.write(b"damaged")
    code, out, _ = run("--verify", MODEL)
    assert code == 1
    assert out.splitlines() == [
        f"{MODEL}: damaged: large.safetensors",
        f"To fetch them again: --verify {MODEL} --repair",
    ]
    code, out, _ = run("--verify", MODEL, "--repair", "--download-to", "ckpts")
    assert (code, out.splitlines()[-1]) == (0, f"{MODEL}: on this disk, 3 MB")
    assert run("--verify", MODEL)[1] == f"{MODEL}: 2 files are sound\n"
    code, out, _ = run("--delete", MODEL, answer="no\n")
    assert code == 1
    assert out == f"Delete the files of {MODEL} (3 MB)? Type yes:\nNothing is deleted\n"
    assert place.exists()
    code, out, _ = run("--delete", MODEL, "--yes")
    assert (code, out) == (0, f"{MODEL}: deleted, 3 MB are free now\n")
    assert not list((tmp_path / "root" / "ckpts").rglob("*"))
    code, out, errors = run("--delete", MODEL, answer="no\n")
    assert (code, out) == (2, "")
    assert errors == f"wgp: nothing of {MODEL} is on this machine\n"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"refusals": {"fake/model": (403, "GatedRepo")}}, "wants its terms accepted"),
        ({"refusals": {"fake/model": (404, "EntryNotFound")}}, "has no large.safete"),
        ({"garbled": True}, "arrived damaged (its hash is wrong) and was thrown away"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(run, hub, fault, said):
    for name, value in fault.items():
        setattr(hub, name, value)
    code, _, err = run("--download", MODEL)
    assert code == 1
    assert said in err
    assert err.startswith("wgp: ")
    assert "Traceback" not in err


def test_a_model_that_nobody_knows_or_accepted_is_not_fetched(run, hub):
    code, _, err = run("--download", "fake-fetch")
    assert code == 2
    assert "did you mean 'fake-fetched'" in err
    code, _, err = run("--download", LIMITED.id)
    assert code == 2
    assert "is under the Tencent Hunyuan Community License" in err
    assert hub.requests == []


def test_offline_no_connection_is_made(run, hub, tmp_path):
    """Neither by the app's process nor by the worker's."""
    assert run("--download", MODEL)[0] == 0
    hub.requests.clear()
    (tmp_path / "spy").mkdir()
    (tmp_path / "spy" / "sitecustomize.py").write_text(SPY)
    request = tmp_path / "request.json"
    request.write_text(f'{{"model": "{MODEL}", "prompt": "a red square"}}')
    spied = tmp_path / "spied"
    spy = {"PYTHONPATH": str(tmp_path / "spy"), "SPIED": str(spied)}
    options = ("--process", str(request), "--offline")
    code, out, err = run(*options, **spy)
    assert code == 0, out + err
    assert not spied.exists(), spied.read_text()
    # It would have been seen, and a model that isn't here isn't asked for.
    assert run("--delete", MODEL, "--yes")[0] == 0
    code, out, err = run(*options, **spy)
    assert code == 1
    assert "Get them with: hf download fake/model large.safetensors" in out + err
    assert not spied.exists(), spied.read_text()
    assert hub.requests == []
    assert run(*options[:2], **spy)[0] == 0
    assert "socket.connect" in spied.read_text()


def test_a_job_on_the_terminal_tells_the_download_and_then_runs(run, hub, tmp_path):
    hub.block, hub.pause = 1 << 14, 0.02  # 4 s
    request = tmp_path / "request.json"
    request.write_text(f'{{"model": "{MODEL}", "prompt": "a red square"}}')
    code, out, err = run("--process", str(request))
    assert code == 0, out + err
    lines = [line.removeprefix("[1/1] a red square: ") for line in out.splitlines()]
    assert lines[0] == f"Downloading {FETCHED.title}"
    assert re.fullmatch(r"\d of 4 MiB, \d+ MiB/s, \d+ s left", lines[1])
    assert f"started with {MODEL}" in lines
    assert lines[-1].startswith("saved ")
