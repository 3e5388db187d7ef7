import json
from types import SimpleNamespace

import pytest
import torch
from diffusers import LTXVideoTransformer3DModel
from safetensors.torch import load_file, save_file

from engine.errors import UnreadableFile
from engine.family import get_variant
from engine.loading.checkpoint import load_component
from engine.loading.header import TensorInfo
from engine.loading.offload import component_sizes
from engine.loading.quantised import Weight, dequantise, fold, quantise_modules
from engine.loading.resident import ResidentModel
from engine.progress import Progress
from engine.settings import Settings
from tests.authors_names import ltx_transformer
from tests.engine.loading.test_checkpoint import (
    SIZE,
    assert_same,
    randomised,
)
from tests.layout_writers import write_quanto_int8
from tests.tiny_wan import write_tiny_wan

KIND = LTXVideoTransformer3DModel


def quantise(weight):
    """Each row in 256 steps, as quanto does it; the scale in bfloat16."""
    scale = (weight.abs().amax(dim=1, keepdim=True) / 127).to(torch.bfloat16)
    data = (weight / scale.float()).round().clamp(-128, 127).to(torch.int8)
    return data, scale


@pytest.fixture(scope="module")
def transformer():
    return make_transformer()


def make_transformer():
    network = KIND(
        in_channels=8,
        out_channels=8,
        cross_attention_dim=32,
        caption_channels=32,
        **SIZE,
    )
    return randomised(network)


@pytest.fixture(scope="module")
def file(transformer, tmp_path_factory):
    file = tmp_path_factory.mktemp("int8") / "ltxv_quanto_bf16_int8.safetensors"
    return write_int8(transformer, file)


def write_int8(transformer, file):
    """As mmgp writes it: the blocks' linear layers in 8 bits, the authors' names."""
    tensors, quantised = {}, {}
    for name, tensor in ltx_transformer(transformer).items():
        if not (name.startswith("transformer_blocks.") and tensor.ndim == 2) or (
            name.endswith("scale_shift_table")
        ):
            tensors[name] = tensor.to(torch.bfloat16)
            continue
        module = name.removesuffix(".weight")
        tensors[f"{name}._data"], tensors[f"{name}._scale"] = quantise(tensor)
        tensors[f"{module}.input_scale"] = torch.ones(())
        tensors[f"{module}.output_scale"] = torch.ones(())
        quantised[module] = {"weights": "qint8", "activations": "none"}
    save_file(tensors, file, metadata={"quantization_map": json.dumps(quantised)})
    return file


def test_parts_are_folded_into_the_weight_they_stand_for():
    tensors = {
        "a.weight._data": TensorInfo("I8", (4, 8)),
        "a.weight._scale": TensorInfo("BF16", (4, 1)),
        "a.input_scale": TensorInfo("BF16", ()),
        "a.output_scale": TensorInfo("BF16", ()),
        "a.bias": TensorInfo("BF16", (4,)),
        "b.weight": TensorInfo("BF16", (2, 2)),
    }
    assert fold(tensors) == {
        "a.weight": Weight(
            TensorInfo("I8", (4, 8)), "a.weight._data", "a.weight._scale"
        ),
        "a.bias": Weight(TensorInfo("BF16", (4,)), "a.bias"),
        "b.weight": Weight(TensorInfo("BF16", (2, 2)), "b.weight"),
    }


def test_rounding_is_half_a_step_of_its_row_at_most():
    weight = torch.randn(16, 32) * torch.logspace(-3, 3, 16)[:, None]
    data, scale = quantise(weight)
    error = (dequantise(data, scale) - weight).abs()
    # The scale itself is rounded to bfloat16, so a row's largest value may be cut.
    assert (error <= scale.float() / 2 + weight.abs() * 2**-8).all()


def test_in_full_precision_weights_are_plain_and_within_their_rounding(
    transformer, file
):
    loaded = load_component(KIND, file, "float32", SIZE)
    originals = transformer.state_dict()
    stored = load_file(file)
    quantised = 0
    for name, tensor in loaded.state_dict().items():
        assert type(tensor) is torch.Tensor
        assert tensor.dtype == torch.float32
        original = originals[name]
        if f"{name}._data" in stored:
            quantised += 1
            step = stored[f"{name}._scale"].float()
            assert ((tensor - original).abs() <= step).all(), name
        else:
            assert torch.allclose(tensor, original, rtol=2**-8, atol=0), name
    assert quantised > 10
    assert {type(m) for m in loaded.modules() if hasattr(m, "in_features")} == {
        torch.nn.Linear
    }


