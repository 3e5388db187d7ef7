import platform
import subprocess
import sys

import pytest
import torch

from engine.errors import OutOfMemory
from engine.loading.memory import (
    configure_allocators,
    free_memory,
    out_of_memory_told,
)
from engine.request import GenerationRequest
from tests.source_tree import ROOT

REQUEST = GenerationRequest(
    model="fake-model", prompt="a", width=640, height=480, num_frames=81
)


def allocate_too_much():
    torch.empty(1 << 60)


def raise_memory_error():
    raise MemoryError


def raise_cuda_out_of_memory():
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    "cause", [allocate_too_much, raise_memory_error, raise_cuda_out_of_memory]
)
def test_running_out_of_memory_says_with_what_and_what_to_do(cause):
    with (
        pytest.raises(
            OutOfMemory, match="out of memory on cpu with fake-model at 640x"
        ),
        out_of_memory_told(REQUEST, "cpu"),
    ):
        cause()


def test_other_errors_pass_through():
    with (
        pytest.raises(RuntimeError, match="shape") as caught,
        out_of_memory_told(REQUEST, "cpu"),
    ):
        raise RuntimeError("a shape is wrong")
    assert not isinstance(caught.value, OutOfMemory)


def test_memory_that_torch_holds_in_reserve_is_free(monkeypatch):
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (5, 80))
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda device: 30)
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda device: 10)
    assert free_memory(torch.device("cuda:0")) == 25


HEAP = """
import ctypes, sys
from pathlib import Path
from engine.loading.memory import LARGE, return_large_blocks

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def held():
    line = next(x for x in Path("/proc/self/status").open() if x.startswith("VmRSS"))
    return int(line.split()[1]) << 10

def filled(size):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    return block

if sys.argv[1] == "returned":
    return_large_blocks()
libc.free(filled(30 << 20))  # by itself, glibc keeps blocks of this size from here on
before = held()
blocks = []
for _ in range(10):
    blocks.append(filled(LARGE + (1 << 20)))
    filled(1 << 20)  # stays between two of them
assert held() - before > 10 * LARGE
for block in blocks:
    libc.free(block)
print(held() - before < 2 * LARGE)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc")
def test_large_blocks_go_back_to_the_system_when_they_are_freed():
    for way, expected in (("returned", "True"), ("kept", "False")):
        command = [sys.executable, "-c", HEAP, way]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.stdout.strip() == expected, done.stderr


GROWING = "expandable_segments:True"


@pytest.mark.parametrize(
    ("system", "release", "said", "expected"),
    [
        ("linux", "6.1.0-28-amd64", {}, GROWING),
        ("linux", "5.15.90.1-microsoft-standard-WSL2", {}, None),
        ("win32", "11", {}, None),
        ("linux", "6.1.0", {"PYTORCH_ALLOC_CONF": "backend:native"}, "backend:native"),
        ("linux", "6.1.0", {"PYTORCH_CUDA_ALLOC_CONF": "backend:native"}, None),
    ],
)
def test_a_gpus_segments_grow_where_that_works_and_nothing_else_is_said(
    system, release, said, expected, monkeypatch
):
    environment = {**said}
    monkeypatch.setattr("os.environ", environment)
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.release", lambda: release)
    monkeypatch.setattr("engine.loading.memory.return_large_blocks", lambda: None)
    configure_allocators()
    assert environment.get("PYTORCH_ALLOC_CONF") == expected
    assert environment["THP_MEM_ALLOC_ENABLE"] == "1"
