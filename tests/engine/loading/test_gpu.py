import subprocess

import pytest

from engine.loading import gpu


@pytest.fixture
def driver(monkeypatch):
    """Lets nvidia-smi answer this; asks anew."""

    def driver(answer):
        def run(command, **_):
            if isinstance(answer, Exception):
                raise answer
            return subprocess.CompletedProcess(command, 0, answer, "")

        monkeypatch.setattr(gpu.subprocess, "run", run)
        gpu.gpu_bytes.cache_clear()

    yield driver
    gpu.gpu_bytes.cache_clear()


def test_each_gpu_has_its_own_memory(driver):
    driver("12288\n24564\n")
    assert gpu.gpu_bytes("") == gpu.gpu_bytes("cuda") == gpu.gpu_bytes("cuda:0")
    assert gpu.gpu_bytes("") == 12288 << 20
    assert gpu.gpu_bytes("cuda:1") == 24564 << 20
    assert gpu.gpu_bytes("cuda:2") is None


@pytest.mark.parametrize(
    "answer",
    [
        FileNotFoundError("nvidia-smi"),
        subprocess.TimeoutExpired("nvidia-smi", 5),
        "",
        "[N/A]\n",
    ],
)
def test_without_an_answer_nothing_is_known(driver, answer):
    driver(answer)
    assert gpu.gpu_bytes("") is None


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_are_not_asked_for(driver, device):
    driver(AssertionError("asked"))
    assert gpu.gpu_bytes(device) is None