def test_in_half_precision_weights_stay_in_8_bits(file):
    from optimum.quanto.nn import QLinear

    full = load_component(KIND, file, "float32", SIZE)
    loaded = load_component(KIND, file, "bfloat16", SIZE)
    layers = {n: m for n, m in loaded.named_modules() if isinstance(m, QLinear)}
    assert layers.keys() == loaded._quanto_map.keys()
    assert len(layers) > 10
    for name, layer in layers.items():
        plain = full.get_submodule(name).weight
        assert layer.weight._data.dtype == torch.int8
        assert layer.weight.dtype == torch.bfloat16
        assert torch.equal(layer.weight._data * layer.weight._scale.float(), plain)
        if layer.bias is not None:
            assert layer.bias.dtype == torch.bfloat16
        assert layer.weight._data.data_ptr() % 64 == 0
    for name, parameter in loaded.named_parameters():
        assert parameter.device.type == "cpu", name
        assert not parameter.requires_grad


def test_8_bit_weights_count_as_8_bits(file):
    full = load_component(KIND, file, "float32", SIZE)
    small = load_component(KIND, file, "bfloat16", SIZE)

    def size(network):
        return component_sizes(SimpleNamespace(components={"transformer": network}))

    assert size(small)["transformer"] < 0.4 * size(full)["transformer"]


def test_what_is_computed_in_8_bits_is_what_the_plain_weights_give(file):
    from optimum.quanto.nn import QLinear

    full = load_component(KIND, file, "float32", SIZE)
    loaded = load_component(KIND, file, "bfloat16", SIZE)
    # 32 inputs: with another number the CPU's kernel may crash.
    inputs = torch.randn(5, 32, dtype=torch.bfloat16)
    name = next(n for n, m in loaded.named_modules() if isinstance(m, QLinear))
    with torch.no_grad():
        expected = full.get_submodule(name)(inputs.float())
        error = loaded.get_submodule(name)(inputs).float() - expected
    assert error.norm() < 0.01 * expected.norm()


def test_layers_are_replaced_before_they_have_weights(file):
    from accelerate import init_empty_weights
    from optimum.quanto.nn import QLinear

    with init_empty_weights():
        network = torch.nn.Sequential(torch.nn.Linear(32, 4), torch.nn.Linear(32, 4))
    quantise_modules(network, ["1.weight"])
    assert type(network[0]) is torch.nn.Linear
    assert type(network[1]) is QLinear


def test_a_weight_without_its_scale_is_missing(transformer, file, tmp_path):
    tensors = load_file(file)
    tensors.pop("transformer_blocks.0.attn1.to_q.weight._scale")
    damaged = tmp_path / "damaged.safetensors"
    save_file(tensors, damaged)
    with pytest.raises(UnreadableFile, match=r"lacks transformer_blocks\.0\.attn1\.to"):
        load_component(KIND, damaged, "float32", SIZE)


def test_plain_files_have_no_8_bit_layers(transformer, tmp_path):
    file = tmp_path / "plain.safetensors"
    save_file(ltx_transformer(transformer), file)
    assert_same(transformer, load_component(KIND, file, "float32", SIZE))
    assert not hasattr(load_component(KIND, file, "bfloat16", SIZE), "_quanto_map")


def test_a_cpu_never_computes_from_8_bits(tmp_path, monkeypatch):
    """Its int8 kernel crashes on some shapes, such as 24 inputs."""
    root = tmp_path / "root"
    folder = write_tiny_wan(root / "ckpts" / "demo" / "wan") / "transformer"
    plain = folder / "diffusion_pytorch_model.safetensors"
    stored = load_file(plain)
    plain.unlink()
    write_quanto_int8(stored, folder)

    def crash(*arguments):
        raise AssertionError("the kernel that crashes")

    monkeypatch.setattr(torch, "_weight_int8pack_mm", crash)
    resident = ResidentModel(Settings(root=root, gpu="cpu"))
    pipeline = resident.get(get_variant("wan-demo"), Progress("test")).pipeline
    layers = [m for m in pipeline.transformer.modules() if hasattr(m, "in_features")]
    assert {type(layer) for layer in layers} == {torch.nn.Linear}
    assert {layer.weight.dtype for layer in layers} == {torch.float32}
    layer = pipeline.transformer.blocks[0].attn1.to_q
    assert layer.in_features % 32
    layer(torch.ones(1, layer.in_features))
