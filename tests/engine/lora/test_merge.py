"""A LoRA that makes a checkpoint another model is added to its weights."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from engine.errors import UnreadableFile
from engine.loading.quantised import quantise_modules
from engine.lora.merge import merge_lora


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.proj_in = nn.Linear(32, 16, bias=False)
        self.block = nn.ModuleDict({"to_q": nn.Linear(32, 32)})


def tensors(prefix="diffusion_model.", down="lora_A", up="lora_B"):
    torch.manual_seed(1)
    return {
        f"{prefix}patchify_proj.{down}.weight": torch.randn(4, 32),
        f"{prefix}patchify_proj.{up}.weight": torch.randn(16, 4),
        f"{prefix}block.to_q.{down}.weight": torch.randn(2, 32),
        f"{prefix}block.to_q.{up}.weight": torch.randn(32, 2),
    }


@pytest.mark.parametrize(
    "names", [("diffusion_model.", "lora_A", "lora_B"), ("", "lora_down", "lora_up")]
)
def test_the_change_is_added(tmp_path, names):
    network, file = Network(), tmp_path / "lora.safetensors"
    before = network.proj_in.weight.clone()
    made = tensors(*names)
    save_file(made, file)
    merge_lora(network, file, "ltx_video")
    down, up = (made[f"{names[0]}patchify_proj.{n}.weight"] for n in names[1:])
    torch.testing.assert_close(network.proj_in.weight, before + up @ down)
    assert not network.proj_in.weight.requires_grad


def test_alpha_scales_the_change(tmp_path):
    network, file = Network(), tmp_path / "lora.safetensors"
    before = network.block["to_q"].weight.clone()
    made = tensors()
    made["diffusion_model.block.to_q.alpha"] = torch.tensor(1.0)
    save_file(made, file)
    merge_lora(network, file, "ltx_video")
    down = made["diffusion_model.block.to_q.lora_A.weight"]
    up = made["diffusion_model.block.to_q.lora_B.weight"]
    expected = before + up @ down * 0.5
    torch.testing.assert_close(network.block["to_q"].weight, expected)


def test_8_bit_layers_stay_in_8_bits(tmp_path):
    network, file = Network(), tmp_path / "lora.safetensors"
    weight = network.block["to_q"].weight.detach().clone()
    quantise_modules(network, ["block.to_q.weight"])
    network.block["to_q"].freeze()
    made = tensors()
    save_file(made, file)
    merge_lora(network, file, "ltx_video")
    down = made["diffusion_model.block.to_q.lora_A.weight"]
    up = made["diffusion_model.block.to_q.lora_B.weight"]
    merged = network.block["to_q"].weight
    assert merged.qtype.name == "qint8"
    assert merged._data.dtype == torch.int8
    expected = weight + up @ down
    off = (merged.dequantize() - expected).abs().amax(1) / expected.abs().amax(1)
    assert float(off.max()) < 0.012


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"diffusion_model.other.lora_A.weight": (2, 8)},
            "1: the model has no such layer",
        ),
        ({"diffusion_model.block.weight": (2, 2)}, "a whole weight, not a change"),
        (
            {
                "diffusion_model.other.lora_A.weight": (2, 8),
                "diffusion_model.other.lora_B.weight": (8, 2),
            },
            "2: the model has no such layer",
        ),
        (
            {"diffusion_model.block.to_q.lora_B.weight": (16, 2)},
            "it changes 16×32 where the model has 32×32",
        ),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_changed(tmp_path, change, said):
    network, file = Network(), tmp_path / "lora.safetensors"
    before = network.proj_in.weight.clone()
    save_file(tensors() | {name: torch.ones(s) for name, s in change.items()}, file)
    with pytest.raises(UnreadableFile, match=said):
        merge_lora(network, file, "ltx_video")
    assert torch.equal(network.proj_in.weight, before)


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "lora.safetensors").write_bytes(b"<html>")
    with pytest.raises(UnreadableFile, match=r"lora\.safetensors"):
        merge_lora(Network(), tmp_path / "lora.safetensors", "ltx_video")
