"""Seconds from ``python wgp.py`` to a page that answers, five starts on a fresh root:
``python -m bench.cpu_page_start``."""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
STARTS = 5


def main() -> None:
    seconds = [start_once() for _ in range(STARTS)]
    listed = ", ".join(f"{each:.2f}" for each in seconds)
    print(f"page answers after {statistics.median(seconds):.2f} s (of {listed})")


def start_once() -> float:
    with tempfile.TemporaryDirectory(prefix="wgp-") as root:
        began = time.perf_counter()
        command = [sys.executable, "wgp.py", "--root", root, "--server-port", "0"]
        with subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.PIPE, text=True
        ) as app:
            assert app.stdout is not None
            address = next(line for line in app.stdout if line.startswith("Open "))
            urllib.request.urlopen(f"{address.split()[1]}/config").read()
            seconds = time.perf_counter() - began
            app.send_signal(signal.SIGTERM)
            app.wait(timeout=30)
    return seconds


if __name__ == "__main__":
    main()
