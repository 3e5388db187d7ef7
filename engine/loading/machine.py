"""What memory this machine has, asked without torch, for the app's own process."""

from __future__ import annotations

import re
import subprocess

from engine.settings import Settings

MIB = 1 << 20

ANSWER_SECONDS = 10.0


def machine_memory(settings: Settings) -> tuple[int | None, int]:
    """Bytes free on the GPU that ``settings`` choose (``None`` without one) and in
    main memory, as the worker finds them before it loads anything."""
    import psutil

    free_ram = int(psutil.virtual_memory().available)
    chosen = re.fullmatch(r"(?:cuda(?::(\d+))?)?", settings.gpu)
    if chosen is None:  # the CPU, or another kind of device
        return None, free_ram
    return _free_vram(int(chosen[1] or 0)), free_ram


def _free_vram(index: int) -> int | None:
    command = ["nvidia-smi", "--query-gpu=memory.free"]
    command += ["--format=csv,noheader,nounits", f"--id={index}"]
    try:
        said = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            check=True,
        )
        return int(said.stdout) * MIB
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
