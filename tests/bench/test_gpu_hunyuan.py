"""The benchmark of Hunyuan Video runs through at tiny sizes without a GPU, so that it
doesn't fail at its first use on one."""

import subprocess
import sys

import pytest

from bench.gpu_hunyuan import COLUMNS, MODELS, measure, request_for
from tests.bare_process import run_without_ffmpeg_or_gradio
from tests.source_tree import ROOT


@pytest.mark.parametrize("run", ["stock", "resident", "24"])
@pytest.mark.parametrize("model", MODELS)
def test_every_kind_of_run_fills_the_table(model, run):
    found = measure(run, model, steps=2, tiny=True)
    assert found.keys() == set(COLUMNS)
    assert all(value >= 0 for value in found.values())


def test_it_makes_each_model_s_own_size_and_length():
    sizes = {
        model: (asked.width, asked.height, asked.num_frames)
        for model in MODELS
        for asked in [request_for(model, 3, tiny=False)]
    }
    assert sizes == {"hunyuan": (960, 544, 81), "1.5": (848, 480, 121)}


def test_it_needs_neither_ffmpeg_nor_gradio():
    printed = run_without_ffmpeg_or_gradio(
        "from bench.gpu_hunyuan import measure\n"
        "print(sorted(measure('resident', 'hunyuan', 2, tiny=True)))"
    )
    assert "denoising GiB" in printed


def test_a_run_of_its_own_process_is_a_row_of_the_table():
    command = [sys.executable, "-m", "bench.gpu_hunyuan", "--tiny", "--model", "1.5"]
    done = subprocess.run(
        [*command, "--runs", "resident", "--steps", "2"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    header, _, row = done.stdout.splitlines()
    assert header.count("|") == row.count("|")
    assert row.startswith("| resident | ")
    assert "failed" not in row
