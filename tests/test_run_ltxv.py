"""The smallest script: one LTX video with one command."""

import os
import signal
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
        (["a ball", "--model", "hunyuan-video-t2v"], "--accept-licence"),
    ],
)
def test_a_mistake_is_one_sentence(root, arguments, said):
    done = run(root, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("run_ltxv: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_video_that_fails_is_one_sentence(root):
    damaged = root / "damaged"
    write_tiny_ltx(damaged / "ckpts" / "demo" / "ltx_video")
    vae = damaged / "ckpts/demo/ltx_video/vae/diffusion_pytorch_model.safetensors"
    vae.write_bytes(b"not weights")
    done = run(damaged, "a ball", *SMALL, "--num-frames", "9")
    assert done.returncode == 1
    assert done.stderr.startswith("run_ltxv: ")
    assert "is damaged" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(damaged.rglob("*.mp4*"))


def test_an_interrupt_leaves_no_file(root):
    output = root / "interrupted"
    steps = ("--num-inference-steps", "60", "--output", output / "a.mp4")
    command = [sys.executable, ROOT / "run_ltxv.py", "a ball", *SMALL, *steps]
    with subprocess.Popen(
        [*command, "--num-frames", "81", "--root", root],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": ""},  # lines come as they are made
    ) as running:
        assert running.stdout and running.stderr
        next(line for line in running.stdout if "step 2/60" in line)
        running.send_signal(signal.SIGINT)
        running.stdout.read()
        assert running.stderr.read() == "run_ltxv: interrupted\n"
    assert running.returncode == 130
    assert not [path for path in output.rglob("*") if path.is_file()]


def test_it_is_short():
    assert len((ROOT / "run_ltxv.py").read_text().splitlines()) <= 40
