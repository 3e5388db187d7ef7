import subprocess
import sys

from engine.settings import PROJECT
from tests.engine.lora.networks import NETWORKS


def test_mmgp_gives_what_peft_gives_and_leaves_nothing_behind(tmp_path):
    program = [sys.executable, "-m", "tests.engine.lora.mmgp_program", str(tmp_path)]
    done = subprocess.run(
        program, capture_output=True, text=True, check=False, cwd=PROJECT
    )
    assert done.returncode == 0, done.stderr
    titles = [*NETWORKS, "ltx_video, int8"]
    expected = [f"{title}, profile {n}: same" for title in titles for n in "12345"]
    # mmgp itself prints too where memory is short.
    told = [line for line in done.stdout.splitlines() if line.startswith(tuple(titles))]
    assert told == expected
