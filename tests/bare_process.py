"""Programs where only what a GPU machine has is installed."""

import subprocess
import sys

from tests.source_tree import ROOT


def run_without_ffmpeg_or_gradio(program: str) -> str:
    """What ``program`` prints; it fails on any import of the two."""
    hidden = "import sys; sys.modules.update(imageio_ffmpeg=None, gradio=None)\n"
    command = [sys.executable, "-c", hidden + program]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
