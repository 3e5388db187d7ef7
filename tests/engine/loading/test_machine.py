import subprocess

import pytest

from engine.loading import machine
from engine.settings import Settings

MIB = {
    "--query-gpu=memory.total": {"0": "12288", "1": "24564"},
    "--query-gpu=memory.free": {"0": "11000", "1": "600"},
}


def as_a_driver(command, **_):
    """Answers as nvidia-smi does."""
    _, query, chosen, _ = command
    index = chosen.removeprefix("--id=")
    if index not in MIB[query]:
        raise subprocess.CalledProcessError(6, command)
    return subprocess.CompletedProcess(command, 0, MIB[query][index] + "\n", "")


@pytest.fixture
def driver(monkeypatch):
    """Lets nvidia-smi answer this, or as it does; asks anew."""

    def driver(answer=as_a_driver):
        def run(command, **options):
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, str):
                return subprocess.CompletedProcess(command, 0, answer, "")
            return answer(command, **options)

        monkeypatch.setattr(machine.subprocess, "run", run)
        machine.gpu_bytes.cache_clear()

    yield driver
    machine.gpu_bytes.cache_clear()


def test_each_gpu_has_its_own_memory(driver):
    driver()
    for first in ("", "cuda", "cuda:0"):
        assert machine.gpu_bytes(first) == 12288 << 20
        assert machine.machine_memory(Settings(gpu=first))[0] == 11000 << 20
    assert machine.gpu_bytes("cuda:1") == 24564 << 20
    assert machine.machine_memory(Settings(gpu="cuda:1"))[0] == 600 << 20
    assert machine.gpu_bytes("cuda:2") is None


@pytest.mark.parametrize(
    "answer",
    [
        FileNotFoundError("nvidia-smi"),
        subprocess.TimeoutExpired("nvidia-smi", 5),
        "",
        "[N/A]\n",
    ],
)
def test_without_an_answer_nothing_is_known_of_the_gpu(driver, answer):
    driver(answer)
    assert machine.gpu_bytes("") is None
    vram, ram = machine.machine_memory(Settings(gpu=""))
    assert vram is None
    assert ram > 0


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_are_not_asked_for(driver, device):
    driver(AssertionError("asked"))
    assert machine.gpu_bytes(device) is None
    assert machine.machine_memory(Settings(gpu=device))[0] is None
