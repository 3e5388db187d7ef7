"""Every command of the README, and every example of the docs, is run here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.media.metadata import read_request
from tests.documents import COMMAND_LINE, DOCS, all_code, blocks, read
from tests.source_tree import ROOT

MAKE_TARGETS = {"run", "demo", "test", "check", "bench", "bench-gpu", "screenshots"}

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make isn't here")


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload]
        command, cwd=ROOT, capture_output=True, text=True, check=False, **options
    )


@needs_make
def test_make_targets_are_the_documented_ones() -> None:
    documented = {
        target
        for file in DOCS
        for target in re.findall(r"\bmake ([a-z][a-z-]+)", "\n".join(all_code(file)))
    }
    assert documented == MAKE_TARGETS
    for target in MAKE_TARGETS:
        assert run("make", "-n", target).returncode == 0, target


def recipe(target: str) -> list[list[str]]:
    """The commands of a make target that start the app's Python, without it."""
    done = run("make", "--silent", "-n", target, "VENV=.venv")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    return [
        words[1:]
        for words in lines
        if words[:1] == [".venv/bin/python"] and words[1:3] != ["-m", "pip"]
    ]


def check_page_is_served(arguments: list[str], folder: Path) -> None:
    assert arguments == ["wgp.py"]
    command = [sys.executable, "wgp.py", "--server-port", "0", "--root", str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as app:
        try:
            assert app.stdout is not None
            address = _address(app.stdout)
            assert b"gradio" in _get(address)
        finally:
            app.terminate()


def _address(lines: object) -> str:
    said = []
    for line in lines:  # type: ignore[attr-defined]
        said.append(line)
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found:
            return found[0]
    raise AssertionError("no address was printed:\n" + "".join(said))


def _get(address: str, seconds: float = 30) -> bytes:
    ends = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return bytes(answer.read())
        except urllib.error.URLError:
            if time.monotonic() > ends:
                raise
            time.sleep(0.2)


@pytest.mark.browser
def test_plain_start_serves_the_page(tmp_path: Path) -> None:
    check_page_is_served(["wgp.py"], tmp_path)


@needs_make
@pytest.mark.browser
def test_make_run_serves_the_page(tmp_path: Path) -> None:
    (arguments,) = recipe("run")
    check_page_is_served(arguments, tmp_path)


def check_videos(folder: Path, prompts: list[str]) -> None:
    made = [read_request(video).prompt for video in sorted(folder.glob("*.mp4"))]
    assert sorted(made) == sorted(prompts)


def prompts_of(example: str) -> list[str]:
    data = json.loads(read(example))
    return [item["prompt"] for item in (data if isinstance(data, list) else [data])]


@needs_make
@pytest.mark.demo
def test_make_demo_makes_a_video_and_a_contact_sheet(tmp_path: Path) -> None:
    first, second = recipe("demo")
    assert first[-2:] == ["--output-dir", "outputs/demo"]
    assert second[-1] == "outputs/demo"
    done = run(sys.executable, *first[:-1], str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(sys.executable, *second[:-1], str(tmp_path))
    assert done.returncode == 0, done.stderr
    video, picture = map(Path, done.stdout.splitlines())
    assert video.parent == picture.parent == tmp_path
    assert picture.read_bytes().startswith(b"\x89PNG")
    check_videos(tmp_path, prompts_of("docs/examples/demo.json"))


@pytest.mark.demo
@pytest.mark.parametrize("example", ["demo", "three"])
def test_example_file_is_processed(example: str, tmp_path: Path) -> None:
    file = f"docs/examples/{example}.json"
    done = run(
        *(sys.executable, "wgp.py", "--process", file, "--output-dir", str(tmp_path))
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""  # no library talks beside the app
    check_videos(tmp_path, prompts_of(file))


@pytest.mark.demo
def test_script_of_the_docs_makes_a_video(tmp_path: Path) -> None:
    (script,) = blocks(read(COMMAND_LINE), "python")
    elsewhere = script.replace(
        'snow"}',
        f'snow"}}, output=__import__("pathlib").Path({str(tmp_path / "a.mp4")!r})',
    )
    assert elsewhere != script
    done = run(sys.executable, "-c", elsewhere)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip().splitlines()[-1]) == tmp_path / "a.mp4"
    assert read_request(tmp_path / "a.mp4").model == "wan-demo"


@pytest.mark.demo
def test_ltx_script_makes_a_video(tmp_path: Path) -> None:
    prompt, output = "a red ball moving left on grass at day", tmp_path / "a.mp4"
    done = run(
        *(sys.executable, "run_ltxv.py", prompt, "--model", "ltxv-demo"),
        *("--output", str(output)),
    )
    assert done.returncode == 0, done.stderr
    assert read_request(output).prompt == prompt


def test_virtual_environment_can_be_made(tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "venv/bin/activate").exists() or os.name == "nt"


def test_requirements_are_complete_and_agree(tmp_path: Path) -> None:
    """With the network shut, pip finds everything installed that the pins call for."""
    done = run(
        *(sys.executable, "-m", "pip", "install", "--dry-run", "--no-index"),
        *("-r", "requirements.txt", "--disable-pip-version-check"),
        env={**os.environ, "PIP_CONFIG_FILE": os.devnull},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Would install" not in done.stdout


COMMANDS_OF_README: dict[str, Callable[..., None]] = {
    "make run": test_make_run_serves_the_page,
    "make demo": test_make_demo_makes_a_video_and_a_contact_sheet,
    "python -m venv .venv": test_virtual_environment_can_be_made,
    ". .venv/bin/activate": test_virtual_environment_can_be_made,
    "pip install -r requirements.txt": test_requirements_are_complete_and_agree,
    "python wgp.py": test_plain_start_serves_the_page,
    "python wgp.py --process docs/examples/demo.json": test_example_file_is_processed,
    "python wgp.py --process docs/examples/three.json": test_example_file_is_processed,
    'python run_ltxv.py "a red ball moving left on grass at day" --model ltxv-demo': (
        test_ltx_script_makes_a_video
    ),
}


def test_every_command_of_the_readme_is_run_by_a_test() -> None:
    text = read("README.md")
    listed = [line for block in blocks(text, "sh") for line in block.splitlines()]
    inline = re.findall(r"`((?:make|python|pip) [^`]+)`", text)
    assert set(listed) | set(inline) == set(COMMANDS_OF_README)
