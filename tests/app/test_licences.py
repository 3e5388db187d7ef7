"""Licences on the command line."""

import json
import zipfile
from pathlib import Path

import pytest

import wgp
from engine.licences import ENVIRONMENT, HUNYUAN
from tests.fakes import fake_worker_main

ASKED = {"model": "fake-limited", "prompt": "a red square", "seed": 7}

pytestmark = pytest.mark.usefixtures("use_fake_family")


@pytest.fixture(autouse=True)
def nothing_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENVIRONMENT, raising=False)


def process(tmp_path: Path, *options: str) -> int:
    file = tmp_path / "request.json"
    file.write_text(json.dumps(ASKED))
    return run(tmp_path, file, *options)


def run(tmp_path: Path, file: Path, *options: str) -> int:
    root = str(tmp_path / "root")
    argv = ["--process", str(file), "--root", root, "--gpu", "cpu", *options]
    return wgp.main(argv, worker=fake_worker_main)


def test_a_request_is_refused_with_one_line_that_says_how(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert process(tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("wgp: model: fake-limited is under the Tencent Hunyuan")
    assert f'--accept-licence "{HUNYUAN.name}"' in line
    assert not (tmp_path / "root").exists()


def test_accepted_by_the_option_once_it_runs_ever_after(tmp_path: Path) -> None:
    assert process(tmp_path, "--accept-licence", HUNYUAN.name.lower()) == 0
    assert len(list((tmp_path / "root" / "outputs").glob("*.mp4"))) == 1
    assert process(tmp_path, "--dry-run") == 0


def test_accepted_by_the_environment_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT, HUNYUAN.name)
    assert process(tmp_path) == 0
    assert len(list((tmp_path / "root" / "outputs").glob("*.mp4"))) == 1
    monkeypatch.delenv(ENVIRONMENT)
    assert process(tmp_path, "--dry-run") == 2


def test_an_unknown_licence_is_refused_with_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--accept-licence", HUNYUAN.name, "--accept-licence", "MIT")
    assert process(tmp_path, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("wgp: no licence is called 'MIT'; known are: Apache-2.0")
    assert HUNYUAN.name in error
    assert not (tmp_path / "root").exists()


def test_a_saved_queue_asks_the_root_what_was_accepted(tmp_path: Path) -> None:
    file = tmp_path / "queue.zip"
    document = {"schema": 1, "jobs": [{"id": "a", "request": ASKED, "media": {}}]}
    with zipfile.ZipFile(file, "w") as saved:
        saved.writestr("queue.json", json.dumps(document))
    assert run(tmp_path, file) == 2
    assert run(tmp_path, file, "--accept-licence", HUNYUAN.name) == 0
    assert len(list((tmp_path / "root" / "outputs").glob("*.mp4"))) == 1
