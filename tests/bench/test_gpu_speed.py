"""The benchmark runs through at tiny sizes without a GPU, so that it doesn't fail at
its first use on one."""

import json

import pytest
import torch

from bench import gpu_speed
from bench.gpu_speed import main
from bench.speed_networks import CASES
from tests.bare_process import run_without_ffmpeg_or_gradio


def rows(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def run(tmp_path, *arguments):
    out = tmp_path / "rows.jsonl"
    main([*arguments, "--tiny", "--repeats", "1", "--out", str(out)])
    return rows(out)


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch):
    monkeypatch.setattr(gpu_speed, "compile_blocks", lambda *_: None)


@pytest.mark.parametrize("case", CASES)
def test_the_app_s_ways_stand_beside_stock_diffusers(case, tmp_path):
    stock, compiled, fp8 = run(
        tmp_path, "forward", "--case", case, "--rows", "compiled", "fp8"
    )
    assert stock["cosine"] == 1
    assert compiled["cosine"] > 0.999
    assert compiled["faster"] == pytest.approx(stock["seconds"] / compiled["seconds"])
    assert "they need an NVIDIA GPU" in fp8["failed"]


def test_streaming_gives_what_the_resident_model_gives(tmp_path):
    found = run(tmp_path, "caps", "--caps", "8", "4")
    measured = {row["row"]: row for row in found if "cosine" in row}
    assert list(measured) == [
        "resident",
        "streamed, 8 GiB, 1 chunks",
        "streamed, 4 GiB, 1 chunks",
    ]
    assert all(row["same_bits"] for row in measured.values())


def test_a_cap_that_is_too_low_is_a_row_and_chunks_are_tried(tmp_path, monkeypatch):
    calls = []

    def timed(run, repeats):
        calls.append(run)
        if len(calls) == 2:
            raise torch.OutOfMemoryError
        return real(run, repeats)

    real = gpu_speed.timed
    monkeypatch.setattr(gpu_speed, "timed", timed)
    found = run(tmp_path, "caps", "--caps", "4")
    assert [(row["row"], row.get("failed")) for row in found[2:]] == [
        ("streamed, 4 GiB, 1 chunks", "out of memory"),
        ("streamed, 4 GiB, 8 chunks", None),
    ]


def test_other_pieces_fill_their_rows(tmp_path, monkeypatch):
    ways = dict(list(gpu_speed.VAE_WAYS.items())[1:4])
    monkeypatch.setattr(gpu_speed, "VAE_WAYS", ways)
    assert [row["row"] for row in run(tmp_path, "vae")] == list(ways)
    found = run(tmp_path, "attention")[len(ways) :]
    assert found[0]["row"] == "sdpa"
    assert {"flash3", "flash3-fp8"} <= {row["row"] for row in found if "failed" in row}
    assert run(tmp_path, "peers")[-1]["row"] == "stock, resident"


def test_it_needs_neither_ffmpeg_nor_gradio():
    printed = run_without_ffmpeg_or_gradio(
        "from bench.gpu_speed import main\n"
        "main(['attention', '--tiny', '--repeats', '1'])"
    )
    assert "| attention | sdpa | seconds" in printed
