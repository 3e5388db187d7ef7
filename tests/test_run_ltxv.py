"""The smallest script: one LTX video with one command."""

import subprocess
import sys
from pathlib import Path

import pytest

from engine.media.metadata import read_request
from engine.media.video import probe
from tests.source_tree import ROOT
from tests.tiny_ltx import write_tiny_ltx


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A data root with a tiny model where the demo model lies."""
    root = tmp_path_factory.mktemp("root")
    write_tiny_ltx(root / "ckpts" / "demo" / "ltx_video")
    return root


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "run_ltxv.py", *arguments, "--root", root],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )


SMALL = ("--model", "ltxv-demo", "--width", "96", "--height", "64")


def test_one_command_makes_a_video(root):
    done = run(root, "a red ball", *SMALL, "--num-frames", "9")
    assert done.returncode == 0, done.stderr
    video = root / "output" / "output.mp4"
    info = probe(video)
    assert (info.width, info.height, info.num_frames) == (96, 64, 9)
    request = read_request(video)
    assert (request.model, request.prompt, request.seed) == (
        "ltxv-demo",
        "a red ball",
        42,
    )


def test_it_prints_phase_step_and_time(root):
    done = run(root, "a ball", *SMALL, "--num-frames", "9", "--output", "b.mp4")
    lines = done.stdout.splitlines()
    assert all(line.startswith("[") and " s] " in line for line in lines)
    told = [line.split("] ", 1)[1] for line in lines]
    assert "Loading the transformer" in told
    assert any(line.startswith("step 8/8, ") for line in told)
    assert told[-1] == "Writing the file"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["", *SMALL], "prompt: is empty"),
        (["a ball", *SMALL, "--num-frames", "10"], "num_frames: 10 isn't 8k + 1"),
        (["a ball", "--model", "ltxv-99b"], "no model is called 'ltxv-99b'"),
    ],
)
def test_a_mistake_is_one_sentence(root, arguments, said):
    done = run(root, *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("run_ltxv: ")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_it_is_short():
    assert len((ROOT / "run_ltxv.py").read_text().splitlines()) <= 40
