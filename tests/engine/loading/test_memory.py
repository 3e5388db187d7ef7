import pytest
import torch

from engine.errors import OutOfMemory
from engine.loading.memory import free_memory, out_of_memory_told
from engine.request import GenerationRequest

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
