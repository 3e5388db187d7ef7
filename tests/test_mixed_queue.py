"""One queue of all three families runs to its end, and each model is freed before the
next."""

import json
import subprocess
import sys

import pytest

from tests.source_tree import ROOT

pytestmark = [
    pytest.mark.demo,
    pytest.mark.skipif(sys.platform == "win32", reason="asks the system for the peak"),
]

RUN = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Prints the memory of the largest process that the command has started."""

LARGEST = "hyvideo-demo"


def peak(folder, models):
    """Of the worker that makes a video with each of ``models``."""
    folder.mkdir()
    jobs = [
        {
            "model": model,
            "prompt": "a red ball moving left on grass at day",
            "num_inference_steps": 2,
        }
        for model in models
    ]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    words = ["wgp.py", "--process", folder / "jobs.json", "--output-dir", folder]
    done = subprocess.run(
        [sys.executable, "-c", RUN, sys.executable, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(folder.glob("*.mp4"))) == len(models)
    return int(done.stdout)


def test_a_queue_of_three_families_takes_no_more_than_the_largest_model(tmp_path):
    alone = peak(tmp_path / "alone", [LARGEST])
    mixed = ["wan-demo", LARGEST, "ltxv-demo", LARGEST]
    assert peak(tmp_path / "mixed", mixed) < 1.1 * alone
