import json
import pickle
import time

import pytest
import torch
from safetensors.torch import save, save_file

from engine.errors import UnreadableFile
from engine.loading.header import TensorInfo, read_header


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.safetensors"


def with_header(header, content=b""):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def entry(begin, end, dtype="F32", shape=(1,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_tensors_and_metadata_are_read_without_their_content(file):
    tensors = {
        "a": torch.zeros(2, 3, dtype=torch.bfloat16),
        "b.weight": torch.zeros(4, dtype=torch.int8),
        "empty": torch.zeros(0),
    }
    save_file(tensors, file, metadata={"format": "pt"})
    header = read_header(file)
    assert header.tensors == {
        "a": TensorInfo("BF16", (2, 3)),
        "b.weight": TensorInfo("I8", (4,)),
        "empty": TensorInfo("F32", (0,)),
    }
    assert header.metadata == {"format": "pt"}


WHOLE = save({"a": torch.ones(1000)})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is damaged: it is empty"),
        (b"12", "it doesn't begin as a safetensors file does"),
        (b"\xff" * 7 + b"\x7f" + b"{}", "it doesn't begin as a safetensors file does"),
        (bytes(100), "it doesn't begin as a safetensors file does"),
        (pickle.dumps({"a": 1}), "a pickled PyTorch file, which could run any"),
        (b"PK\x03\x04" + bytes(50), "a pickled PyTorch file"),
        (b"GGUF" + bytes(50), "a GGUF file"),
        (b"<!DOCTYPE html><html>", "a web page: the download went wrong"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer to a file in Git"),
        (WHOLE[:-1000], "its last 0.0 MB are missing"),
        (WHOLE + b"x", "something follows its last tensor"),
        (WHOLE[:20], "it doesn't begin as a safetensors file does"),
        ((10).to_bytes(8, "little") + b'{"a": oops' + bytes(9), "its header can't be"),
        (with_header([1]), "it doesn't begin as a safetensors file does"),
        (with_header({"a": 1}), "its header can't be read"),
        (with_header({"a": {"dtype": "F32"}}), "its header can't be read"),
        (with_header({"a": entry(0, 4, "F99")}, bytes(4)), "unknown precision 'F99'"),
        (with_header({"a": entry(0, 4, shape=(-1,))}, bytes(4)), "isn't a whole num"),
        (with_header({"a": entry(0, 8)}, bytes(8)), "tensor a has the wrong size"),
        (
            with_header({"a": entry(0, 4), "b": entry(2, 6)}, bytes(6)),
            "tensor b lies in the wrong place",
        ),
        (
            with_header({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12)),
            "tensor b lies in the wrong place",
        ),
    ],
    ids=range(21),
)
def test_a_damaged_file_is_refused_at_once(file, content, said):
    file.write_bytes(content)
    began = time.monotonic()
    with pytest.raises(UnreadableFile) as caught:
        read_header(file)
    assert time.monotonic() - began < 1
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_named(file):
    with pytest.raises(UnreadableFile, match=r"can't read .*model\.safetensors: No su"):
        read_header(file)
