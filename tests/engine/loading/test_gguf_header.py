import struct

import gguf
import pytest
import torch

from engine.errors import UnreadableFile
from engine.loading.gguf_header import DTYPES, SIZES, read_gguf_header
from engine.loading.gguf_tensors import open_gguf, to_numbers
from engine.loading.header import TensorInfo
from tests.layout_writers import write_gguf_file


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return {
        "patch_embedding.weight": torch.randn(8, 4, 1, 2, 2),
        "blocks.0.q.weight": torch.randn(16, 64),
        "blocks.0.q.bias": torch.randn(16),
    }


def test_names_shapes_and_precisions_are_read(tmp_path, tensors):
    file = tmp_path / "model.gguf"
    write_gguf_file(tensors, file, "Q8_0")
    header = read_gguf_header(file)
    assert header.container == "gguf"
    assert header.metadata["general.architecture"] == "video"
    assert header.tensors == {
        "patch_embedding.weight": TensorInfo("F32", (8, 4, 1, 2, 2)),
        "blocks.0.q.weight": TensorInfo("Q8_0", (16, 64)),
        "blocks.0.q.bias": TensorInfo("F32", (16,)),
    }


def test_precisions_are_those_that_diffusers_unpacks():
    from diffusers.quantizers.gguf.utils import SUPPORTED_GGUF_QUANT_TYPES

    kinds = gguf.GGMLQuantizationType
    unpacked = {kind.name for kind in SUPPORTED_GGUF_QUANT_TYPES} | {"F32", "F16"}
    assert set(DTYPES.values()) == unpacked == set(SIZES)
    for number, name in DTYPES.items():
        assert kinds(number).name == name
        assert gguf.GGML_QUANT_SIZES[kinds(number)] == SIZES[name]


@pytest.mark.parametrize("precision", ["Q8_0", "Q5_1", "Q4_0"])
def test_packed_weights_are_unpacked_as_the_packages_own_code_does(
    tmp_path, tensors, precision
):
    file = tmp_path / "model.gguf"
    write_gguf_file(tensors, file, precision)
    found = open_gguf(file)["blocks.0.q.weight"]
    kind = gguf.GGMLQuantizationType[precision]
    expected = torch.from_numpy(gguf.quants.dequantize(found.data, kind))
    torch.testing.assert_close(to_numbers(found), expected, rtol=2e-3, atol=2e-3)


def test_values_of_every_kind_are_passed_over(tmp_path):
    file = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(str(file), "video")
    writer.add_array("words", ["a", "b"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_bool("flag", True)
    writer.add_float64("large", 1.5)
    writer.add_tensor("x", torch.ones(4).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_gguf_header(file)
    assert header.tensors == {"x": TensorInfo("F32", (4,))}
    assert header.metadata["words"] == "['a', 'b']"
    assert header.metadata["numbers"] == "[1, 2, 3]"


def entry(name, *values):
    return struct.pack("<Q", len(name)) + name + b"".join(values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (entry(b"a", struct.pack("<I", 77)), "a value of unknown kind 77"),
        (entry(b"a", struct.pack("<IIQ", 9, 0, 1 << 60)), "it is too long"),
        (entry(b"a", struct.pack("<IIQ", 9, 8, 1 << 60)), "a value of unknown kind 8"),
        (entry(b"\xff", struct.pack("<I", 8)), "utf-8"),
    ],
)
def test_damaged_values_are_refused(tmp_path, values, said):
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + values + bytes(64))
    with pytest.raises(UnreadableFile, match=said):
        read_gguf_header(file)
